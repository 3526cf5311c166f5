use std::collections::BTreeMap;

use super::*;
use crate::kafka::group::subscription::Subscription;
use crate::kafka::group::subscription::{TopicPartitions, decode_assignment, encode_assignment};
use crate::kafka::group::{Assignment, CommitNote, Committed};
use crate::kafka::protocol::join_group::JoinGroupResponse;
use crate::kafka::protocol::join_group::JoinedMember;
use crate::kafka::protocol::metadata::PartitionMetadata;
use crate::kafka::protocol::metadata::TopicMetadata;
use crate::kafka::protocol::offset_commit::OffsetCommitResponse;
use crate::kafka::protocol::offset_fetch::FetchedOffset;
use crate::kafka::protocol::offset_fetch::OffsetFetchResponse;
use crate::kafka::protocol::sync_group::SyncGroupResponse;

#[path = "setback_tests.rs"]
mod setback;
#[path = "topic_tests.rs"]
mod topic;

const SESSION: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(3);
const REBALANCE: Duration = Duration::from_secs(60);

struct Bench {
    group: Group,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let settings = GroupSettings {
            group_id: "g".into(),
            topic: "t".into(),
            instance_id: None,
            assignors: vec![AssignorName::Range, AssignorName::RoundRobin],
            session_timeout: SESSION,
            heartbeat_interval: INTERVAL,
            rebalance_timeout: REBALANCE,
        };
        let now = Instant::now();
        Self { group: Group::new(settings, now), now }
    }

    fn next(&mut self) -> Step {
        self.group.next(self.now)
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }

    fn heartbeat(&mut self, code: i16) -> Coordinator {
        self.group.heartbeat(code, self.now, self.now)
    }

    fn join(&mut self, error: i16, leader: bool) -> Coordinator {
        let subscription = Subscription::encode_eager(&["t"]);
        let member = JoinedMember { member_id: "m-1".into(), instance_id: None, subscription };
        let answer = JoinGroupResponse {
            error,
            generation: if error == 0 { 4 } else { -1 },
            protocol: if error == 0 { "range".into() } else { String::new() },
            leader: if leader { "m-1".into() } else { "other".into() },
            member_id: "m-1".into(),
            members: if leader { vec![member] } else { vec![] },
        };
        self.group.joined(answer, self.now, self.now)
    }

    fn metadata(&mut self, id: u128, partitions: i32) {
        self.seen(0, id, partitions);
    }

    fn seen(&mut self, error: i16, id: u128, partitions: i32) {
        let partitions =
            (0..partitions).map(|index| PartitionMetadata { error: 0, index, leader: 1, leader_epoch: 0 }).collect();
        self.group.metadata(&[TopicMetadata { error, name: "t".into(), id, partitions }], self.now);
    }

    fn sync(&mut self, error: i16, share: &[i32]) -> Coordinator {
        let assignment = encode_assignment(&TopicPartitions::from([("t".to_owned(), share.to_vec())]));
        self.group.synced(&SyncGroupResponse { error, assignment }, self.now, self.now)
    }

    fn offsets(&mut self, offsets: &[(i32, i64, &str)]) {
        let partitions = offsets
            .iter()
            .map(|(partition, offset, metadata)| FetchedOffset {
                partition: *partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: (*metadata).into(),
                error: 0,
            })
            .collect();
        self.group.offsets_fetched(&OffsetFetchResponse { error: 0, partitions }, self.now);
    }

    /// A leader of two partitions of two, one committed at 5.
    fn at_work() -> Self {
        let mut bench = Self::new();
        bench.join(0, true);
        bench.metadata(7, 2);
        bench.sync(0, &[0, 1]);
        let Step::Heartbeat { .. } = bench.next() else { panic!("the first heartbeat comes right after joining") };
        bench.heartbeat(0);
        bench.offsets(&[(0, 5, "partitions=2;topic=7"), (1, -1, "")]);
        bench
    }

    fn intend(&mut self, offsets: &[(i32, i64)], drained: bool, leave: bool) {
        let epoch = self.group.membership().epoch;
        let offsets = offsets.iter().copied().collect();
        self.group.intend(Intent { epoch, offsets, epochs: BTreeMap::new(), parts: None, drained, look: false, leave });
    }

    fn phase(&self) -> Phase {
        self.group.membership().phase
    }

    fn commit(&mut self, codes: &[(i32, i16)]) -> Coordinator {
        let Step::Commit { partitions, .. } = self.next() else { panic!("nothing to commit") };
        let answer = OffsetCommitResponse { partitions: codes.to_vec() };
        self.group.committed(&partitions, &answer, self.now, self.now)
    }
}

