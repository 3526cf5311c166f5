//! How fast the others are stored while some rows are refused.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::harness::consumer::asserts;
use crate::harness::raw::Raw;
use crate::harness::{Bench, ClickHouse, Kafka, Table};

const EVENTS: u64 = 20_000;
const LIMIT: Duration = Duration::from_secs(240);

/// Events a second with one in `one_in` refused. `least` is asserted for the binary that ships: far below what a quiet
/// machine does (printed), as a busy one halves it.
fn measure(name: &str, constraint: &str, one_in: u64, least: f64) {
    let table = Table { window: true, views: false };
    let bench = Bench::new(&format!("speed_{name}"), Kafka::shared(), ClickHouse::shared(), table);
    bench.clickhouse.query(&format!("ALTER TABLE {}.events ADD {constraint}", bench.database));
    let event = |number: u64| {
        let mut text = format!(r#"{{"event_id": "00000000-0000-4000-8000-{number:012}", "event_type": "inject""#);
        let org = if number % one_in == one_in / 2 { "refused" } else { "acme" };
        write!(text, r#", "org_id": "{org}", "metadata": {{"x": "{}"}}}}"#, "y".repeat(500)).unwrap();
        Raw::of(text)
    };
    for partition in 0..4 {
        let events: Vec<Raw> = (0..EVENTS).filter(|number| number % 4 == partition).map(event).collect();
        for some in events.chunks(500) {
            bench.kafka.write(&bench.topic, i32::try_from(partition).unwrap(), bench.source.base_ms, some);
        }
    }
    let consumer = bench.start(&[("BATCH_SIZE", "2000")]);
    consumer.wait(LIMIT, "it reads", || {
        let consumed = consumer.health()?.1["events_consumed"].as_u64().unwrap_or(0);
        if consumed > 0 { Ok(()) } else { Err("nothing yet".to_owned()) }
    });
    let began = Instant::now();
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let rate = EVENTS as f64 / began.elapsed().as_secs_f64();
    println!("{name}: one in {one_in} of {EVENTS} refused: {rate:.0} events/s");
    consumer.wait_healthy();
    consumer.stop();
    let refused = EVENTS / one_in;
    assert_eq!(bench.rows(), EVENTS - refused);
    let distinct = format!("SELECT uniqExact(event_id) FROM {}.events", bench.database);
    assert_eq!(bench.clickhouse.number(&distinct), EVENTS - refused);
    let letters: i64 = bench.kafka.end_offsets(&format!("{}.dlq", bench.topic)).values().sum();
    assert_eq!(letters, i64::try_from(refused).unwrap());
    let stored = bench.inserts().len();
    println!("{name}: {stored} inserts stored");
    assert!(stored <= 10_000, "{stored} inserts: more than the window's worth of tokens");
    if asserts(&format!("{least} events/s with one in {one_in} refused")) {
        assert!(rate >= least, "{rate:.0} events/s");
    }
}

const NAMED: &str = "CONSTRAINT known CHECK org_id != 'refused'";
const UNNAMED: &str = "COLUMN m UInt8 MATERIALIZED throwIf(org_id = 'refused')";

#[test]
fn alone_one_refused_row_in_a_hundred_costs_little() {
    measure("named", NAMED, 100, 2_000.0);
    measure("unnamed", UNNAMED, 100, 600.0);
}

#[test]
fn alone_one_refused_row_in_ten_goes_on() {
    measure("named", NAMED, 10, 300.0);
}
