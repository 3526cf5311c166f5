//! Numbers that add up: each event is counted when it is settled, once, whatever was read again on the way.

use std::time::Duration;

use crate::harness::bench::PARTITIONS;
use crate::harness::ledger::Ledger;
use crate::harness::raw::Raw;
use crate::harness::{Bench, same};
use crate::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(90);

fn event(number: u64, org_id: &str) -> Raw {
    Raw::of(format!(r#"{{"event_id": "00000000-0000-4000-8000-{number:012}", "org_id": "{org_id}"}}"#))
}

#[test]
fn bad_records_refused_rows_and_tombstones_count_once() {
    const GOOD: u64 = 19_740;
    let bench = Bench::shared("counts");
    let table = format!("{}.events", bench.database);
    bench.clickhouse.query(&format!("ALTER TABLE {table} ADD CONSTRAINT known CHECK org_id != 'refused'"));
    let write = |partition: i32, records: &[Raw]| {
        bench.kafka.write(&bench.topic, partition, bench.source.base_ms, records);
    };
    let tombstones: Vec<Raw> = (0..5).map(|_| Raw { value: None, ..Raw::of("") }).collect();
    for part in 0..10_u64 {
        bench.produce(GOOD / 10);
        let partition = part as i32 % PARTITIONS;
        let bad: Vec<Raw> = (0..20).map(|number| Raw::of(format!("no JSON {part} {number}"))).collect();
        write(partition, &bad);
        write(partition, &[event(part, "refused"), Raw::of(r#"{"no_such_column": 1, "org_id": "o"}"#)]);
        write(partition, &tombstones);
    }
    let classes =
        ["invalid_utf8", "invalid_json", "not_an_object", "too_deep", "invalid_value", "out_of_range", "server"];
    let consumer = bench.start(&[("BATCH_SIZE", "5000")]);
    let first = consumer.wait(LIMIT, "/metrics answers", || Metrics::of(&consumer));
    // The sums hold at every moment.
    consumer.wait(LIMIT, "all is settled", || {
        let text = consumer.metrics()?;
        let ledger = Ledger::of_metrics(&text)?;
        ledger.assert_adds_up("on the way");
        same(ledger, Ledger { consumed: GOOD + 220, inserted: GOOD + 10, rejected: 210, tombstones: 50 })
    });
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    for class in classes {
        first.get(&format!("sandarb_consumer_events_rejected_total{{class=\"{class}\"}}"));
    }
    let now = Metrics::of(&consumer).unwrap();
    for (class, count) in [("invalid_json", 200.0), ("server", 10.0), ("not_an_object", 0.0)] {
        assert_eq!(now.get(&format!("sandarb_consumer_events_rejected_total{{class=\"{class}\"}}")), count, "{class}");
    }
    assert_eq!(now.get("sandarb_consumer_unknown_keys_total"), 10.0);
    assert_eq!(now.get("sandarb_consumer_events_open"), 0.0);
    let (read, again) = ("sandarb_consumer_records_read_total", "sandarb_consumer_records_read_again_total");
    assert!(now.get(again) > 0.0, "refused rows are found by reading again");
    assert_eq!(now.get(read) - now.get(again), (GOOD + 270) as f64);
    let (_, health) = consumer.health().unwrap();
    assert_eq!(
        (health["events_consumed"].as_u64(), health["errors"].as_u64()),
        (Some(GOOD + 220), Some(210 + failed(&now)))
    );
    consumer.stop();
    assert_eq!(bench.rows(), GOOD + 10);
    // A record is logged once, and so are the ten that stand for the others of their slice.
    let mut logged: Vec<_> = consumer
        .log_lines()
        .iter()
        .filter(|line| line["msg"].as_str().is_some_and(|text| text.starts_with("an event cannot be read")))
        .map(|line| (line["partition"].as_i64().unwrap(), line["offset"].as_i64().unwrap()))
        .collect();
    let lines = logged.len();
    logged.sort_unstable();
    logged.dedup();
    assert_eq!(logged.len(), lines, "a record was logged twice");
    assert!(Ledger::of_log(&consumer.log_lines()).is_some(), "the last line has the ledger");
}

fn failed(metrics: &Metrics) -> u64 {
    metrics.get("sandarb_consumer_insert_failures_total") as u64
        + metrics.get("sandarb_consumer_kafka_errors_total") as u64
}