fn committed(step: Step) -> Vec<(i32, i64, String)> {
    match step {
        Step::Commit { partitions, identity } => {
            assert_eq!(identity, Identity { member_id: "m-1".into(), generation: 4 });
            partitions.into_iter().map(|commit| (commit.partition, commit.offset, commit.metadata)).collect()
        }
        other => panic!("not a commit: {other:?}"),
    }
}

#[test]
fn the_way_into_the_group() {
    let mut bench = Bench::new();
    assert_eq!(bench.next(), Step::Join { member_id: String::new() });
    bench.join(79, false);
    assert_eq!(bench.next(), Step::Join { member_id: "m-1".into() }, "at once, with the id it was given");
    bench.join(0, true);
    assert_eq!(bench.next(), Step::Metadata { topics: vec!["t".into()] });
    bench.metadata(7, 2);
    let Step::Sync { identity, assignments } = bench.next() else { panic!("must sync") };
    assert_eq!(identity, Identity { member_id: "m-1".into(), generation: 4 });
    let [(member, bytes)] = assignments.as_slice() else { panic!("one member") };
    assert_eq!(member, "m-1");
    assert_eq!(decode_assignment(bytes).unwrap(), TopicPartitions::from([("t".to_owned(), vec![0, 1])]));
    bench.sync(0, &[1, 0]);
    assert!(matches!(bench.phase(), Phase::Outside { .. }), "nothing is ours before the offsets are known");
    let Step::Heartbeat { .. } = bench.next() else { panic!("must live") };
    bench.heartbeat(0);
    assert_eq!(bench.next(), Step::FetchOffsets { partitions: vec![0, 1] });
    bench.offsets(&[(0, 5, "partitions=9;topic=7"), (1, -1, "")]);
    let Phase::Assigned(assignment) = bench.phase() else { panic!("must be assigned") };
    let note = CommitNote { partition_count: 9, topic_id: 7, parts: Some(Vec::new()) };
    assert_eq!(
        assignment,
        Assignment {
            generation: 4,
            topic_id: 7,
            partition_count: 2,
            known_partition_count: Some(9),
            partitions: BTreeMap::from([
                (0, Some(Committed { offset: 5, leader_epoch: -1, note: Some(note) })),
                (1, None)
            ]),
        }
    );
    assert_eq!(bench.next(), Step::Wait { until: bench.now + INTERVAL });
}

#[test]
fn a_follower_asks_for_the_partition_count_and_a_member_without_partitions_idles() {
    let mut bench = Bench::new();
    bench.join(0, false);
    assert!(matches!(bench.next(), Step::Sync { assignments, .. } if assignments.is_empty()));
    bench.group.synced(&SyncGroupResponse { error: 0, assignment: vec![] }, bench.now, bench.now);
    bench.heartbeat(0);
    assert_eq!(bench.next(), Step::Metadata { topics: vec!["t".into()] });
    bench.metadata(7, 12);
    let Phase::Assigned(assignment) = bench.phase() else { panic!("assigned, to nothing") };
    assert!(assignment.partitions.is_empty());
}

