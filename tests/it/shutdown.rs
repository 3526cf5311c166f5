//! Stops in the middle of a flood.

use std::time::Duration;

use crate::harness::bench::SHIPPED;
use crate::harness::{Bench, ClickHouse, Kafka};

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
