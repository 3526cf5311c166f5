//! What the metadata says about the topic.

use super::*;

#[test]
fn a_changed_topic_makes_a_rebalance() {
    for (id, partitions, rejoins) in [(7, 2, false), (7, 3, true), (8, 2, true), (0, 2, false)] {
        let mut bench = Bench::at_work();
        bench.later(CHECK_INTERVAL);
        bench.heartbeat(0);
        assert_eq!(bench.next(), Step::Metadata { topics: vec!["t".into()] });
        bench.metadata(id, partitions);
        assert_eq!(matches!(bench.phase(), Phase::Revoking { .. }), rejoins, "id {id}, {partitions} partitions");
    }
    let mut bench = Bench::at_work();
    bench.later(CHECK_INTERVAL);
    bench.seen(3, 0, 0);
    assert!(matches!(bench.phase(), Phase::Assigned(_)), "a topic that does not show changes nothing");
    assert_eq!(bench.group.topic_fault(), Some(TopicFault::Missing { topic: "t".into() }));
}

#[test]
fn a_fetch_that_meets_another_topic_has_it_looked_at_until_it_shows() {
    let mut bench = Bench::at_work();
    bench.later(LOOK_INTERVAL);
    bench.heartbeat(0);
    assert!(matches!(bench.next(), Step::Wait { .. }), "nothing to look for");
    let epoch = bench.group.membership().epoch;
    bench.group.intend(Intent { epoch: epoch - 1, look: true, ..Intent::default() });
    assert!(matches!(bench.next(), Step::Wait { .. }), "the word of an assignment that is over");
    bench.group.intend(Intent { epoch, look: true, ..Intent::default() });
    let look = Step::Metadata { topics: vec!["t".into()] };
    assert_eq!(bench.next(), look);
    bench.metadata(7, 2);
    let Step::Wait { until } = bench.next() else { panic!("this broker does not know yet: not over and over") };
    assert_eq!(until, bench.now + LOOK_INTERVAL);
    bench.later(LOOK_INTERVAL);
    assert_eq!(bench.next(), look);
    bench.metadata(8, 2);
    assert!(matches!(bench.phase(), Phase::Revoking { .. }));
}

#[test]
fn all_of_a_topic_is_new_that_was_created_while_the_group_watched() {
    let known = |bench: &Bench| match bench.phase() {
        Phase::Assigned(assignment) => assignment.known_partition_count,
        other => panic!("{other:?}"),
    };
    // A follower, to which nobody has shown the topic, looks at it each time before it asks for offsets.
    let begin = |bench: &mut Bench, id: u128, offsets: &[(i32, i64, &str)]| {
        bench.join(0, false);
        bench.sync(0, &[0, 1]);
        bench.heartbeat(0);
        assert_eq!(bench.next(), Step::Metadata { topics: vec!["t".into()] });
        bench.metadata(id, 2);
        assert_eq!(bench.next(), Step::FetchOffsets { partitions: vec![0, 1] });
        bench.offsets(offsets);
    };
    let mut bench = Bench::new();
    begin(&mut bench, 7, &[(0, -1, ""), (1, -1, "")]);
    assert_eq!(known(&bench), None, "it may have been there for years");
    bench.heartbeat(25);
    begin(&mut bench, 8, &[(0, -1, ""), (1, -1, "")]);
    assert_eq!(known(&bench), Some(0), "another id: created anew");
    bench.heartbeat(25);
    begin(&mut bench, 8, &[(0, 3, "partitions=2;topic=8"), (1, -1, "")]);
    assert_eq!(known(&bench), Some(2));
    // Someone committed for the topic of before after it was deleted.
    let mut other = Bench::new();
    begin(&mut other, 9, &[(0, 3, "partitions=2;topic=8"), (1, -1, "")]);
    assert_eq!(known(&other), Some(0));
}