#[test]
fn a_share_beyond_the_partitions_seen_is_no_share_without_commits() {
    let mut bench = Bench::new();
    bench.join(0, false);
    let Step::Sync { .. } = bench.next() else { panic!("a follower syncs") };
    bench.sync(0, &[1, 3]);
    let Step::Heartbeat { .. } = bench.next() else { panic!("a heartbeat first") };
    bench.heartbeat(0);
    for _ in 0..3 {
        let Step::Metadata { .. } = bench.next() else { panic!("partition 3 is not seen yet") };
        bench.metadata(7, 2);
        let Step::Wait { .. } = bench.next() else { panic!("not at once") };
        bench.later(RETRY_PAUSE);
    }
    bench.metadata(7, 4);
    assert_eq!(bench.next(), Step::FetchOffsets { partitions: vec![0, 1, 2, 3] });
    bench.offsets(&[(0, 5, ""), (1, 6, ""), (2, 7, ""), (3, 8, "")]);
    let Phase::Assigned(assignment) = bench.group.membership().phase else { panic!("assigned") };
    let committed = assignment.partitions.iter().map(|(index, at)| (*index, at.as_ref().map(|at| at.offset)));
    assert_eq!(committed.collect::<Vec<_>>(), [(1, Some(6)), (3, Some(8))]);
}

#[test]
fn an_offset_is_acknowledged_by_code_0_alone() {
    let mut bench = Bench::at_work();
    let acknowledged = |bench: &Bench| bench.group.acknowledged().collect::<Vec<_>>();
    assert_eq!(acknowledged(&bench), [(0, 5)], "found; partition 1 has no commit");
    bench.intend(&[(0, 6), (1, 8)], false, false);
    bench.commit(&[(0, 12), (1, 0)]);
    assert_eq!(acknowledged(&bench), [(0, 5), (1, 8)], "an intent is no proof, and a refused commit is none");
    bench.group.failed(bench.now);
    assert_eq!(acknowledged(&bench), [(0, 5), (1, 8)], "what was acknowledged stays so");
}

#[test]
fn commits_what_is_new_and_ours_in_this_epoch() {
    let mut bench = Bench::at_work();
    bench.intend(&[(0, 5), (1, 8), (3, 9)], false, false);
    let note = "partitions=2;topic=00000000000000000000000000000007".to_owned();
    assert_eq!(committed(bench.next()), [(1, 8, note.clone())], "0 is there already, 3 is not ours");
    bench.commit(&[(1, 0)]);
    assert!(matches!(bench.next(), Step::Wait { .. }));
    bench.intend(&[(0, 6), (1, 8)], false, false);
    assert_eq!(committed(bench.next()), [(0, 6, note)]);
    bench.commit(&[(0, 12)]);
    assert_eq!(committed(bench.next()), [(0, 6, String::new())], "without the note that was too large");
    bench.commit(&[(0, 3)]);
    assert!(matches!(bench.next(), Step::Wait { .. }), "parked: the topic is gone");
    bench.metadata(7, 2);
    assert_eq!(committed(bench.next()), [(0, 6, String::new())], "the topic is there: tried again");
    bench.commit(&[(0, 29)]);
    assert!(matches!(bench.next(), Step::Wait { .. }), "parked: no right to it");
    let stale = Intent { epoch: 0, offsets: BTreeMap::from([(0, 99)]), ..Intent::default() };
    bench.group.intend(stale);
    assert!(matches!(bench.next(), Step::Wait { .. }), "offsets of another epoch are not committed");
}

#[test]
fn a_rebalance_waits_for_the_wire_and_commits_before_joining() {
    let mut bench = Bench::at_work();
    let epoch = bench.group.membership().epoch;
    bench.later(INTERVAL);
    bench.heartbeat(27);
    let Phase::Revoking { deadline, .. } = bench.phase() else { panic!("must revoke") };
    assert_eq!(deadline, bench.now + REBALANCE.mul_f64(0.7));
    assert_eq!(bench.group.membership().epoch, epoch, "what is on the wire may still be committed");
    assert_eq!(bench.next(), Step::Wait { until: bench.now + INTERVAL });
    bench.later(INTERVAL);
    assert!(matches!(bench.next(), Step::Heartbeat { .. }), "heartbeats go on while waiting");
    bench.heartbeat(27);
    bench.intend(&[(0, 6)], true, false);
    bench.commit(&[(0, 0)]);
    assert_eq!(bench.next(), Step::Join { member_id: "m-1".into() });
    assert!(matches!(bench.phase(), Phase::Outside { .. }));
    assert_eq!(bench.group.membership().epoch, epoch + 1);
}

