//! Wrong configuration and absent services: what is wrong is named, with its cure, and nothing is lost meanwhile.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::harness::bench::{PARTITIONS, SHIPPED};
use crate::harness::{Bench, ClickHouse, Consumer, Kafka, free_port};

const LIMIT: Duration = Duration::from_secs(60);
/// 30 tries, 2 s apart, and some for the tries themselves.
const START_TRIES: Duration = Duration::from_secs(110);

/// The start's tries take a minute: all three side by side.
#[test]
fn a_wrong_password_a_dead_broker_and_a_dead_clickhouse_end_the_start_with_1() {
    let bench = Bench::shared("start_tries");
    let nobody = format!("127.0.0.1:{}", free_port());
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let password = bench.start(&[("CLICKHOUSE_PASSWORD", "not-the-password")]);
    let kafka = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &nobody)]);
    let clickhouse = bench.start(&[("CLICKHOUSE_URL", &nowhere)]);
    password.wait_log(LIMIT, &["CLICKHOUSE_PASSWORD", "ingest"]);
    kafka.wait_log(LIMIT, &[&nobody]);
    for consumer in [&password, &kafka, &clickhouse] {
        assert_eq!(consumer.wait_exit(START_TRIES), Some(1));
    }
    let line = error_with(&password, &["CLICKHOUSE_PASSWORD"]);
    assert_eq!(password.find_log(&["not-the-password"]), None, "a secret in the log; the cause was {line}");
    error_with(&kafka, &["KAFKA_BOOTSTRAP_SERVERS", &nobody]);
    error_with(&clickhouse, &["CLICKHOUSE_URL", nowhere.trim_start_matches("http://")]);
}

#[test]
fn a_missing_table_is_waited_for() {
    let bench = Bench::bare("no_table", Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic(&bench.topic, PARTITIONS);
    let indices = bench.produce(500);
    let consumer = bench.start(&[]);
    error_with_in(&consumer, LIMIT, &[&bench.database, "does not exist", "CLICKHOUSE_TABLE"]);
    consumer.wait_health(503, LIMIT);
    bench.create_table(SHIPPED);
    bench.wait_rows(&consumer, 500, Duration::from_secs(90));
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(indices);
}

#[test]
fn a_missing_topic_is_waited_for() {
    let bench = Bench::bare("no_topic", Kafka::shared(), ClickHouse::shared());
    bench.create_table(SHIPPED);
    let consumer = bench.start(&[]);
    error_with_in(&consumer, LIMIT, &[&bench.topic, "KAFKA_TOPIC"]);
    consumer.wait_health(503, LIMIT);
    bench.kafka.create_topic(&bench.topic, PARTITIONS);
    let indices = bench.produce(500);
    bench.wait_rows(&consumer, 500, Duration::from_secs(90));
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(indices);
}

#[test]
fn a_column_that_no_event_can_fill_ends_the_start_with_2() {
    let bench = Bench::shared("odd_column");
    let column = "ADD COLUMN shape Tuple(Float64, Float64)";
    bench.clickhouse.query(&format!("ALTER TABLE {}.events {column}", bench.database));
    let consumer = bench.start(&[]);
    assert_eq!(consumer.wait_exit(LIMIT), Some(2));
    error_with(&consumer, &["shape", "Tuple"]);
}

#[test]
fn a_port_in_use_is_named() {
    let bench = Bench::shared("port");
    let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let consumer = bench.start(&[("HEALTH_PORT", &port)]);
    assert_eq!(consumer.wait_exit(LIMIT), Some(1));
    error_with(&consumer, &["HEALTH_PORT", &port, "in use"]);
}

#[test]
fn every_bad_variable_is_named_at_once() {
    let bench = Bench::bare("variables", Kafka::shared(), ClickHouse::shared());
    let bad = [
        ("BATCH_SIZE", "0"),
        ("BATCH_TIMEOUT_MS", "soon"),
        ("HEALTH_PORT", "70000"),
        ("LOG_LEVEL", "LOUD"),
        ("KAFKA_AUTO_OFFSET_RESET", "middle"),
        ("KAFKA_BOOTSTRAP_SERVERS", "broker01:port"),
        ("CLICKHOUSE_URL", "ftp://clickhouse"),
    ];
    let consumer = bench.start(&bad);
    assert_eq!(consumer.wait_exit(LIMIT), Some(2));
    let log: String = consumer.log_lines().iter().map(Value::to_string).collect();
    for (name, value) in bad {
        assert!(log.contains(name) && log.contains(value), "{name}={value} is not named in: {log}");
    }
}

/// An ERROR line of an ended program with all of these words.
fn error_with(consumer: &Consumer, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["\"level\":\"ERROR\""]).collect();
    consumer.find_log(&words).unwrap_or_else(|| panic!("no line with {words:?} in {:#?}", consumer.log_lines()))
}

/// Waits for one of a running program.
fn error_with_in(consumer: &Consumer, limit: Duration, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["\"level\":\"ERROR\""]).collect();
    consumer.wait_log(limit, &words)
}
