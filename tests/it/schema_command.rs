//! `schema`: what it prints makes the table; what it applies leaves alone what is there.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use crate::harness::consumer::binary;
use crate::harness::{ClickHouse, free_port};

pub(crate) fn schema(clickhouse: &ClickHouse, arguments: &[&str], more: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.arg("schema").args(arguments).env_clear();
    command.env("CLICKHOUSE_URL", clickhouse.url()).env("CLICKHOUSE_USER", &clickhouse.user);
    command.env("CLICKHOUSE_PASSWORD", &clickhouse.password).envs(more.iter().copied());
    command.output().unwrap()
}

pub(crate) fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

pub(crate) fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_it_prints_makes_the_table_under_any_name() {
    let clickhouse = ClickHouse::shared();
    let names = [("CLICKHOUSE_DATABASE", "it schema `1`"), ("CLICKHOUSE_TABLE", "my-events")];
    let output = schema(clickhouse, &[], &names);
    assert_eq!((output.status.code(), error(&output)), (Some(0), String::new()));
    let sql = String::from_utf8(output.stdout).unwrap();
    for word in ["non_replicated_deduplication_window = 10000", "INTERVAL 2 YEAR", "PARTITION BY toYYYYMM(event_time)"]
    {
        assert!(sql.contains(word), "{word} in {sql}");
    }
    let code: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
    for statement in code.join("\n").split(";\n").filter(|statement| !statement.trim().is_empty()) {
        clickhouse.query(statement.trim().trim_end_matches(';'));
    }
    let count = "SELECT count() FROM system.columns WHERE database = 'it schema `1`' AND table = 'my-events'";
    assert_eq!(clickhouse.number(count), 27);
    // The same as applied.
    let output = schema(clickhouse, &["--apply"], &names);
    assert_eq!(
        lines(&output),
        [
            "left alone: database `it schema \\`1\\`` exists already",
            "left alone: table `it schema \\`1\\``.`my-events` exists already",
        ],
        "{}",
        error(&output)
    );
}

