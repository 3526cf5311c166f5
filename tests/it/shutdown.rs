//! Stops in the middle of a flood.

use std::time::{Duration, Instant};

use crate::harness::bench::SHIPPED;
use crate::harness::{Bench, ClickHouse, Kafka, same};

/// What a clean stop would wait out, and no test may.
const AT_ONCE: Duration = Duration::from_secs(2);
const STOPS: u64 = 10;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn ten_stops_under_load_lose_and_double_nothing() {
    const EVENTS: u64 = 200_000;
    let bench = Bench::shared("stops");
    // All of it is there before the first start: whenever a stop comes, there is more to read.
    let indices = bench.produce(EVENTS);
    for stop in 1..=STOPS {
        let consumer = bench.start(&[]);
        // Somewhere in the middle, at another place each time: not the last event of a round.
        bench.wait_rows(&consumer, bench.rows() + 1 + stop * 777, LIMIT);
        consumer.stop();
        // A clean stop commits what is stored, no less and no more.
        let committed: i64 = bench.kafka.committed(&bench.group, &bench.topic).values().sum();
        assert_eq!(committed as u64, bench.rows(), "after stop {stop}");
    }
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, EVENTS, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(indices);
}

#[test]
fn a_stop_while_clickhouse_is_away_is_quick_and_loses_nothing() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("stop_away", Kafka::shared(), &clickhouse, SHIPPED);
    let consumer = bench.start(&[]);
    bench.produce(2_500);
    bench.wait_rows(&consumer, 2_500, LIMIT);
    clickhouse.kill9();
    bench.produce(2_500);
    consumer.wait_health(503, LIMIT);
    consumer.signal("TERM");
    // The server refuses connections, so waiting out SHUTDOWN_TIMEOUT_MS (25 s) would gain nothing.
    assert_eq!(consumer.wait_exit(Duration::from_secs(10)), Some(0));
    clickhouse.restart();
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, 5_000, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..5_000);
}

/// A program that holds rows which ClickHouse does not take: it accepts connections and answers nothing.
fn before_a_server_that_hangs(bench: &Bench<'_>, more: &[(&str, &str)]) -> crate::harness::Consumer {
    // Neither the request's time limit nor the session of one that ends without leaving is what is looked at.
    let soon = [
        ("CLICKHOUSE_TIMEOUT_MS", "4000"),
        ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"),
    ];
    let consumer = bench.start(&[&soon, more].concat());
    bench.produce(2_000);
    bench.wait_rows(&consumer, 2_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    bench.clickhouse.signal("STOP");
    bench.produce(3_000);
    // All are read: some are on the wire, the others in the open batch.
    consumer.wait(LIMIT, "all events are read", || same(consumer.status()?["events"]["read"].as_u64(), Some(5_000)));
    consumer
}

/// Nothing was committed that is not stored, and a new start brings the rest.
fn assert_nothing_is_lost(bench: &Bench<'_>) {
    bench.clickhouse.signal("CONT");
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, 5_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    let tally = bench.tally(0..5_000);
    assert!(tally.missing.is_empty() && tally.foreign.is_empty(), "{tally:?}");
    assert!(tally.surplus <= 2_000, "{} rows too many: more than the batch in doubt", tally.surplus);
}

#[test]
fn a_sigterm_after_a_sigterm_ends_at_once_while_clickhouse_hangs() {
    end_at_once("TERM", "TERM");
}

#[test]
fn a_sigint_after_a_sigterm_ends_at_once_while_clickhouse_hangs() {
    end_at_once("TERM", "INT");
}

#[test]
fn a_sigterm_after_a_sigint_ends_at_once_while_clickhouse_hangs() {
    end_at_once("INT", "TERM");
}

fn end_at_once(first: &str, second: &str) {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("stop_twice", Kafka::shared(), &clickhouse, SHIPPED);
    let consumer = before_a_server_that_hangs(&bench, &[]);
    consumer.signal(first);
    consumer.wait_log(LIMIT, &["stopping: inserting and committing what is held"]);
    // It waits for the outcome of what is on the wire, and answers meanwhile.
    consumer.wait_health(503, LIMIT);
    let asked = Instant::now();
    consumer.signal(second);
    assert_eq!(consumer.wait_exit(AT_ONCE), Some(1), "SIG{first}, SIG{second}");
    assert!(asked.elapsed() < AT_ONCE);
    consumer.wait_log_of_the_ended(&["WARNING", "at once after a second signal", &format!("SIG{second}")]);
    assert_nothing_is_lost(&bench);
}

#[test]
fn a_stop_that_takes_too_long_ends_with_1() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("stop_late", Kafka::shared(), &clickhouse, SHIPPED);
    let consumer = before_a_server_that_hangs(&bench, &[("SHUTDOWN_TIMEOUT_MS", "3000")]);
    let asked = Instant::now();
    consumer.signal("TERM");
    assert_eq!(consumer.wait_exit(Duration::from_secs(3) + AT_ONCE), Some(1));
    assert!(asked.elapsed() >= Duration::from_secs(3), "{:?}", asked.elapsed());
    consumer.wait_log_of_the_ended(&["ERROR", "SHUTDOWN_TIMEOUT_MS", "nothing is lost"]);
    assert_nothing_is_lost(&bench);
}
