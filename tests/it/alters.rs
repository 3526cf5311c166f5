//! The table changes while events flow: nothing is lost, nothing doubled, nobody restarts.

use std::ops::Range;
use std::time::Duration;

use crate::harness::bench::{PARTITIONS, Producing, SHIPPED};
use crate::harness::fleet::wait_shares;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka};

const LIMIT: Duration = Duration::from_secs(120);
const RATE: f64 = 2_500.0;
const EVENTS: u64 = 50_000;

#[test]
fn columns_come_go_and_change_under_load() {
    let bench = Bench::new("alters", Kafka::shared(), ClickHouse::shared(), SHIPPED);
    let (replicas, flood) = two_under_load(&bench);
    let mut behind = 2_000;
    let changes = [
        "ADD COLUMN added String DEFAULT 'd' FIRST",
        "DROP COLUMN severity",
        "RENAME COLUMN violation_type TO violation",
        "MODIFY COLUMN version_number UInt64",
        "MODIFY COLUMN agent_id LowCardinality(String)",
        "MODIFY COLUMN denial_reason Nullable(String)",
        "ADD COLUMN severity LowCardinality(String), DROP COLUMN added",
    ];
    for change in changes {
        under_load(&bench, &flood, &format!("ALTER TABLE {}.events {change}", bench.database));
        // Rows that were stored for certain after the change.
        behind = bench.rows().max(behind) + 3_000;
        bench.wait_rows(&replicas[0], behind, LIMIT);
    }
    let all = finish(&bench, &replicas, flood, &format!("{} × ALTER TABLE", changes.len()));
    let changed = "the table has changed";
    assert!(replicas.iter().any(|replica| replica.find_log(&[changed]).is_some()), "a dropped column is an error");
    assert_each_once(&bench, all);
}

#[test]
fn tables_are_exchanged_dropped_and_created_under_load() {
    let bench = Bench::new("exchange", Kafka::shared(), ClickHouse::shared(), SHIPPED);
    let database = &bench.database;
    let (replicas, flood) = two_under_load(&bench);
    let change = |sql: &str| under_load(&bench, &flood, sql);

    // A new table with fewer and other columns takes the name.
    change(&format!(
        "CREATE TABLE {database}.next (event_id UUID, event_time DateTime64(6, 'UTC'), org_id FixedString(64), new_one Nullable(String)) \
         ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 10000"
    ));
    change(&format!("EXCHANGE TABLES {database}.events AND {database}.next"));
    bench.wait_rows(&replicas[0], 3_000, LIMIT);

    // Gone: moved away rather than dropped, so that its rows can be counted; to the program it is the same.
    change(&format!("RENAME TABLE {database}.events TO {database}.moved"));
    for replica in &replicas {
        let health = replica.wait_health(503, LIMIT);
        assert_eq!(health["kafka_connected"], true, "the membership stays: {health}");
    }
    change(&format!("CREATE TABLE {database}.events AS {database}.next"));
    replicas.iter().for_each(|replica| drop(replica.wait_health(200, LIMIT)));
    bench.wait_rows(&replicas[0], 3_000, LIMIT);
    change(&format!("RENAME TABLE {database}.events TO {database}.again"));
    change(&format!("CREATE TABLE {database}.events AS {database}.next"));
    bench.wait_rows(&replicas[0], 3_000, LIMIT);

    let all = finish(&bench, &replicas, flood, "EXCHANGE TABLES, 2 × RENAME and CREATE TABLE");
    for old in ["next", "moved", "again"] {
        bench
            .clickhouse
            .query(&format!("INSERT INTO {database}.events (event_id) SELECT event_id FROM {database}.{old}"));
    }
    assert_each_once(&bench, all);
}

/// Two replicas with six partitions each, and a load that they have begun to store.
fn two_under_load(bench: &Bench<'_>) -> ([Consumer; 2], Producing) {
    let replicas = [bench.start(&[("BATCH_SIZE", "500")]), bench.start(&[("BATCH_SIZE", "500")])];
    wait_shares(&[&replicas[0], &replicas[1]], PARTITIONS, LIMIT);
    let flood = bench.produce_at(EVENTS, Some(RATE));
    bench.wait_rows(&replicas[0], 2_000, LIMIT);
    (replicas, flood)
}