#[test]
fn apply_creates_what_is_missing_and_says_what_it_leaves_alone() {
    let clickhouse = ClickHouse::shared();
    let database = "it_schema_apply";
    let names = [("CLICKHOUSE_DATABASE", database)];
    let views = schema(clickhouse, &["--views"], &names);
    assert!(
        String::from_utf8_lossy(&views.stdout).contains("CREATE MATERIALIZED VIEW IF NOT EXISTS `it_schema_apply`.")
    );

    clickhouse.query(&format!("CREATE DATABASE {database}"));
    clickhouse.query(&format!("CREATE TABLE {database}.top_contexts (a UInt8) ENGINE = MergeTree ORDER BY a"));
    let drop = |name: &str| clickhouse.query(&format!("DROP TABLE {database}.{name}"));
    // A foreign table with a target's name: it is left alone, its view is not created, everything else is.
    let output = schema(clickhouse, &["--apply", "--views"], &names);
    let said = lines(&output);
    assert_eq!(output.status.code(), Some(1), "{said:?}");
    assert!(error(&output).contains("top_contexts_mv"), "{}", error(&output));
    assert_eq!(error(&output).lines().count(), 1, "{}", error(&output));
    assert_eq!(said[0], "left alone: database `it_schema_apply` exists already");
    assert_eq!(said[1], "created: table `it_schema_apply`.`events`");
    let left = said.iter().position(|line| line == "left alone: table `it_schema_apply`.top_contexts exists already");
    let told = said[left.unwrap() + 1..].join("\n");
    for word in [
        "it lacks the column inject_count UInt64",
        "it has the column a UInt8",
        "MODIFY SETTING non_replicated_deduplication_window = 10000",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(told.contains("not created: materialized view `it_schema_apply`.top_contexts_mv: table"), "{told}");
    assert_eq!(said.iter().filter(|line| line.starts_with("created: ")).count(), 9, "{said:#?}");

    drop("top_contexts");
    let output = schema(clickhouse, &["--apply", "--views", "--reports"], &names);
    assert_eq!((output.status.code(), error(&output)), (Some(0), String::new()));
    assert_eq!(lines(&output).len(), 22, "{:?}", lines(&output));
    let output = schema(clickhouse, &["--apply", "--views", "--reports"], &names);
    assert_eq!(output.status.code(), Some(0));
    assert!(lines(&output).iter().all(|line| line.starts_with("left alone: ")), "{:#?}", lines(&output));
    assert_eq!(lines(&output).len(), 22);

    let count = |what: &str| clickhouse.number(&format!("SELECT count() FROM system.{what}"));
    let of = format!("database = '{database}'");
    assert_eq!(count(&format!("tables WHERE {of} AND engine = 'MaterializedView'")), 10);
    let windows = "engine_full LIKE '%non_replicated_deduplication_window = 10000%'";
    assert_eq!(count(&format!("tables WHERE {of} AND {windows}")), 11, "the table and every view's target");
    // Plain numbers in an AggregatingMergeTree would keep one value of many when parts merge.
    let plain = "table IN (SELECT name FROM system.tables WHERE engine = 'AggregatingMergeTree') AND \
                 type NOT LIKE '%AggregateFunction%' AND is_in_sorting_key = 0";
    assert_eq!(count(&format!("columns WHERE {of} AND {plain}")), 0);
    assert!(count(&format!("columns WHERE {of} AND type LIKE 'SimpleAggregateFunction(sum, UInt64)'")) >= 5);
}

/// A view that is not the shipped one, and an events table that lacks what the views read: each is said, the rest is
/// created.
#[test]
fn apply_says_in_what_things_differ_and_what_the_server_refuses() {
    let clickhouse = ClickHouse::shared();
    let database = "it_schema_differs";
    let apply = || schema(clickhouse, &["--apply", "--views"], &[("CLICKHOUSE_DATABASE", database)]);
    clickhouse.query(&format!("CREATE DATABASE {database}"));
    let columns = "event_id UUID, event_type String, event_time DateTime64(3), org_id String";
    clickhouse.query(&format!("CREATE TABLE {database}.events ({columns}) ENGINE = MergeTree ORDER BY event_id"));
    let output = apply();
    let said = lines(&output);
    assert_eq!(output.status.code(), Some(1), "{said:?}");
    let told = said.join("\n");
    for word in [
        "its column event_type is String, shipped is LowCardinality(String)",
        "it lacks the column agent_id String",
        "its ORDER BY is (event_id), shipped is (org_id, event_type, event_time, event_id)",
        "to change that: ALTER TABLE `it_schema_differs`.`events` ADD COLUMN event_category LowCardinality(String)",
        "created: table `it_schema_differs`.denial_reasons",
        "not created: materialized view `it_schema_differs`.denial_reasons_mv: ",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let repair = said.iter().find_map(|line| line.strip_prefix("  to change that: ").filter(|sql| sql.contains("ADD")));
    clickhouse.query(repair.unwrap());
    let output = apply();
    assert_eq!((output.status.code(), error(&output)), (Some(0), String::new()), "{:#?}", lines(&output));

    clickhouse.query(&format!("DROP VIEW {database}.top_contexts_mv"));
    let select = format!(
        "SELECT denial_reason, event_type, toDate(event_time) AS day, count() AS denial_count FROM {database}.events GROUP BY denial_reason, event_type, day"
    );
    clickhouse.query(&format!(
        "CREATE MATERIALIZED VIEW {database}.top_contexts_mv TO {database}.denial_reasons AS {select}"
    ));
    let output = apply();
    let told = lines(&output).join("\n");
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("it writes to it_schema_differs.denial_reasons, shipped is it_schema_differs.top_contexts"),
        "{told}"
    );
    assert!(told.contains("its query is SELECT denial_reason, event_type, toDate(event_time) AS day,"), "{told}");
    assert!(told.contains("shipped is SELECT context_name, toDate(event_time) AS day, count() AS inject_count FROM it_schema_differs.events WHERE event_type IN ("), "{told}");
}

#[test]
fn faults_have_their_exit_codes_and_cures() {
    let clickhouse = ClickHouse::shared();
    let refused = schema(clickhouse, &["--apply"], &[("CLICKHOUSE_PASSWORD", "wrong")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        error(&refused).contains("CLICKHOUSE_PASSWORD") && !error(&refused).contains("wrong"),
        "{}",
        error(&refused)
    );
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let output = schema(clickhouse, &["--apply"], &[("CLICKHOUSE_URL", &nowhere)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("CLICKHOUSE_URL"), "{}", error(&output));
    // The second address answers.
    let both = format!("{nowhere},{}", clickhouse.url());
    let output =
        schema(clickhouse, &["--apply"], &[("CLICKHOUSE_URL", &both), ("CLICKHOUSE_DATABASE", "it_schema_both")]);
    assert_eq!((output.status.code(), lines(&output).len()), (Some(0), 2), "{}", error(&output));
    let output = schema(clickhouse, &[], &[("CLICKHOUSE_URL", "ftp://x"), ("CLICKHOUSE_TIMEOUT_MS", "soon")]);
    assert_eq!((output.status.code(), lines(&output).len()), (Some(2), 0));
    assert!(error(&output).contains("CLICKHOUSE_URL") && error(&output).contains("CLICKHOUSE_TIMEOUT_MS"));
    // What it does not need may be wrong.
    assert_eq!(schema(clickhouse, &[], &[("BATCH_SIZE", "x")]).status.code(), Some(0));
}

/// A forwarder to the server that is gone as soon as it reads this text.
fn gone_at(port: u16, text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut answers, &mut back));
            let mut bytes = [0; 65536];
            loop {
                let count = client.read(&mut bytes).unwrap();
                if String::from_utf8_lossy(&bytes[..count]).contains(text) {
                    client.shutdown(Shutdown::Both).unwrap();
                    return;
                }
                if count == 0 {
                    break;
                }
                server.write_all(&bytes[..count]).unwrap();
            }
        }
    });
    url
}

#[test]
fn apply_that_loses_the_server_says_what_was_done_and_what_was_not() {
    let clickhouse = ClickHouse::shared();
    let url = gone_at(clickhouse.port, "CREATE TABLE IF NOT EXISTS `it_schema_lost`.top_contexts");
    let names = [("CLICKHOUSE_DATABASE", "it_schema_lost")];
    let lost = schema(clickhouse, &["--apply", "--views"], &[names[0], ("CLICKHOUSE_URL", &url)]);
    let said = lines(&lost);
    assert_eq!(lost.status.code(), Some(1), "{said:?}");
    assert!(error(&lost).contains("top_contexts"), "{}", error(&lost));
    assert_eq!(said.iter().filter(|line| line.starts_with("created: ")).count(), 6, "{said:#?}");
    let last = said.last().unwrap();
    assert!(last.starts_with("stopped: 6 created; not carried out: table `it_schema_lost`.top_contexts, "), "{last}");
    assert!(last.ends_with("materialized view `it_schema_lost`.denial_reasons_mv"), "{last}");
    // Again, with the server there: what is missing is created.
    let output = schema(clickhouse, &["--apply", "--views"], &names);
    assert_eq!((output.status.code(), error(&output)), (Some(0), String::new()));
    assert_eq!(lines(&output).iter().filter(|line| line.starts_with("created: ")).count(), 6, "{:#?}", lines(&output));
}
