//! What `check` says about deduplication, addresses and logins on a real server.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::bench::SHIPPED;
use crate::harness::consumer::binary;
use crate::harness::guarded::Guarded;
use crate::harness::{Bench, ClickHouse, Kafka, free_port};

/// The exit code and the lines of `check`.
fn check(bench: &Bench<'_>, more: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    let output = command.arg("check").env_clear().envs(bench.env(more)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    (output.status.code(), text)
}

#[track_caller]
fn has(text: &str, head: &str, words: &[&str]) {
    let found = text.lines().any(|line| line.starts_with(head) && words.iter().all(|word| line.contains(word)));
    assert!(found, "{head:?} with {words:?} in:\n{text}");
}

#[test]
fn check_follows_chains_of_views_in_databases_with_any_name() {
    let clickhouse = ClickHouse::shared();
    let bench = Bench::new("chained", Kafka::shared(), clickhouse, SHIPPED);
    let (database, odd) = (&bench.database, format!("`{}``odd\\\\ one`", bench.database));
    let window = "ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 100";
    for sql in [
        format!("CREATE DATABASE {odd}"),
        format!("CREATE TABLE {odd}.`first.one` (event_id UUID) {window}"),
        format!("CREATE MATERIALIZED VIEW {odd}.one TO {odd}.`first.one` AS SELECT event_id FROM {database}.events"),
        format!("CREATE TABLE {odd}.second (event_id UUID) ENGINE = MergeTree ORDER BY event_id"),
        format!("CREATE MATERIALIZED VIEW {odd}.two TO {odd}.second AS SELECT event_id FROM {odd}.`first.one`"),
        format!("CREATE MATERIALIZED VIEW {odd}.three ENGINE = Memory AS SELECT event_id FROM {odd}.second"),
    ] {
        clickhouse.query(&sql);
    }
    let (code, text) = check(&bench, &[]);
    assert_eq!(code, Some(0), "{text}");
    has(&text, "ok   deduplication: ", &["view", ".one: window 100"]);
    has(&text, "warn deduplication: ", &["view", ".two: ", "non_replicated_deduplication_window"]);
    has(&text, "warn deduplication: ", &["view", ".three: ", "Memory cannot recognise them"]);
    let memory = text.lines().find(|line| line.contains(".three: ")).unwrap();
    assert!(!memory.contains("non_replicated_deduplication_window"), "{memory}");
    clickhouse.query(&format!("DROP DATABASE {odd}"));
}

#[test]
fn a_null_table_leaves_deduplication_to_the_tables_behind_it() {
    let clickhouse = ClickHouse::shared();
    let bench = Bench::new("nulltable", Kafka::shared(), clickhouse, SHIPPED);
    let database = &bench.database;
    clickhouse.query(&format!("CREATE TABLE {database}.nothing (event_id UUID) ENGINE = Null"));
    clickhouse.query(&format!("CREATE TABLE {database}.memory (event_id UUID) ENGINE = Memory"));
    let (_, text) = check(&bench, &[("CLICKHOUSE_TABLE", "nothing")]);
    has(&text, "ok   deduplication: ", &["by the tables behind it"]);
    let (_, text) = check(&bench, &[("CLICKHOUSE_TABLE", "memory")]);
    has(&text, "warn deduplication: off", &["Memory cannot recognise them"]);
}

#[test]
fn check_asks_every_address() {
    let clickhouse = ClickHouse::shared();
    let bench = Bench::new("addresses", Kafka::shared(), clickhouse, SHIPPED);
    let nobody = format!("127.0.0.1:{}", free_port());
    let both = format!("{},http://{nobody}", clickhouse.url());
    let (code, text) = check(&bench, &[("CLICKHOUSE_URL", &both)]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, "ok   ClickHouse at 127.0.0.1", &["the same table"]);
    has(&text, &format!("FAIL ClickHouse at {nobody}"), &["CLICKHOUSE_URL"]);
}

#[test]
fn passwords_and_names_keep_their_outer_blanks() {
    let user = "<spaced><password> p w </password><networks><ip>::/0</ip></networks><profile>default</profile>\
                <quota>default</quota></spaced>";
    let clickhouse = ClickHouse::start_with("ingest", "sandarb", &["--users", user]);
    let bench = Bench::new("blanks", Kafka::shared(), &clickhouse, SHIPPED);
    let login = [("CLICKHOUSE_USER", "spaced"), ("CLICKHOUSE_PASSWORD", " p w ")];
    let (code, text) = check(&bench, &login);
    assert_eq!(code, Some(0), "{text}");
    clickhouse.query(&format!("RENAME TABLE {0}.events TO {0}.` events`", bench.database));
    let (code, text) = check(&bench, &[login[0], login[1], ("CLICKHOUSE_TABLE", " events")]);
    assert_eq!(code, Some(0), "{text}");
    let (code, _) = check(&bench, &[login[0], login[1], ("CLICKHOUSE_TABLE", "events")]);
    assert_eq!(code, Some(1), "another table");
}

#[test]
fn a_listener_that_wants_a_login_is_named_to_who_has_none() {
    let guarded = Guarded::shared();
    let bench = Bench::new("nologin", &guarded.kafka, ClickHouse::shared(), SHIPPED);
    let (code, text) = check(&bench, &[("KAFKA_BOOTSTRAP_SERVERS", &format!("127.0.0.1:{}", guarded.port))]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, "FAIL brokers: ", &["wants a login", "KAFKA_SECURITY_PROTOCOL"]);
}

#[test]
fn a_compacted_dead_letter_topic_that_takes_no_record_is_named() {
    let bench = Bench::shared("compacted");
    let dead_letters = format!("{}.dlq", bench.topic);
    bench.kafka.create_topic_with(&dead_letters, 1, &json!({"cleanup.policy": "compact"}));
    bench.kafka.produce(&bench.topic, 0, None, Some(b"no JSON"));
    let consumer = bench.start(&[]);
    consumer.wait(Duration::from_secs(60), "the reason", || {
        let status = consumer.status()?.to_string();
        let named = status.contains("(87)") && status.contains("cleanup.policy=delete");
        if named { Ok(()) } else { Err(status) }
    });
}
