//! Logs that lost records, by compaction or deletion, and logs of which nothing becomes a row: the commits reach the ends,
//! and what nobody read is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::bench::SHIPPED;
use crate::harness::kafka::to_hex;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka, wait_until};
use crate::records_fetch::{How, read};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn records_deleted_while_stopped_are_counted_as_lost() {
    let bench = Bench::shared("deleted");
    bench.produce(600);
    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    let read_up_to = bench.kafka.end_offsets(&bench.topic);
    bench.produce(600);
    let ends = bench.kafka.end_offsets(&bench.topic);
    // All but the last record of the even partitions.
    let cut: BTreeMap<i32, i64> =
        ends.iter().map(|(index, end)| (*index, end - 1)).filter(|(index, end)| index % 2 == 0 && *end > 0).collect();
    let lost: i64 = cut.iter().map(|(index, start)| (start - read_up_to[index]).max(0)).sum();
    assert!(lost > 0, "{cut:?} {read_up_to:?}");
    delete_records(&bench, &cut);

    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let kept: i64 = ends.values().sum::<i64>() - lost;
    bench.wait_rows(&consumer, kept as u64, LIMIT);
    assert_eq!(bench.rows(), kept as u64);
    let logged: i64 = lost_lines(&consumer).iter().map(|line| line["lost"].as_i64().unwrap()).sum();
    assert_eq!(logged, lost);
    let health = consumer.wait_healthy();
    assert_eq!(health["errors"], lost, "{health}");
    consumer.stop();
}

#[test]
fn records_deleted_under_the_running_program_are_counted_as_lost() {
    const EVENTS: u64 = 3_000;
    let bench = Bench::shared("cut_under");
    bench.produce(200);
    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    // It stands still while the log grows and loses its beginning.
    consumer.signal("STOP");
    // For longer than the fetch that is under way waits: its answer has the first of them at most.
    bench.produce_at(EVENTS, Some(2_000.0)).wait();
    let ends = bench.kafka.end_offsets(&bench.topic);
    let cut: BTreeMap<i32, i64> = ends.iter().map(|(index, end)| (*index, (end - 5).max(0))).collect();
    delete_records(&bench, &cut);
    consumer.signal("CONT");
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let lines = lost_lines(&consumer);
    let lost: u64 = lines.iter().map(|line| line["lost"].as_u64().unwrap()).sum();
    assert!(lost > 0, "the program was not behind: {lines:?}");
    let total = EVENTS + 200;
    // What it had fetched before it stood still is not lost.
    bench.wait_rows(&consumer, total - lost, LIMIT);
    assert_eq!(bench.rows(), total - lost);
    let health = consumer.wait_healthy();
    assert!(health["errors"].as_u64().unwrap() >= lost, "{health}");
    consumer.stop();
}

#[test]
fn a_batch_on_the_wire_is_committed_before_the_start_after_a_cut() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("cut_wire", Kafka::shared(), &clickhouse, SHIPPED);
    bench.produce(200);
    let consumer = bench.start(&[("BATCH_SIZE", "100"), ("CLICKHOUSE_TIMEOUT_MS", "60000")]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    clickhouse.signal("STOP");
    bench.produce(100);
    consumer.wait(LIMIT, "a full batch is on the wire", || {
        let open = consumer.status()?["events"]["open"].as_u64();
        if open == Some(100) { Ok(()) } else { Err(format!("{open:?}")) }
    });
    consumer.signal("STOP");
    // For longer than the fetch that is under way waits, and less than another batch.
    bench.produce_at(60, Some(50.0)).wait();
    let ends = bench.kafka.end_offsets(&bench.topic);
    delete_records(&bench, &ends);
    consumer.signal("CONT");
    consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", "these offsets are lost"]);
    let committed = bench.kafka.committed(&bench.group, &bench.topic);
    let moved = committed.iter().any(|(partition, offset)| ends[partition] == *offset);
    assert!(!moved, "what is on the wire is not stored yet: {committed:?} of {ends:?}");
    clickhouse.signal("CONT");
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    assert_eq!(bench.kafka.committed(&bench.group, &bench.topic), ends, "what was deleted is over");
    assert!(bench.rows() >= 300);
}