#[test]
fn new_partitions_are_unknown_until_each_has_a_commit() {
    // The topic has grown from 1 to 2 partitions, and this member is given only the old one, as it was before.
    let mut bench = Bench::new();
    bench.join(0, true);
    bench.metadata(7, 2);
    bench.sync(0, &[0]);
    bench.heartbeat(0);
    bench.offsets(&[(0, 5, "partitions=1;topic=7"), (1, -1, "")]);
    bench.intend(&[(0, 6)], false, false);
    let note = |count: i32| format!("partitions={count};topic={:032x}", 7);
    assert_eq!(committed(bench.next()), [(0, 6, note(1))], "so that the other's next owner sees that it is new");
    bench.commit(&[(0, 0)]);
    bench.heartbeat(22);
    bench.join(0, true);
    bench.metadata(7, 2);
    bench.sync(0, &[0]);
    bench.heartbeat(0);
    bench.offsets(&[(0, 6, "partitions=1;topic=7"), (1, 0, "partitions=1;topic=7")]);
    bench.intend(&[(0, 7)], false, false);
    assert_eq!(committed(bench.next()), [(0, 7, note(2))]);
}

#[test]
fn a_topic_created_later_makes_a_rebalance() {
    let mut bench = Bench::new();
    bench.join(0, true);
    bench.seen(3, 0, 0);
    bench.sync(0, &[]);
    bench.heartbeat(0);
    bench.seen(3, 0, 0);
    assert_eq!(bench.group.topic_fault(), Some(TopicFault::Missing { topic: "t".into() }));
    bench.later(CHECK_INTERVAL);
    bench.heartbeat(0);
    bench.metadata(7, 12);
    assert!(matches!(bench.phase(), Phase::Revoking { .. }));
}

#[test]
fn a_topic_that_may_not_be_seen_is_waited_for_as_it_was_before() {
    let missing = || Some(TopicFault::Missing { topic: "t".into() });
    let forbidden = || Some(TopicFault::Forbidden { topic: "t".into() });
    // Answers with the fault after each, and whether the group rebalances in the end. 5 is no answer yet.
    let cases = [
        (vec![(29, 0, forbidden()), (29, 0, forbidden()), (5, 0, forbidden()), (0, 7, None)], false),
        (vec![(29, 0, forbidden()), (0, 8, None)], true),
        (vec![(29, 0, forbidden()), (3, 0, missing()), (5, 0, missing()), (29, 0, forbidden())], false),
        (vec![(3, 0, missing()), (29, 0, forbidden()), (0, 8, None)], true),
    ];
    for (answers, rebalances) in cases {
        let mut bench = Bench::at_work();
        for (code, id, fault) in &answers {
            bench.later(CHECK_INTERVAL);
            bench.heartbeat(0);
            assert_eq!(bench.next(), Step::Metadata { topics: vec!["t".into()] });
            bench.seen(*code, *id, if *code == 0 { 2 } else { 0 });
            assert_eq!(bench.group.topic_fault(), *fault, "{code} in {answers:?}");
        }
        assert_eq!(matches!(bench.phase(), Phase::Revoking { .. }), rebalances, "{answers:?}");
    }
    // The leader has no partitions to give, and gathers the group again once it has.
    let mut bench = Bench::new();
    bench.join(0, true);
    bench.seen(29, 0, 0);
    bench.sync(0, &[]);
    bench.heartbeat(0);
    bench.seen(29, 0, 0);
    assert!(matches!(bench.phase(), Phase::Assigned(assignment) if assignment.partitions.is_empty()));
    bench.later(CHECK_INTERVAL);
    bench.heartbeat(0);
    assert_eq!(bench.next(), Step::Metadata { topics: vec!["t".into()] });
    bench.metadata(7, 2);
    assert!(matches!(bench.phase(), Phase::Revoking { .. }));
    // A follower whose leader may see more asks until it may too.
    let mut bench = Bench::new();
    bench.join(0, false);
    bench.sync(0, &[0, 1]);
    bench.heartbeat(0);
    bench.seen(29, 0, 0);
    assert_eq!(bench.group.topic_fault(), forbidden());
    assert_eq!(bench.next(), Step::Wait { until: bench.now + RETRY_PAUSE });
    bench.later(RETRY_PAUSE);
    assert_eq!(bench.next(), Step::Metadata { topics: vec!["t".into()] });
    bench.metadata(7, 2);
    assert_eq!(bench.next(), Step::FetchOffsets { partitions: vec![0, 1] });
}