#[test]
fn what_is_being_given_back_is_never_taken_up_again_in_its_epoch() {
    for code in [0, 7, 14, 15, 16, 22, 25, 27, 29, 30, 82] {
        let mut bench = Bench::at_work();
        let epoch = bench.group.membership().epoch;
        bench.heartbeat(27);
        bench.intend(&[(0, 6)], false, false);
        bench.group.failed(bench.now);
        bench.metadata(7, 2);
        bench.later(RETRY_PAUSE);
        bench.commit(&[(0, code)]);
        bench.heartbeat(code);
        let Membership { epoch: now, phase } = bench.group.membership();
        assert!(matches!(phase, Phase::Revoking { .. }) || now > epoch, "{code}: {phase:?}");
    }
}

#[test]
fn a_rebalance_goes_on_without_work_that_takes_too_long() {
    let mut bench = Bench::at_work();
    bench.heartbeat(27);
    for _ in 0..13 {
        bench.later(INTERVAL);
        bench.heartbeat(27);
        assert!(matches!(bench.next(), Step::Wait { .. }));
    }
    bench.later(INTERVAL);
    assert_eq!(bench.next(), Step::Join { member_id: "m-1".into() });
}

#[test]
fn what_each_fault_does_to_identity_and_assignment() {
    // heartbeat code, next member id to join with, or none when the assignment stays
    for (code, rejoins_as) in [(22, Some("m-1")), (25, Some("")), (15, None), (16, None), (14, None), (7, None)] {
        let mut bench = Bench::at_work();
        let after = bench.heartbeat(code);
        let rediscover = if matches!(code, 15 | 16) { Coordinator::Rediscover } else { Coordinator::Keep };
        assert_eq!(after, rediscover, "{code}");
        match rejoins_as {
            Some(id) => {
                assert!(matches!(bench.phase(), Phase::Outside { .. }), "{code}");
                assert_eq!(bench.next(), Step::Join { member_id: id.into() }, "{code}");
            }
            None => assert!(matches!(bench.phase(), Phase::Assigned(_)), "{code}"),
        }
    }
    for code in [22, 25] {
        let mut bench = Bench::at_work();
        bench.intend(&[(0, 6)], false, false);
        bench.commit(&[(0, code)]);
        assert!(matches!(bench.phase(), Phase::Outside { .. }), "commit {code}");
    }
    let mut bench = Bench::at_work();
    bench.intend(&[(0, 6)], false, false);
    assert_eq!(bench.commit(&[(0, 16)]), Coordinator::Rediscover);
    assert!(matches!(bench.next(), Step::Wait { .. }));
    bench.later(RETRY_PAUSE);
    assert_eq!(committed(bench.next()).len(), 1, "the same commit again, by the same identity");
}

#[test]
fn refusals_are_for_good() {
    let mut bench = Bench::new();
    bench.join(23, false);
    let Phase::Refused(refused) = bench.phase() else { panic!("must be refused") };
    assert_eq!((refused.code, refused.api), (23, "JoinGroup"));
    assert_eq!(bench.next(), Step::End);
    let mut bench = Bench::at_work();
    bench.heartbeat(82);
    assert!(matches!(bench.phase(), Phase::Refused(_)));
}

#[test]
fn a_silent_coordinator_ends_the_session() {
    let mut bench = Bench::at_work();
    for _ in 0..3 {
        bench.later(SESSION / 4);
        bench.group.failed(bench.now);
        assert!(matches!(bench.phase(), Phase::Assigned(_)), "kept until the session has expired");
    }
    bench.later(SESSION / 4);
    assert_eq!(bench.next(), Step::Join { member_id: "m-1".into() });
    assert!(matches!(bench.phase(), Phase::Outside { .. }));
}

