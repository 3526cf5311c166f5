//! Users whose profiles have other settings than the program counts on: what is cut must not pass for stored.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;

use crate::harness::bench::SHIPPED;
use crate::harness::consumer::binary;
use crate::harness::{Bench, ClickHouse, Kafka, same};

const LIMIT: Duration = Duration::from_secs(60);

/// Each user has the profile of its name.
const PROFILES: [(&str, &str); 6] = [
    ("breaks", "<timeout_overflow_mode>break</timeout_overflow_mode>"),
    (
        "cuts",
        "<materialized_views_ignore_errors>1</materialized_views_ignore_errors>\
         <max_rows_in_set>10</max_rows_in_set><set_overflow_mode>break</set_overflow_mode>\
         <max_rows_in_join>10</max_rows_in_join><join_overflow_mode>break</join_overflow_mode>\
         <max_rows_to_group_by>10</max_rows_to_group_by><group_by_overflow_mode>any</group_by_overflow_mode>\
         <max_rows_to_sort>10</max_rows_to_sort><sort_overflow_mode>break</sort_overflow_mode>\
         <max_block_size>1000</max_block_size>",
    ),
    (
        "narrow",
        "<limit>2</limit><offset>1</offset><max_result_rows>1</max_result_rows>\
         <result_overflow_mode>break</result_overflow_mode><max_rows_to_read>1</max_rows_to_read>\
         <read_overflow_mode>break</read_overflow_mode><max_block_size>1</max_block_size>\
         <describe_include_subcolumns>1</describe_include_subcolumns>\
         <output_format_json_quote_64bit_integers>1</output_format_json_quote_64bit_integers>",
    ),
    ("blind", "<limit>2</limit><constraints><limit><const/></limit></constraints>"),
    (
        "progress",
        "<send_progress_in_http_headers>1</send_progress_in_http_headers>\
         <http_headers_progress_interval_ms>0</http_headers_progress_interval_ms>",
    ),
    (
        "bound",
        "<max_execution_time>7</max_execution_time><constraints><max_insert_threads><const/></max_insert_threads>\
         <max_execution_time><max>7</max></max_execution_time><timeout_overflow_mode><const/></timeout_overflow_mode>\
         </constraints>",
    ),
];

fn server() -> &'static ClickHouse {
    static SERVER: OnceLock<ClickHouse> = OnceLock::new();
    SERVER.get_or_init(|| {
        let profiles: String = PROFILES.iter().map(|(name, settings)| format!("<{name}>{settings}</{name}>")).collect();
        let users: Vec<String> = PROFILES.iter().map(|(name, _)| user(name)).collect();
        ClickHouse::start_with("ingest", "sandarb", &["--users", &users.concat(), "--profiles", &profiles])
    })
}

fn user(name: &str) -> String {
    format!(
        "<{name}><password>p</password><networks><ip>::/0</ip></networks><profile>{name}</profile>\
         <quota>default</quota></{name}>"
    )
}

fn login(name: &str) -> [(&str, &str); 3] {
    [("CLICKHOUSE_USER", name), ("CLICKHOUSE_PASSWORD", "p"), ("CLICKHOUSE_TIMEOUT_MS", "2000")]
}

fn committed(bench: &Bench<'_>) -> i64 {
    bench.kafka.committed(&bench.group, &bench.topic).values().sum()
}

#[test]
fn a_slow_insert_that_the_profile_lets_break_is_not_taken_for_stored() {
    let bench = Bench::new("breaks", Kafka::shared(), server(), SHIPPED);
    let table = format!("{}.events", bench.database);
    bench.clickhouse.query(&format!("ALTER TABLE {table} ADD COLUMN slow UInt8 MATERIALIZED sleepEachRow(0.5)"));
    bench.produce(5);
    let consumer = bench.start(&login("breaks"));
    consumer.wait(LIMIT, "a second attempt, or a commit", || {
        let (attempts, committed) = (consumer.status()?["clickhouse"]["failed_attempts"].as_u64(), committed(&bench));
        if attempts > Some(1) || committed == 5 { Ok(()) } else { Err(format!("{attempts:?} {committed}")) }
    });
    assert_eq!(committed(&bench), bench.rows() as i64, "more is committed than stored");
    bench.clickhouse.query(&format!("ALTER TABLE {table} DROP COLUMN slow"));
    bench.wait_rows(&consumer, 5, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..5);
}

