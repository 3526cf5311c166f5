//! Resident memory, sampled from outside. What is promised is promised of the binary that ships: with another one the
//! ways are walked and nothing is asserted of sizes.
//!
//! MEMORY_EVENTS (default 150,000) is the backlog; `make faults` takes 1,000,000.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::bench::SHIPPED;
use crate::harness::consumer::asserts;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka};
use crate::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(300);
const MIB: u64 = 1024;

fn events() -> u64 {
    let number = |text: String| text.parse().unwrap_or_else(|error| panic!("MEMORY_EVENTS={text}: {error}"));
    std::env::var("MEMORY_EVENTS").map_or(150_000, number)
}

fn assert_within(what: &str, consumer: &Consumer, mib: u64) {
    let (now, peak) = (consumer.rss_kib(), consumer.peak_rss_kib());
    println!("{what}: RSS {now} KiB, peak {peak} KiB, allowed {} KiB", mib * MIB);
    if asserts(&format!("{what}: at most {mib} MiB")) {
        assert!(peak <= mib * MIB, "{what}: {peak} KiB, more than {mib} MiB");
    }
}

#[test]
fn idle_it_takes_6_mib() {
    let bench = Bench::shared("idle");
    let consumer = bench.start(&[]);
    consumer.wait_healthy();
    consumer.wait(LIMIT, "all partitions", || match consumer.partitions()?.len() {
        12 => Ok(()),
        held => Err(format!("{held} partitions")),
    });
    // Some rounds of fetches, heartbeats, probes and looks at the endpoints.
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until {
        Metrics::of(&consumer).unwrap();
        consumer.status().unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_within("idle", &consumer, 6);
    consumer.stop();
}

#[test]
fn a_backlog_takes_16_mib_with_the_defaults() {
    backlog("backlog", "2000", 16);
}

#[test]
fn a_backlog_takes_40_mib_with_batches_of_20_000() {
    backlog("backlog20", "20000", 40);
}

fn backlog(name: &str, batch: &str, mib: u64) {
    let bench = Bench::shared(name);
    let count = events();
    bench.produce(count);
    let consumer = bench.start(&[("BATCH_SIZE", batch)]);
    bench.wait_rows(&consumer, count, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    assert_within(&format!("{count} events, batches of {batch}"), &consumer, mib);
    consumer.stop();
}

#[test]
fn events_of_1_mb_stay_within_the_budget() {
    const EVENTS: u64 = 120;
    // In one column, and now in one and now in another.
    let texts =
        ["metadata", "agent_id", "agent_name", "context_id", "context_name", "denial_reason", "trace_id", "severity"];
    for (name, fields) in [("large", &texts[..1]), ("large_anywhere", &texts)] {
        let bench = large(name, EVENTS, 1_000_000, fields);
        let consumer = bench.start(&[]);
        bench.wait_rows(&consumer, EVENTS, LIMIT);
        // The default budget of 8 MiB, and what the program is without any.
        assert_within(&format!("events of 1 MB, {} columns", fields.len()), &consumer, 16);
        consumer.stop();
        assert_eq!(bench.rows(), EVENTS);
    }
}

#[test]
fn bad_events_of_1_mb_stay_within_the_budget() {
    // A time that is none makes each of them a dead letter, kept until the topic has it.
    const EVENTS: u64 = 60;
    let bench = Bench::bare("letters1m", Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic_with(&bench.topic, 2, &json!({"max.message.bytes": "12000000"}));
    bench.create_table(SHIPPED);
    bench.kafka.peer(&json!({
        "op": "produce_events", "topic": bench.topic, "partition": 0, "count": EVENTS, "size": 1_000_000,
        "event_time": "yesterday", "config": {"compression.type": "lz4", "message.max.bytes": 3_000_000},
    }));
    // Good ones among them: a column that takes none of the events is another fault.
    bench.kafka.peer(&json!({
        "op": "produce_events", "topic": bench.topic, "partition": 1, "count": 2_000, "size": 300,
        "config": {"compression.type": "lz4"},
    }));
    let consumer = bench.start(&[]);
    consumer.wait(LIMIT, "all letters are written", || {
        let now = Metrics::of(&consumer)?;
        let letters = now.get("sandarb_consumer_dead_letters_total");
        if letters == EVENTS as f64 { Ok(()) } else { Err(format!("{letters} letters")) }
    });
    assert_within("dead letters of 1 MB", &consumer, 24);
    consumer.stop();
}

#[test]
fn a_batch_that_fits_nowhere_stops_its_partition_and_names_the_variable() {
    // A record batch of more than half of the smallest budget, compressed to nearly nothing, and one that is too large
    // to be fetched at all.
    for (name, codec) in [("toolarge", "zstd"), ("toolarge_plain", "none")] {
        let bench = Bench::bare(name, Kafka::shared(), ClickHouse::shared());
        bench.kafka.create_topic_with(&bench.topic, 2, &json!({"max.message.bytes": "12000000"}));
        bench.create_table(SHIPPED);
        let config = json!({"compression.type": codec, "message.max.bytes": 11_000_000, "linger.ms": 500});
        bench.kafka.peer(&json!({
            "op": "produce_events", "topic": bench.topic, "partition": 0, "count": 1, "size": 3_000_000, "config": config,
        }));
        bench.kafka.peer(&json!({
            "op": "produce_events", "topic": bench.topic, "partition": 1, "count": 500, "size": 300, "config": config,
        }));
        let consumer = bench.start(&[("MEMORY_BUDGET_BYTES", "2097152")]);
        // The other partition goes on.
        bench.wait_rows(&consumer, 500, LIMIT);
        let health = consumer.wait_health(503, Duration::from_secs(60));
        assert_eq!(health["events_inserted"], 500, "{health}");
        let line = consumer.wait_log(LIMIT, &["MEMORY_BUDGET_BYTES", "\"events wait\""]);
        assert_eq!(line["subject"], "partition 0", "{line}");
        assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("at offset 0 ")), "{line}");
        let status = consumer.status().unwrap();
        let why = status["kafka"]["blocked_partitions"]["0"].as_str().unwrap_or_default();
        assert!(why.contains("MEMORY_BUDGET_BYTES"), "{status}");
        assert_eq!(Metrics::of(&consumer).unwrap().get("sandarb_consumer_blocked{what=\"partitions\"}"), 1.0);
        assert_within("a batch that fits nowhere", &consumer, 16);
        consumer.stop();
        // With room it is read: nothing was skipped.
        let consumer = bench.start(&[("MEMORY_BUDGET_BYTES", "33554432")]);
        bench.wait_rows(&consumer, 501, LIMIT);
        consumer.stop();
        assert_eq!(bench.rows(), 501);
    }
}

fn large(name: &str, events: u64, size: usize, fields: &[&str]) -> Bench<'static> {
    let bench = Bench::bare(name, Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic_with(&bench.topic, 2, &json!({"max.message.bytes": "12000000"}));
    bench.create_table(SHIPPED);
    for partition in 0..2 {
        bench.kafka.peer(&json!({
            "op": "produce_events", "topic": bench.topic, "partition": partition, "count": events / 2, "size": size,
            "fields": fields, "config": {"compression.type": "lz4", "linger.ms": 50, "message.max.bytes": 3_000_000},
        }));
    }
    bench
}

/// The long form is `make faults`, with OUTAGE_SECONDS=300.
#[test]
fn without_clickhouse_memory_stays_where_it_is() {
    let seconds = std::env::var("OUTAGE_SECONDS").map_or(20, |text| text.parse().unwrap());
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("outage_memory", Kafka::shared(), &clickhouse, SHIPPED);
    let consumer = bench.start(&[]);
    let load = bench.load(2_000);
    bench.wait_rows(&consumer, 4_000, LIMIT);
    clickhouse.kill9();
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_secs(1));
        if began.elapsed() > Duration::from_secs(5) {
            samples.push(consumer.rss_kib());
        }
    }
    let (least, most) = (samples.iter().min().unwrap(), samples.iter().max().unwrap());
    println!("{seconds} s without ClickHouse: RSS {least} to {most} KiB");
    if asserts("without ClickHouse memory moves by no more than 2 MiB") {
        assert!(most - least <= 2 * MIB, "{} KiB of movement: {samples:?}", most - least);
    }
    let indices = load.stop();
    bench.produced(&indices);
    clickhouse.restart();
    bench.wait_rows(&consumer, indices.end, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(indices);
}