#[test]
fn join_and_sync_try_again_as_the_table_says() {
    for (code, id, after) in
        [(14, "", Coordinator::Keep), (16, "", Coordinator::Rediscover), (25, "", Coordinator::Keep)]
    {
        let mut bench = Bench::new();
        assert_eq!(bench.join(code, false), after, "{code}");
        bench.later(RETRY_PAUSE);
        assert_eq!(bench.next(), Step::Join { member_id: id.into() }, "{code}");
    }
    for (code, id) in [(27, "m-1"), (22, "m-1"), (25, ""), (16, "m-1"), (14, "m-1")] {
        let mut bench = Bench::new();
        bench.join(0, false);
        bench.sync(code, &[]);
        bench.later(RETRY_PAUSE);
        assert_eq!(bench.next(), Step::Join { member_id: id.into() }, "{code}");
    }
    let mut bench = Bench::new();
    bench.join(0, false);
    bench.group.failed(bench.now);
    bench.later(RETRY_PAUSE);
    assert_eq!(bench.next(), Step::Join { member_id: "m-1".into() }, "a lost connection keeps the id");
}

#[test]
fn leaving_commits_first_and_a_static_member_stays_on_the_list() {
    let mut bench = Bench::at_work();
    bench.intend(&[(0, 6)], true, true);
    assert_eq!(committed(bench.next()).len(), 1);
    bench.commit(&[(0, 0)]);
    assert_eq!(bench.next(), Step::Leave { member_id: "m-1".into() });
    bench.group.left();
    assert_eq!(bench.next(), Step::End);
    let mut fixed = Bench::at_work();
    fixed.group.settings.instance_id = Some("pod-0".into());
    fixed.intend(&[], true, true);
    assert_eq!(fixed.next(), Step::Leave { member_id: String::new() }, "nothing is sent for it");
}

#[test]
fn a_stop_while_the_group_gathers_leaves_at_once() {
    let leave = Step::Leave { member_id: "m-1".into() };
    for leader in [false, true] {
        let mut bench = Bench::new();
        bench.join(79, false);
        bench.intend(&[], true, true);
        assert_eq!(bench.next(), leave, "while joining");
        bench.join(0, leader);
        assert_eq!(bench.next(), leave, "before the assignment");
        bench.metadata(7, 2);
        assert_eq!(bench.next(), leave, "while the assignment is waited for");
    }
}

#[test]
fn members_with_unreadable_metadata_get_nothing() {
    let mut bench = Bench::new();
    let good =
        JoinedMember { member_id: "m-1".into(), instance_id: None, subscription: Subscription::encode_eager(&["t"]) };
    let bad = JoinedMember { member_id: "bad".into(), subscription: vec![1, 2, 3], ..good.clone() };
    let answer = JoinGroupResponse {
        error: 0,
        generation: 1,
        protocol: "roundrobin".into(),
        leader: "m-1".into(),
        member_id: "m-1".into(),
        members: vec![bad, good],
    };
    bench.group.joined(answer, bench.now, bench.now);
    bench.metadata(7, 3);
    let Step::Sync { assignments, .. } = bench.next() else { panic!("must sync") };
    let shares: Vec<(String, TopicPartitions)> =
        assignments.into_iter().map(|(id, bytes)| (id, decode_assignment(&bytes).unwrap())).collect();
    assert_eq!(
        shares,
        [
            ("bad".to_owned(), TopicPartitions::new()),
            ("m-1".to_owned(), TopicPartitions::from([("t".to_owned(), vec![0, 1, 2])]))
        ]
    );
}

#[test]
fn a_kip_848_coordinator_needs_no_leader() {
    let mut bench = Bench::new();
    let answer = JoinGroupResponse {
        error: 0,
        generation: 9,
        protocol: "range".into(),
        leader: String::new(),
        member_id: "m-1".into(),
        members: vec![],
    };
    bench.group.joined(answer, bench.now, bench.now);
    assert!(matches!(bench.next(), Step::Sync { assignments, .. } if assignments.is_empty()));
}