#[test]
fn what_a_profile_lets_a_view_lose_stops_the_insert() {
    let bench = Bench::new("cuts", Kafka::shared(), server(), SHIPPED);
    let (clickhouse, database) = (bench.clickhouse, &bench.database);
    clickhouse.query(&format!("CREATE TABLE {database}.ids (event_id UUID) ENGINE = MergeTree ORDER BY event_id"));
    let views = [
        (
            "failing",
            "SELECT event_id FROM {events} WHERE throwIf(event_id != '00000000-0000-0000-0000-000000000000') = 0",
        ),
        (
            "in_set",
            "SELECT event_id FROM {events} WHERE cityHash64(event_id) % 100000 IN (SELECT number FROM numbers(100000))",
        ),
        (
            "joining",
            "SELECT event_id FROM {events} AS e JOIN (SELECT number FROM numbers(100000)) AS j \
             ON cityHash64(e.event_id) % 100000 = j.number",
        ),
        (
            "grouping",
            "SELECT event_id FROM {events} WHERE cityHash64(event_id) % 100000 IN \
             (SELECT number FROM numbers(100000) GROUP BY number)",
        ),
    ];
    let mut stored = 0;
    for (name, select) in views {
        clickhouse.query(&format!("TRUNCATE TABLE {database}.ids"));
        let select = select.replace("{events}", &format!("{database}.events"));
        clickhouse.query(&format!("CREATE MATERIALIZED VIEW {database}.{name} TO {database}.ids AS {select}"));
        let consumer = bench.start(&login("cuts"));
        bench.produce(50);
        consumer.wait(LIMIT, name, || {
            let failed = consumer.status()?["clickhouse"]["failed_attempts"].as_u64();
            same(failed.filter(|failed| *failed > 0 || committed(&bench) > stored).is_some(), true)
        });
        assert_eq!(committed(&bench), stored, "{name}: committed, with {} of 50 rows in the view", rows(&bench, "ids"));
        consumer.wait_log(LIMIT, &["while pushing to view", name]);
        clickhouse.query(&format!("DROP TABLE {database}.{name} SYNC"));
        bench.wait_committed_to_the_end(&consumer, LIMIT);
        consumer.stop();
        stored += 50;
    }
    bench.assert_exactly_once(0..200);
}

fn rows(bench: &Bench<'_>, table: &str) -> u64 {
    bench.clickhouse.number(&format!("SELECT count() FROM {}.{table}", bench.database))
}

#[test]
fn a_refusal_is_one_though_the_profile_sends_progress_first() {
    let bench = Bench::new("progress", Kafka::shared(), server(), SHIPPED);
    let table = format!("{}.events", bench.database);
    let id = bench.source.event(7).event_id;
    bench.clickhouse.query(&format!("ALTER TABLE {table} ADD CONSTRAINT others CHECK event_id != '{id}'"));
    bench.produce(20);
    let consumer = bench.start(&login("progress"));
    bench.wait_rows(&consumer, 19, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
}

#[test]
fn settings_that_only_tune_are_left_out_where_the_profile_binds_them() {
    let bench = Bench::new("bound", Kafka::shared(), server(), SHIPPED);
    let mut command = Command::new(binary());
    let env =
        bench.env(&login("bound").map(|(name, value)| (name, if name.ends_with("MS") { "20000" } else { value })));
    let output = command.arg("check").env_clear().envs(&env).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let sent = text.lines().find(|line| line.starts_with("ok   settings: ")).unwrap();
    assert!(sent.contains("timeout_overflow_mode=throw"), "{sent}");
    assert!(!sent.contains("max_insert_threads") && !sent.contains("max_execution_time="), "{sent}");
    let consumer = crate::harness::Consumer::start(&env);
    for events in [100, 200] {
        bench.produce(100);
        bench.wait_rows(&consumer, events, LIMIT);
    }
    consumer.wait_healthy();
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    for setting in ["max_insert_threads", "max_execution_time"] {
        let lines = consumer.log_lines();
        let said = lines.iter().filter(|line| line.to_string().contains(setting)).count();
        assert_eq!(said, 1, "one line about {setting}: {lines:?}");
    }
    bench.assert_exactly_once(0..200);
}

#[test]
fn a_thousand_columns_of_sixty_letters_are_filled() {
    let clickhouse = ClickHouse::shared();
    let bench = Bench::bare("wide", Kafka::shared(), clickhouse);
    bench.kafka.create_topic(&bench.topic, 1);
    let name = |index: usize| format!("{index:04}_{}s", "column".repeat(9));
    let columns: Vec<String> = (0..1000).map(|index| format!("`{}` String", name(index))).collect();
    clickhouse.query(&format!("CREATE DATABASE {}", bench.database));
    clickhouse.query(&format!(
        "CREATE TABLE {}.events ({}) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 100",
        bench.database,
        columns.join(", ")
    ));
    for (compression, done) in [("lz4", 1), ("none", 2)] {
        let consumer = bench.start(&[("CLICKHOUSE_COMPRESSION", compression)]);
        let event = json!({ name(0): compression, name(999): "last" }).to_string();
        bench.kafka.produce(&bench.topic, 0, None, Some(event.as_bytes()));
        bench.wait_rows(&consumer, done, LIMIT);
        consumer.wait_healthy();
        consumer.stop();
        let found = format!("SELECT `{}`, `{}` FROM {}.events", name(0), name(999), bench.database);
        assert!(clickhouse.rows(&found).contains(&vec![compression.to_owned(), "last".to_owned()]));
    }
}

#[test]
fn every_column_is_seen_whatever_limits_the_profile_has() {
    for user in ["narrow", "blind"] {
        let bench = Bench::new(user, Kafka::shared(), server(), SHIPPED);
        bench.produce(100);
        let consumer = bench.start(&login(user));
        bench.wait_rows(&consumer, 100, LIMIT);
        bench.wait_committed_to_the_end(&consumer, LIMIT);
        consumer.wait_healthy();
        consumer.stop();
        bench.assert_exactly_once(0..100);
        // A column that the program does not see would have its default in each row.
        let agents = format!("SELECT uniq(agent_id) FROM {}.events", bench.database);
        assert!(bench.clickhouse.number(&agents) > 1);
    }
}
