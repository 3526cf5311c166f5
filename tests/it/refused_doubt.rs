//! An insert whose answer was lost, and which is refused when it is sent again: what may be stored is not split.

use std::time::Duration;

use crate::harness::raw::Raw;
use crate::harness::valve::Valve;
use crate::harness::{Bench, ClickHouse, Kafka};
use crate::refused_rows::{create, dead_letters};

const LIMIT: Duration = Duration::from_secs(120);
const EVENTS: u64 = 1000;

fn event(number: u64) -> Raw {
    Raw::of(format!(
        r#"{{"event_id": "00000000-0000-4000-8000-{number:012}", "n": {number}, "b": {}, "s": "x", "event_time": 1700000000}}"#,
        u8::from(number != 700)
    ))
}

fn stored_and_then_refused(window: u32) {
    let bench = Bench::bare("then_refused", Kafka::shared(), ClickHouse::shared());
    let settings = format!("SETTINGS non_replicated_deduplication_window = {window}");
    create(&bench, &format!(") ENGINE = MergeTree PARTITION BY toYYYYMM(event_time) ORDER BY n {settings}"));
    let valve = Valve::before(bench.clickhouse);
    let url = valve.url();
    let consumer = bench.start(&[("CLICKHOUSE_URL", &url), ("CLICKHOUSE_TIMEOUT_MS", "5000")]);
    consumer.wait_healthy();
    let events: Vec<Raw> = (0..EVENTS).map(event).collect();
    bench.kafka.write(&bench.topic, 0, bench.source.base_ms, &events);
    valve.cut_an_answer();
    assert_eq!(bench.rows(), EVENTS, "all of one batch is stored");
    bench.clickhouse.query(&format!("ALTER TABLE {}.events ADD CONSTRAINT c CHECK b != 0", bench.database));
    valve.open();
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    let distinct = bench.clickhouse.number(&format!("SELECT uniqExact(n) FROM {}.events", bench.database));
    assert_eq!((bench.rows(), distinct), (EVENTS, EVENTS));
    assert_eq!(dead_letters(&bench), [], "what is in the table is not put aside, too");
}

#[test]
fn what_is_stored_and_then_refused_is_neither_doubled_nor_put_aside() {
    stored_and_then_refused(1000);
}

#[test]
fn the_same_without_a_window() {
    stored_and_then_refused(0);
}
