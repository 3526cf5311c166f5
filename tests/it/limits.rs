//! A server that has enough for now, or another password: everything is kept and goes on by itself.

use std::time::{Duration, Instant};

use crate::harness::bench::SHIPPED;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka, scratch};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn too_many_parts_slow_it_down_and_lose_nothing() {
    let bench = Bench::shared("parts");
    let table = format!("{}.events", bench.database);
    let limits = "parts_to_delay_insert = 3, parts_to_throw_insert = 6, max_delay_to_insert = 1";
    bench.clickhouse.query(&format!("ALTER TABLE {table} MODIFY SETTING {limits}"));
    bench.clickhouse.query(&format!("SYSTEM STOP MERGES {table}"));
    let indices = bench.produce(5_000);
    let consumer = bench.start(&[("BATCH_SIZE", "500")]);
    consumer.wait_log(LIMIT, &["WARNING", "Code: 252", "Too many parts"]);
    let stored = bench.rows();
    assert!(stored < 5_000, "{stored} rows");
    // Merges catch up: six parts become one, and there is room for the rest.
    bench.clickhouse.query(&format!("SYSTEM START MERGES {table}"));
    bench.clickhouse.query(&format!("OPTIMIZE TABLE {table} FINAL"));
    bench.wait_rows(&consumer, 5_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    assert!(!bench.kafka.topics().contains(&format!("{}.dlq", bench.topic)), "nothing is put aside");
    consumer.stop();
    bench.assert_exactly_once(indices);
}

#[test]
fn the_end_of_a_quota_is_waited_for_and_a_new_password_taken_up() {
    const QUOTA: &str = "<small><interval><duration>10</duration><query_inserts>4</query_inserts></interval></small>";
    let user = |name: &str, password: &str, quota: &str| {
        format!(
            "<{name}><password>{password}</password><networks><ip>::/0</ip></networks><profile>default</profile>\
             <quota>{quota}</quota></{name}>"
        )
    };
    let users = |password: &str| user("limited", "l", "small") + &user("rotating", password, "default");
    let clickhouse = ClickHouse::start_with("ingest", "sandarb", &["--users", &users("first"), "--quotas", QUOTA]);
    quota(&Bench::new("quota", Kafka::shared(), &clickhouse, SHIPPED));
    let bench = Bench::new("rotated", Kafka::shared(), &clickhouse, SHIPPED);
    let restart = || {
        clickhouse.kill9();
        clickhouse.restart_with(&["--users", &users("second"), "--quotas", QUOTA]);
    };
    password(&bench, restart);
}

#[test]
fn a_batch_that_the_servers_memory_does_not_hold_goes_in_as_it_is_once_there_is_more() {
    const USER: &str = "<small><password>s</password><networks><ip>::/0</ip></networks><profile>small</profile>\
                        <quota>default</quota></small>";
    let profile = |bytes: u64| format!("<small><max_memory_usage>{bytes}</max_memory_usage></small>");
    let start = ["--users", USER, "--profiles"];
    let clickhouse = ClickHouse::start_with("ingest", "sandarb", &[&start[..], &[&profile(12_000_000)]].concat());
    let bench = Bench::new("memory_limit", Kafka::shared(), &clickhouse, SHIPPED);
    let indices = bench.produce(20_000);
    let start_with = |batch_size: &str| {
        bench.start(&[
            ("CLICKHOUSE_USER", "small"),
            ("CLICKHOUSE_PASSWORD", "s"),
            ("BATCH_SIZE", batch_size),
            ("SHUTDOWN_TIMEOUT_MS", "2000"),
            // The first one ends without leaving the group: its session is waited out.
            ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
            ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"),
        ])
    };
    let consumer = start_with("20000");
    let line = consumer.wait_log(LIMIT, &["WARNING", "Code: 241"]);
    consumer.wait_log(LIMIT, &["ERROR", "Code: 241", "max_memory_usage", "BATCH_SIZE"]);
    consumer.wait_health(503, LIMIT);
    // Its outcome is unknown: smaller batches come behind it only.
    consumer.signal("TERM");
    assert_eq!(consumer.wait_exit(LIMIT), Some(1));
    let consumer = start_with("1000");
    let again = consumer.wait_log(LIMIT, &["WARNING", "Code: 241"]);
    assert_eq!((&again["rows"], line["rows"].as_u64() > Some(1_000)), (&line["rows"], true), "{line}");
    assert_eq!(bench.rows(), 0);
    clickhouse.kill9();
    clickhouse.restart_with(&[&start[..], &[&profile(4_000_000_000)]].concat());
    bench.wait_rows(&consumer, 20_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    assert!(!bench.kafka.topics().contains(&format!("{}.dlq", bench.topic)), "nothing is put aside");
    consumer.stop();
    bench.assert_exactly_once(indices);
}

fn quota(bench: &Bench<'_>) {
    let indices = bench.produce(4_000);
    let login = [("CLICKHOUSE_USER", "limited"), ("CLICKHOUSE_PASSWORD", "l"), ("BATCH_SIZE", "400")];
    let started = Instant::now();
    let consumer = bench.start(&login);
    let line = consumer.wait_log(LIMIT, &["Code: 201", "nterval will end at"]);
    let pause = line["pause_ms"].as_u64().unwrap();
    assert!(pause <= 12_000, "{line}");
    // The line may come when the interval has ended already.
    let begins = millis(line["ts"].as_str().unwrap().trim_end_matches('Z'));
    let (_, ends) = line["cause"].as_str().unwrap().split_once("will end at ").unwrap();
    let ends = millis(&ends.get(..19).unwrap().replace(' ', "T"));
    assert!(begins + pause >= ends + 990, "not waited for: {line}");
    bench.wait_rows(&consumer, 4_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let health = consumer.wait_healthy();
    // Ten inserts, four in ten seconds; each interval's end is asked for once, or once too early.
    assert!(started.elapsed() >= Duration::from_secs(8), "the quota did not hold");
    assert!(health["errors"].as_u64().unwrap() <= 6, "asked again and again: {health}");
    consumer.stop();
    bench.assert_exactly_once(indices);
}

/// Since 1970-01-01 UTC, of `2026-03-01T12:00:00`, with or without a fraction.
fn millis(text: &str) -> u64 {
    let time: chrono::NaiveDateTime = text.parse().unwrap();
    u64::try_from(time.and_utc().timestamp_millis()).unwrap()
}

fn password(bench: &Bench<'_>, rotate_at_the_server: impl FnOnce()) {
    let file = scratch("secret").join("password");
    std::fs::write(&file, "first\n").unwrap();
    let path = file.to_str().unwrap();
    let mut env = bench.env(&[("CLICKHOUSE_USER", "rotating"), ("CLICKHOUSE_PASSWORD_FILE", path)]);
    env.remove("CLICKHOUSE_PASSWORD");
    let consumer = Consumer::start(&env);
    bench.produce(1_000);
    bench.wait_rows(&consumer, 1_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    rotate_at_the_server();
    bench.produce(1_000);
    let health = consumer.wait_health(503, LIMIT);
    assert_eq!(health["kafka_connected"], true, "{health}");
    consumer.wait_log(LIMIT, &["ERROR", "Code: 516", "CLICKHOUSE_PASSWORD"]);
    assert_eq!(bench.rows(), 1_000);
    std::fs::write(&file, "second\n").unwrap();
    bench.wait_rows(&consumer, 2_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..2_000);
}
