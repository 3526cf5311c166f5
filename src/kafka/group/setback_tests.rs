//! Refusals: every retry pauses, and what lasts is known with its cause.

use super::*;
use crate::kafka::protocol::offset_commit::OffsetCommitResponse;

#[test]
fn commits_that_are_refused_pause_longer_each_time() {
    for code in [7, 12, 14, 28, 99] {
        let mut bench = Bench::at_work();
        bench.intend(&[(0, 6), (1, 8)], false, false);
        let mut tried = Vec::new();
        for _ in 0..9 {
            // Heartbeats go on meanwhile.
            while !matches!(bench.next(), Step::Commit { .. }) {
                match bench.next() {
                    Step::Heartbeat { .. } => drop(bench.heartbeat(0)),
                    Step::Metadata { .. } => bench.metadata(7, 2),
                    Step::Wait { until } => bench.now = until,
                    other => panic!("{other:?}"),
                }
            }
            bench.commit(&[(0, code), (1, code)]);
            tried.push(bench.now);
        }
        let pauses: Vec<Duration> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().filter(|pause| pause.is_zero()).count() <= 2, "code {code}: {pauses:?}");
        let last = pauses.last().copied().unwrap_or_default();
        assert!(last >= Duration::from_secs(4), "code {code}: {pauses:?}");
        let failing = bench.group.failing_commits(Duration::from_secs(8)).unwrap();
        assert!(failing.report_from < bench.now + Duration::from_secs(8), "since the first refusal");
        assert!(failing.cause.contains("0, 1") && failing.cause.contains(&format!("{code}")), "{}", failing.cause);
        bench.now += Duration::from_secs(5);
        if let Step::Heartbeat { .. } = bench.next() {
            bench.heartbeat(0);
        }
        bench.commit(&[(0, 0), (1, 0)]);
        assert_eq!(bench.group.failing_commits(Duration::ZERO), None, "taken again");
    }
}

#[test]
fn commits_without_an_answer_are_failing_until_one_is_taken() {
    let mut bench = Bench::at_work();
    bench.intend(&[(0, 6)], false, false);
    let Step::Commit { partitions, .. } = bench.next() else { panic!("nothing to commit") };
    bench.group.commit_failed(&partitions, "no answer within 7s", bench.now);
    bench.group.failed(bench.now);
    assert!(bench.group.failing_commits(Duration::ZERO).is_some_and(|failing| failing.cause.contains("within 7s")));
    bench.later(RETRY_PAUSE);
    let answer = OffsetCommitResponse { partitions: vec![(0, 0)] };
    bench.group.committed(&partitions, &answer, bench.now, bench.now);
    assert_eq!(bench.group.failing_commits(Duration::ZERO), None);
}

#[test]
fn a_member_that_is_thrown_out_at_once_joins_ever_more_slowly() {
    let mut bench = Bench::at_work();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        bench.intend(&[(0, 6)], false, false);
        bench.commit(&[(0, 22)]);
        let Step::Join { .. } = bench.next() else {
            let Step::Wait { until } = bench.next() else { panic!("neither joins nor waits") };
            pauses.push(until - bench.now);
            bench.now = until;
            in_again(&mut bench);
            continue;
        };
        pauses.push(Duration::ZERO);
        in_again(&mut bench);
    }
    assert_eq!(pauses[0], Duration::ZERO, "the first time at once");
    assert!(pauses[1..].windows(2).all(|pair| pair[0] <= pair[1]) && pauses[5] >= Duration::from_secs(4), "{pauses:?}");
}

fn in_again(bench: &mut Bench) {
    bench.join(0, true);
    bench.metadata(7, 2);
    bench.sync(0, &[0, 1]);
    bench.heartbeat(0);
    bench.offsets(&[(0, 5, ""), (1, -1, "")]);
}

#[test]
fn offsets_of_a_partition_that_this_broker_does_not_know_are_not_asked_for() {
    let mut bench = Bench::new();
    bench.join(0, false);
    bench.sync(0, &[0, 2]);
    bench.heartbeat(0);
    assert!(matches!(bench.next(), Step::Metadata { .. }));
    bench.metadata(7, 2);
    assert_eq!(bench.next(), Step::Wait { until: bench.now + RETRY_PAUSE }, "its metadata are behind");
    bench.later(RETRY_PAUSE);
    assert!(matches!(bench.next(), Step::Metadata { .. }));
    bench.metadata(7, 3);
    assert_eq!(bench.next(), Step::FetchOffsets { partitions: vec![0, 1, 2] });
}
