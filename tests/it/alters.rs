//! The table changes while events flow: nothing is lost, nothing doubled, nobody restarts.

use std::time::Duration;

use crate::harness::bench::SHIPPED;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka};

const LIMIT: Duration = Duration::from_secs(120);
const RATE: f64 = 2_500.0;

#[test]
fn columns_come_go_and_change_under_load() {
    let bench = Bench::new("alters", Kafka::shared(), ClickHouse::shared(), SHIPPED);
    let replicas = [bench.start(&[("BATCH_SIZE", "500")]), bench.start(&[("BATCH_SIZE", "500")])];
    replicas.iter().for_each(|replica| drop(replica.wait_healthy()));
    let flood = bench.produce_at(50_000, Some(RATE));
    bench.wait_rows(&replicas[0], 2_000, LIMIT);
    let mut behind = 2_000;
    for change in [
        "ADD COLUMN added String DEFAULT 'd' FIRST",
        "DROP COLUMN severity",
        "RENAME COLUMN violation_type TO violation",
        "MODIFY COLUMN version_number UInt64",
        "MODIFY COLUMN agent_id LowCardinality(String)",
        "MODIFY COLUMN denial_reason Nullable(String)",
        "ADD COLUMN severity LowCardinality(String), DROP COLUMN added",
    ] {
        assert!(!flood.is_over(), "the load ended before {change}");
        bench.clickhouse.query(&format!("ALTER TABLE {}.events {change}", bench.database));
        // Rows that were stored for certain after the change.
        behind = bench.rows().max(behind) + 3_000;
        bench.wait_rows(&replicas[0], behind, LIMIT);
    }
    let all = flood.wait();
    finish(&bench, &replicas, all.end);
    let changed = "the table has changed";
    assert!(replicas.iter().any(|replica| replica.find_log(&[changed]).is_some()), "a dropped column is an error");
    bench.assert_exactly_once(all);
}

#[test]
fn tables_are_exchanged_dropped_and_created_under_load() {
    let bench = Bench::new("exchange", Kafka::shared(), ClickHouse::shared(), SHIPPED);
    let database = &bench.database;
    let query = |sql: &str| bench.clickhouse.query(sql);
    let replicas = [bench.start(&[("BATCH_SIZE", "500")]), bench.start(&[("BATCH_SIZE", "500")])];
    replicas.iter().for_each(|replica| drop(replica.wait_healthy()));
    let flood = bench.produce_at(50_000, Some(RATE));
    bench.wait_rows(&replicas[0], 2_000, LIMIT);

    // A new table with fewer and other columns takes the name.
    query(&format!(
        "CREATE TABLE {database}.next (event_id UUID, event_time DateTime64(6, 'UTC'), org_id FixedString(64), new_one Nullable(String)) \
         ENGINE = MergeTree ORDER BY event_id SETTINGS non_replicated_deduplication_window = 10000"
    ));
    query(&format!("EXCHANGE TABLES {database}.events AND {database}.next"));
    bench.wait_rows(&replicas[0], 3_000, LIMIT);

    // Gone: moved away rather than dropped, so that its rows can be counted; to the program it is the same.
    query(&format!("RENAME TABLE {database}.events TO {database}.moved"));
    for replica in &replicas {
        let health = replica.wait_health(503, LIMIT);
        assert_eq!(health["kafka_connected"], true, "the membership stays: {health}");
    }
    query(&format!("CREATE TABLE {database}.events AS {database}.next"));
    replicas.iter().for_each(|replica| drop(replica.wait_health(200, LIMIT)));
    bench.wait_rows(&replicas[0], 3_000, LIMIT);
    query(&format!("RENAME TABLE {database}.events TO {database}.again"));
    query(&format!("CREATE TABLE {database}.events AS {database}.next"));
    bench.wait_rows(&replicas[0], 3_000, LIMIT);

    let all = flood.wait();
    for (at, replica) in replicas.iter().enumerate() {
        bench.wait_committed_to_the_end(replica, LIMIT);
        let health = replica.wait_healthy();
        assert_eq!(health["kafka_connected"], true, "replica {at}: {health}");
        replica.stop();
    }
    for old in ["next", "moved", "again"] {
        query(&format!("INSERT INTO {database}.events (event_id) SELECT event_id FROM {database}.{old}"));
    }
    bench.assert_exactly_once(all);
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

fn finish(bench: &Bench<'_>, replicas: &[Consumer], rows: u64) {
    bench.wait_rows(&replicas[0], rows, LIMIT);
    for replica in replicas {
        bench.wait_committed_to_the_end(replica, LIMIT);
        replica.wait_healthy();
        replica.stop();
    }
}
