//! Where reading starts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::bench::PARTITIONS;
use crate::harness::{Bench, Consumer, same};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_restart_continues_at_the_commit() {
    let bench = Bench::shared("restart");
    bench.produce(3_000);
    let first = bench.start(&[]);
    bench.wait_rows(&first, 3_000, LIMIT);
    first.stop();
    // The stop has committed what it stored: nothing is read again.
    same(bench.kafka.committed(&bench.group, &bench.topic), bench.kafka.end_offsets(&bench.topic)).unwrap();
    let more = bench.produce(2_000);
    let second = bench.start(&[]);
    bench.wait_rows(&second, 5_000, LIMIT);
    let health = second.wait_healthy();
    assert_eq!(health["events_consumed"], 2_000, "{health}");
    second.stop();
    bench.assert_exactly_once(0..more.end);
}

#[test]
fn earliest_reads_what_was_there_before() {
    let bench = Bench::shared("earliest");
    let indices = bench.produce(500);
    let consumer = bench.start(&[("KAFKA_AUTO_OFFSET_RESET", "earliest")]);
    bench.wait_rows(&consumer, 500, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(indices);
}

#[test]
fn latest_reads_only_what_comes_after() {
    let bench = Bench::shared("latest");
    bench.produce(500);
    let consumer = bench.start(&[("KAFKA_AUTO_OFFSET_RESET", "latest")]);
    wait_start_committed(&bench, &consumer);
    let after = bench.produce(300);
    bench.wait_rows(&consumer, 300, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(after);
}

#[test]
fn latest_is_resolved_once_even_if_nothing_was_read_before_the_restart() {
    let bench = Bench::shared("latest_restart");
    bench.produce(500);
    let first = bench.start(&[("KAFKA_AUTO_OFFSET_RESET", "latest")]);
    wait_start_committed(&bench, &first);
    first.stop();
    let meanwhile = bench.produce(200);
    let second = bench.start(&[("KAFKA_AUTO_OFFSET_RESET", "latest")]);
    bench.wait_rows(&second, 200, LIMIT);
    second.stop();
    bench.assert_exactly_once(meanwhile);
}

#[test]
fn latest_on_an_empty_topic_commits_offset_zero_and_skips_nothing_after_a_kill() {
    let bench = Bench::shared("latest_empty");
    let first = bench.start(&[
        ("KAFKA_AUTO_OFFSET_RESET", "latest"),
        ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ("KAFKA_HEARTBEAT_INTERVAL_MS", "2000"),
    ]);
    wait_start_committed(&bench, &first);
    first.kill9();
    let meanwhile = bench.produce(200);
    // The broker gives the dead member's partitions away when its session has run out.
    let second = bench.start(&[("KAFKA_AUTO_OFFSET_RESET", "latest")]);
    bench.wait_rows(&second, 200, LIMIT);
    second.stop();
    bench.assert_exactly_once(meanwhile);
}

#[test]
fn latest_with_two_replicas_started_together_skips_nothing_and_reads_nothing_old() {
    let bench = Bench::shared("latest_two");
    bench.produce(500);
    let latest = [("KAFKA_AUTO_OFFSET_RESET", "latest")];
    let (first, second) = (bench.start(&latest), bench.start(&latest));
    wait_start_committed(&bench, &first);
    let after = bench.produce(2_000);
    bench.wait_rows(&second, 2_000, LIMIT);
    first.stop();
    second.stop();
    bench.assert_exactly_once(after);
}

#[test]
fn none_waits_for_a_person_and_says_so() {
    let bench = Bench::shared("none");
    bench.produce(100);
    let consumer = bench.start(&[("KAFKA_AUTO_OFFSET_RESET", "none")]);
    let line = consumer.wait_log(LIMIT, &["KAFKA_AUTO_OFFSET_RESET", "partition 0"]);
    assert_eq!(line["level"], "ERROR", "{line}");
    let text = line.to_string();
    assert!(text.contains("earliest") && text.contains("latest"), "what to do: {text}");
    let health = consumer.wait_health(503, LIMIT);
    assert_eq!(health["status"], "unhealthy", "{health}");
    assert_eq!(bench.rows(), 0);
    assert_eq!(bench.kafka.committed(&bench.group, &bench.topic), BTreeMap::new(), "nothing was decided");
    consumer.stop();
    // The person decides.
    let consumer = bench.start(&[("KAFKA_AUTO_OFFSET_RESET", "earliest")]);
    bench.wait_rows(&consumer, 100, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..100);
}

/// Every partition, also one without records, has its resolved start committed.
fn wait_start_committed(bench: &Bench<'_>, consumer: &Consumer) {
    let ends = bench.kafka.end_offsets(&bench.topic);
    assert_eq!(ends.len(), PARTITIONS as usize);
    consumer.wait(LIMIT, "the resolved start is committed", || {
        same(bench.kafka.committed(&bench.group, &bench.topic), ends.clone())
    });
}
