//! `check`: what is right, what is doubtful and what is wrong, each on a line of its own.

use std::process::Command;

use crate::harness::consumer::binary;
use crate::harness::raw::Raw;
use crate::harness::{Bench, ClickHouse, Kafka, Table, free_port};

/// Runs the command; its exit code and its lines.
fn check(bench: &Bench<'_>, arguments: &[&str], more: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    let output = command.arg("check").args(arguments).env_clear().envs(bench.env(more)).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// A line that begins so and holds all of the words.
fn has(text: &str, head: &str, words: &[&str]) {
    let found = text.lines().any(|line| line.starts_with(head) && words.iter().all(|word| line.contains(word)));
    assert!(found, "no line {head} with {words:?} in:\n{text}");
}

#[test]
fn all_that_is_right() {
    let bench = Bench::new("check", Kafka::shared(), ClickHouse::shared(), Table { window: true, views: true });
    // So many that each partition has more than its share of the sample.
    bench.produce(2_400);
    let poison =
        [Raw::of("poison"), Raw::of(r#"{"version_number": "x"}"#), Raw::of(r#"{"event_type": "x", "shoe_size": 5}"#)];
    bench.kafka.write(&bench.topic, 3, bench.source.base_ms, &poison);
    let (code, text) = check(&bench, &["--sample", "120"], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("FAIL"), "{text}");
    has(&text, "ok   topic: ", &[&bench.topic, "12 partitions"]);
    has(&text, "ok   group: ", &[&bench.group]);
    has(&text, "ok   dead letters: ", &[&format!("{}.dlq", bench.topic)]);
    has(&text, "ok   table: ", &[&bench.database, "MergeTree"]);
    has(&text, "ok   columns: ", &["event_id UUID", "metadata String"]);
    has(&text, "ok   deduplication: window 10000", &[]);
    assert_eq!(text.matches("deduplication: behind the view").count(), 10, "{text}");
    has(&text, "ok   settings: ", &["async_insert=0"]);
    has(&text, "ok   sample: 118 events would be rows, 2 dead letters", &[]);
    has(&text, "warn sample: 1 events: invalid_json", &[]);
    has(&text, "warn sample: 1 events: invalid_value in version_number", &[]);
    has(&text, "warn sample: 1 events have the key \"shoe_size\"", &[]);
    assert!(bench.kafka.committed(&bench.group, &bench.topic).is_empty(), "nothing is changed");
    assert!(!bench.kafka.topics().contains(&format!("{}.dlq", bench.topic)), "nothing is created");
    assert_eq!(bench.rows(), 0);
}

#[test]
fn what_is_doubtful() {
    let bench = Bench::new("doubtful", Kafka::shared(), ClickHouse::shared(), Table { window: false, views: true });
    let column = "ADD COLUMN shape Tuple(Float64, Float64) DEFAULT (0, 0)";
    bench.clickhouse.query(&format!("ALTER TABLE {}.events {column}", bench.database));
    let columns = "ADD COLUMN local DateTime('Europe/Berlin'), ADD COLUMN locals Array(DateTime64(3, 'Europe/Berlin')), \
                   ADD COLUMN utc Nullable(DateTime('Etc/UTC'))";
    bench.clickhouse.query(&format!("ALTER TABLE {}.events {columns}", bench.database));
    let (code, text) = check(&bench, &[], &[("KAFKA_DLQ_TOPIC", "")]);
    assert_eq!(code, Some(0), "{text}");
    has(&text, "warn dead letters: ", &["KAFKA_DLQ_TOPIC"]);
    has(&text, "warn columns: shape", &["DEFAULT"]);
    has(&text, "warn time zone: local, locals: ", &["UTC", "Europe/Berlin"]);
    assert_eq!(text.matches("warn time zone").count(), 1, "{text}");
    has(&text, "warn deduplication: off", &["non_replicated_deduplication_window"]);
    assert_eq!(text.matches("warn deduplication: off behind the view").count(), 10, "{text}");
}

#[test]
fn what_is_wrong() {
    let bench = Bench::bare("wrong", Kafka::shared(), ClickHouse::shared());
    let (code, text) = check(&bench, &["--sample", "5"], &[]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, "FAIL topic: ", &[&bench.topic, "KAFKA_TOPIC"]);
    has(&text, "FAIL table: ", &[&bench.database, "CLICKHOUSE_TABLE"]);
    has(&text, "FAIL sample: ", &[]);
    let (code, text) = check(&bench, &[], &[("CLICKHOUSE_PASSWORD", "not-the-password")]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, "FAIL ClickHouse: ", &["CLICKHOUSE_PASSWORD"]);
    assert!(!text.contains("not-the-password"), "{text}");
    let nobody = format!("127.0.0.1:{}", free_port());
    let (code, text) = check(&bench, &[], &[("KAFKA_BOOTSTRAP_SERVERS", &nobody)]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, "FAIL brokers: ", &[&nobody, "KAFKA_BOOTSTRAP_SERVERS"]);
    let (code, _) = check(&bench, &[], &[("BATCH_SIZE", "0")]);
    assert_eq!(code, Some(2), "a wrong configuration");
}