fn under_load(bench: &Bench<'_>, flood: &Producing, sql: &str) {
    assert!(!flood.is_over(), "the load ended before {sql}");
    bench.clickhouse.query(sql);
}

/// Waits for the end, stops the replicas and prints what they went through: the rate held, and both of them stored rows.
fn finish(bench: &Bench<'_>, replicas: &[Consumer; 2], flood: Producing, what: &str) -> Range<u64> {
    let (all, took) = flood.wait_timed();
    bench.wait_committed_to_the_end(&replicas[0], LIMIT);
    wait_shares(&[&replicas[0], &replicas[1]], PARTITIONS, LIMIT);
    let stored = replicas.each_ref().map(|replica| {
        let health = replica.wait_healthy();
        replica.stop();
        health["events_inserted"].as_u64().unwrap()
    });
    let (seconds, rate) = (took.as_secs_f64(), EVENTS as f64 / took.as_secs_f64());
    println!(
        "{what} under {rate:.0} events/s ({EVENTS} in {seconds:.1} s); rows stored by the two replicas: {stored:?}"
    );
    assert!(rate >= RATE * 0.98, "{rate:.0} events/s are no load of {RATE}");
    assert!(stored.iter().all(|rows| *rows >= EVENTS / 4), "one of the replicas did little: {stored:?}");
    all
}

fn assert_each_once(bench: &Bench<'_>, all: Range<u64>) {
    bench.assert_exactly_once(all.clone());
    println!("{} events: none lost, none doubled", all.end);
}

/// Both wait for the next look at the table: side by side.
#[test]
fn a_dropped_table_is_waited_for_and_a_new_column_filled_within_a_minute() {
    std::thread::scope(|scope| {
        scope.spawn(a_dropped_table_is_waited_for);
        a_new_column_is_filled_though_nothing_fails();
    });
}

fn a_dropped_table_is_waited_for() {
    let bench = Bench::new("dropped", Kafka::shared(), ClickHouse::shared(), SHIPPED);
    let consumer = bench.start(&[]);
    bench.produce(1_000);
    bench.wait_rows(&consumer, 1_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    bench.clickhouse.query(&format!("DROP TABLE {}.events SYNC", bench.database));
    bench.books.set_apart("rows that were dropped with their table");
    let after = bench.produce(1_000);
    let health = consumer.wait_health(503, LIMIT);
    assert_eq!(health["status"], "unhealthy", "{health}");
    let line = consumer.wait_log(LIMIT, &["Code: 60", "CLICKHOUSE_TABLE"]);
    assert_eq!(line["level"], "ERROR", "{line}");
    bench.create_table(SHIPPED);
    bench.wait_rows(&consumer, 1_000, LIMIT);
    consumer.wait_health(200, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(after);
}

fn a_new_column_is_filled_though_nothing_fails() {
    let bench = Bench::shared("added");
    let consumer = bench.start(&[]);
    consumer.wait_healthy();
    let send = |text: &str| bench.kafka.produce(&bench.topic, 0, None, Some(text.as_bytes()));
    send(r#"{"trace_id": "before", "extra": "x"}"#);
    bench.wait_rows(&consumer, 1, LIMIT);
    bench.clickhouse.query(&format!("ALTER TABLE {}.events ADD COLUMN extra Array(String)", bench.database));
    consumer.wait_log(Duration::from_secs(75), &["the table's columns have changed", "28"]);
    send(r#"{"trace_id": "after", "extra": ["x", "y"]}"#);
    bench.wait_rows(&consumer, 2, LIMIT);
    let sql =
        format!("SELECT trace_id, toString(extra) FROM {}.events ORDER BY trace_id FORMAT TSVRaw", bench.database);
    assert_eq!(bench.clickhouse.rows(&sql), [["after", "['x','y']"], ["before", "[]"]]);
    consumer.stop();
}
