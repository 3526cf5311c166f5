//! Rights at ClickHouse: what a user lacks is named with the statement that grants it, and that statement is enough.

use std::process::Command;
use std::time::Duration;

use crate::harness::bench::SHIPPED;
use crate::harness::consumer::binary;
use crate::harness::{Bench, ClickHouse, Kafka};

const LIMIT: Duration = Duration::from_secs(60);
const LOGIN: [(&str, &str); 2] = [("CLICKHOUSE_USER", "writer"), ("CLICKHOUSE_PASSWORD", "w")];

/// The exit code and the lines of `check` as the user.
fn check(bench: &Bench<'_>) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    let output = command.arg("check").env_clear().envs(bench.env(&LOGIN)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    (output.status.code(), text)
}

/// The user gets these rights and no others: a new start takes them up.
fn grant(clickhouse: &ClickHouse, rights: &[&str]) {
    let rights: String = rights.iter().map(|right| format!("<query>{right}</query>")).collect();
    let user = format!(
        "<writer><password>w</password><networks><ip>::/0</ip></networks><profile>default</profile>\
         <quota>default</quota><grants>{rights}</grants></writer>"
    );
    clickhouse.kill9();
    clickhouse.restart_with(&["--users", &user]);
}

/// The line that begins so, and its statement as the server's configuration takes it: without whom it is for.
fn cure<'a>(text: &'a str, head: &str) -> (&'a str, &'a str) {
    let line = text.lines().find(|line| line.starts_with(head)).unwrap_or_else(|| panic!("no {head:?} in:\n{text}"));
    let statement = line.split_once("grant it: ").and_then(|(_, rest)| rest.split_once(" TO writer "));
    (line, statement.unwrap_or_else(|| panic!("no statement in {line:?}")).0)
}

#[test]
fn the_right_that_a_user_lacks_is_named_with_the_statement_that_grants_it() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("grants", Kafka::shared(), &clickhouse, SHIPPED);
    let table = format!("{}.events", bench.database);
    let insert = format!("GRANT INSERT ON {table}");

    // No right at all: not even the columns can be seen.
    grant(&clickhouse, &["GRANT SELECT ON system.one"]);
    let (code, text) = check(&bench);
    assert_eq!(code, Some(1), "{text}");
    let (line, statement) = cure(&text, "FAIL table: ");
    assert!(line.contains("SHOW COLUMNS"), "{line}");
    assert_eq!(statement, insert);

    // The columns can be seen, rows cannot be inserted.
    let select = format!("GRANT SELECT ON {table}");
    grant(&clickhouse, &[&select]);
    let (code, text) = check(&bench);
    assert_eq!(code, Some(1), "{text}");
    let (line, statement) = cure(&text, "FAIL inserts: ");
    assert!(line.contains("INSERT("), "{line}");
    assert_eq!(statement, insert);

    // Into all columns but one.
    let columns = clickhouse.rows(&format!(
        "SELECT arrayStringConcat(groupArray(name), ', ') FROM system.columns \
         WHERE database = '{}' AND table = 'events' AND name != 'severity'",
        bench.database
    ));
    let most = format!("GRANT INSERT({}) ON {table}", columns[0][0]);
    grant(&clickhouse, &[&select, &most]);
    let (code, text) = check(&bench);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(cure(&text, "FAIL inserts: ").1, insert);

    // That statement and nothing else: enough for a run.
    grant(&clickhouse, &[&insert]);
    let (code, text) = check(&bench);
    assert_eq!(code, Some(0), "{text}");
    for (what, words) in [("table", "MergeTree"), ("inserts", "taken"), ("deduplication", "window 10000")] {
        let told = text.lines().any(|line| line.starts_with(&format!("ok   {what}: ")) && line.contains(words));
        assert!(told, "ok {what} with {words:?} in:\n{text}");
    }
    assert_eq!(bench.rows(), 0, "nothing is changed");
    let consumer = bench.start(&LOGIN);
    bench.produce(500);
    bench.wait_rows(&consumer, 500, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..500);
}

#[test]
fn a_view_that_reads_as_the_user_needs_the_right_to_select() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("viewgrants", Kafka::shared(), &clickhouse, SHIPPED);
    let database = &bench.database;
    clickhouse.query(&format!(
        "CREATE TABLE {database}.ids (event_id UUID) ENGINE = MergeTree ORDER BY event_id \
         SETTINGS non_replicated_deduplication_window = 1000"
    ));
    let create = |security: &str| {
        clickhouse.query(&format!(
            "CREATE MATERIALIZED VIEW {database}.ids_view TO {database}.ids {security} AS \
             SELECT event_id FROM {database}.events"
        ));
    };
    let (insert, select) = (format!("GRANT INSERT ON {database}.events"), format!("GRANT SELECT ON {database}.events"));
    let show = format!("GRANT SHOW TABLES ON {database}.ids_view");
    create("");

    // Hidden from the user, it may have rights of its own; seen, it has not.
    grant(&clickhouse, &[&insert]);
    let (code, text) = check(&bench);
    assert_eq!((code, cure(&text, "warn inserts: ").1), (Some(0), select.as_str()), "{text}");
    grant(&clickhouse, &[&insert, &show]);
    let (code, text) = check(&bench);
    let (line, statement) = cure(&text, "FAIL inserts: ");
    assert_eq!((code, statement), (Some(1), select.as_str()), "{text}");
    assert!(line.contains("ids_view") && line.contains("SELECT(event_id)"), "{line}");

    // A run waits, says why, and goes on with that right. The table holds the refused rows, and takes them once.
    let consumer = bench.start(&LOGIN);
    bench.produce(500);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", "Code: 497", "while pushing to view", "SQL SECURITY DEFINER"]);
    grant(&clickhouse, &[&insert, &show, &select]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..500);
    assert_eq!(clickhouse.number(&format!("SELECT count() FROM {database}.ids")), 500);
    let (code, text) = check(&bench);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("FAIL") && !text.contains("warn inserts"), "{text}");

    // With the rights of who made it, the view needs none of the user's.
    clickhouse.query(&format!("DROP TABLE {database}.ids_view SYNC"));
    create("DEFINER = ingest SQL SECURITY DEFINER");
    grant(&clickhouse, &[&insert, &show]);
    let (code, text) = check(&bench);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("warn inserts"), "{text}");
    let consumer = bench.start(&LOGIN);
    let all = bench.produce(500);
    bench.wait_rows(&consumer, all.end, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..all.end);
    assert_eq!(clickhouse.number(&format!("SELECT count() FROM {database}.ids")), all.end);
}