#[test]
fn a_committed_offset_beyond_the_end_goes_on_at_the_start() {
    let bench = Bench::shared("beyond");
    let indices = bench.produce(300);
    let ends = bench.kafka.end_offsets(&bench.topic);
    let (group, topic) = (&bench.group, &bench.topic);
    let order = json!({"op": "commit_offsets", "group": group, "topic": topic, "offsets": {"0": 123_456}});
    bench.kafka.peer(&order);
    let consumer = bench.start(&[]);
    let line = consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", "123456", "behind the log's end"]);
    assert_eq!((&line["partition"], &line["committed"], &line["end"]), (&json!(0), &json!(123_456), &json!(ends[&0])));
    bench.wait_rows(&consumer, 300, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(indices);
}

#[test]
fn a_compacted_topic_is_read_over_its_gaps() {
    let bench = Bench::bare("compacted", Kafka::shared(), ClickHouse::shared());
    bench.create_table(SHIPPED);
    let config = json!({
        "cleanup.policy": "compact", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0",
        "max.compaction.lag.ms": "1000",
    });
    bench.kafka.create_topic_with(&bench.topic, 1, &config);
    // Batches of five, of which only the last of each of three keys stays; one batch has no survivor but a tombstone.
    let mut records: Vec<Value> =
        (0..200).map(|index| record(Some(&format!("key {}", index % 3)), Some(&event(&bench, index)))).collect();
    records.extend((0..5).map(|_| record(Some("gone"), None)));
    produce(&bench, &records, 5);
    // A later record in a later segment: the one before is closed and can be cleaned.
    let mut next = 200;
    let whole = |end: i64| How { isolation: 1, from: 0, end, fetch_bytes: 1 << 20 };
    let kept = wait_until(Duration::from_secs(120), "the log is cleaned", || {
        produce(&bench, &[record(Some("head"), Some(&event(&bench, next)))], 1);
        next += 1;
        let end = bench.kafka.end_offsets(&bench.topic)[&0];
        let kept = read(bench.kafka, &bench.topic, 0, whole(end)).records;
        let first = kept.iter().filter(|record| record.offset < 205).count();
        if first <= 4 { Ok(kept) } else { Err(format!("{first} of the first 205 records are there")) }
    });
    let wanted: BTreeSet<String> = kept
        .iter()
        .filter_map(|record| record.value.as_deref())
        .map(|value| serde_json::from_slice::<Value>(value).unwrap()["event_id"].as_str().unwrap().to_owned())
        .collect();
    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let sql = format!("SELECT toString(event_id) FROM {}.events FORMAT TSV", bench.database);
    let mut seen = BTreeSet::new();
    bench.clickhouse.each_line(&sql, |line| {
        seen.insert(line.to_owned());
    });
    // The cleaner may go on between the two reads; what it takes is of the key "head", and never the last.
    let last = bench.source.event(next - 1).event_id;
    let survivors: Vec<String> = (197..200).map(|index| bench.source.event(index).event_id).collect();
    assert!(seen.is_subset(&wanted), "{seen:?} instead of {wanted:?}");
    assert!(survivors.iter().chain([&last]).all(|id| seen.contains(id)), "{seen:?} lacks one of {survivors:?}, {last}");
    consumer.stop();
}

#[test]
fn tombstones_and_unreadable_events_alone_are_committed_to_the_end() {
    for (name, value, errors) in [("tombstones", None, 0), ("unreadable", Some("no JSON at all"), 40)] {
        let bench = Bench::shared(name);
        let records: Vec<Value> = (0..40).map(|_| record(Some("key"), value)).collect();
        produce(&bench, &records, 7);
        let consumer = bench.start(&[]);
        bench.wait_committed_to_the_end(&consumer, LIMIT);
        assert_eq!(bench.rows(), 0);
        let health = consumer.wait_healthy();
        assert_eq!(health["errors"], errors, "{name}: {health}");
        consumer.stop();
    }
}

fn event(bench: &Bench<'_>, index: u64) -> String {
    bench.source.event(index).to_json()
}

fn record(key: Option<&str>, value: Option<&str>) -> Value {
    let hex = |text: Option<&str>| text.map(|text| to_hex(text.as_bytes()));
    json!({"partition": 0, "key": hex(key), "value": hex(value)})
}

fn produce(bench: &Bench<'_>, records: &[Value], batch: u32) {
    let config = json!({"batch.num.messages": batch, "linger.ms": 20, "compression.type": "zstd"});
    bench.kafka.peer(&json!({"op": "produce_many", "topic": bench.topic, "config": config, "records": records}));
}

pub(crate) fn delete_records(bench: &Bench<'_>, offsets: &BTreeMap<i32, i64>) {
    let offsets: BTreeMap<String, i64> = offsets.iter().map(|(index, offset)| (index.to_string(), *offset)).collect();
    bench.kafka.peer(&json!({"op": "delete_records", "topic": bench.topic, "offsets": offsets}));
}

pub(crate) fn lost_lines(consumer: &Consumer) -> Vec<Value> {
    let lines = consumer.log_lines().into_iter();
    lines.filter(|line| line["level"] == "ERROR" && line["lost"].as_u64().is_some()).collect()
}
