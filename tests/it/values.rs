//! What becomes of single values, from the record in Kafka to the row in the table: each as docs/values.md says.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::bench::PARTITIONS;
use crate::harness::raw::Raw;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka};

const LIMIT: Duration = Duration::from_secs(60);
const TIMESTAMP: i64 = 1_768_954_900_524;

/// What is to become of an event: the row's text of its column, or the class of its dead-letter record.
pub(crate) type Outcome = Result<String, String>;

/// A topic and a table `events (id UInt32, …)` of these columns.
pub(crate) fn bench_with(name: &str, columns: &str) -> Bench<'static> {
    let bench = Bench::bare(name, Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic(&bench.topic, PARTITIONS);
    bench.clickhouse.query(&format!("CREATE DATABASE {}", bench.database));
    let sql = format!(
        "CREATE TABLE {}.events (id UInt32, {columns}) ENGINE = MergeTree ORDER BY id \
         SETTINGS non_replicated_deduplication_window = 10000, allow_suspicious_low_cardinality_types = 1",
        bench.database
    );
    bench.clickhouse.query(&sql);
    bench
}

/// Sends the events, whose `id` is their place in the list, and waits until all of them are settled.
pub(crate) fn settled(bench: &Bench<'_>, consumer: &Consumer, events: &[String]) {
    let records: Vec<Raw> = events.iter().map(|event| Raw::of(event.as_str())).collect();
    bench.kafka.write(&bench.topic, 0, TIMESTAMP, &records);
    bench.wait_committed_to_the_end(consumer, LIMIT);
}

/// The classes of the dead-letter records by offset.
pub(crate) fn rejected(bench: &Bench<'_>) -> BTreeMap<u64, String> {
    let dlq = format!("{}.dlq", bench.topic);
    if !bench.kafka.topics().contains(&dlq) {
        return BTreeMap::new();
    }
    let class = |record: &Raw| record.header("sandarb.class").unwrap().to_owned();
    let records = bench.kafka.read(&dlq, 0);
    records.iter().map(|record| (record.header("sandarb.offset").unwrap().parse().unwrap(), class(record))).collect()
}

/// Asserts what becomes of each value: column, JSON text, and the row's text or else the class of the rejection.
fn assert_outcomes(bench: &Bench<'_>, cases: &[(&str, &str, Result<&str, &str>)]) {
    let consumer = bench.start(&[]);
    let events: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(id, (column, json, _))| format!("{{\"id\": {id}, \"{column}\": {json}}}"))
        .collect();
    settled(bench, &consumer, &events);
    let rejected = rejected(bench);
    let mut wrong = Vec::new();
    for (id, (column, json, wanted)) in (0_u64..).zip(cases) {
        let sql = format!(
            "SELECT replaceAll(toString({column}), '\\'', '\"') FROM {}.events WHERE id = {id}",
            bench.database
        );
        let rows: Vec<String> = bench.clickhouse.rows(&sql).into_iter().flatten().collect();
        let found: Outcome = match (rows.as_slice(), rejected.get(&id)) {
            ([row], None) => Ok(row.clone()),
            ([], Some(class)) => Err(class.clone()),
            other => panic!("{column} <- {json}: {other:?}"),
        };
        let wanted: Outcome = wanted.map(str::to_owned).map_err(str::to_owned);
        if found != wanted {
            wrong.push(format!("{column} <- {json}: {found:?} instead of {wanted:?}"));
        }
    }
    consumer.stop();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn times_and_dates_are_what_they_say_or_rejected() {
    let columns = "d Date, d32 Date32, t DateTime('UTC'), t3 DateTime64(3, 'UTC'), berlin DateTime('Europe/Berlin'), \
                   a Array(Date)";
    let bench = bench_with("times", columns);
    let midnight = Ok("2026-01-02 00:00:00");
    let noon = Ok("2026-01-02 12:34:56");
    let (invalid, range) = (Err("invalid_value"), Err("out_of_range"));
    assert_outcomes(
        &bench,
        &[
            // Eight digits: that date, whatever the type and however they are written.
            ("d", r#""20240115""#, Ok("2024-01-15")),
            ("d", "20240115", Ok("2024-01-15")),
            ("d32", "19000101", Ok("1900-01-01")),
            ("d32", r#""22991231""#, Ok("2299-12-31")),
            ("t", "20260102", midnight),
            ("t", r#""20260102""#, midnight),
            ("t3", "20260102", Ok("2026-01-02 00:00:00.000")),
            ("t3", "20260102.0", Ok("2026-01-02 00:00:00.000")),
            ("a", "[20260102, \"20260103\", 20455]", Ok(r#"["2026-01-02","2026-01-03","2026-01-02"]"#)),
            ("t", "20260230", invalid),
            ("d", r#""20261301""#, invalid),
            ("t", "19690101", range),
            ("d", "22991231", range),
            ("t3", "20260102.5", range),
            // Day numbers, up to the type's last day.
            ("d", "20455", Ok("2026-01-02")),
            ("d", r#""20455""#, Ok("2026-01-02")),
            ("d", "65535", Ok("2149-06-06")),
            ("d", "0", Ok("1970-01-01")),
            ("d", "65536", range),
            ("d", "20455.5", range),
            ("d32", "-25567", Ok("1900-01-01")),
            ("d32", "120529", Ok("2299-12-31")),
            ("d32", "120530", range),
            // A number is no time in 1970.
            ("t", "20455", range),
            ("t", "2026", range),
            ("t3", "202601", range),
            ("t3", "1.5", range),
            ("d", "1700000", range),
            ("t", "0", Ok("1970-01-01 00:00:00")),
            ("t", "1767357296", noon),
            ("t", "1767357296000", noon),
            ("d", "1767357296", Ok("2026-01-02")),
            // What everybody sends.
            ("t", r#""2026-01-02 12:34""#, Ok("2026-01-02 12:34:00")),
            ("t", r#""2026-01-02T12:34Z""#, Ok("2026-01-02 12:34:00")),
            ("t", r#""2026-01-02 12:34:56 UTC""#, noon),
            ("t", r#""2026-01-02 12:34:56 GMT""#, noon),
            ("t", r#""2026-01-02 14:34:56 +0200""#, noon),
            ("t3", r#""2026-01-02 12:34:56.789 +0000 UTC""#, Ok("2026-01-02 12:34:56.789")),
            ("t", r#""Fri, 02 Jan 2026 12:34:56 GMT""#, noon),
            ("t", r#""Fri, 2 Jan 2026 14:34:56 +0200""#, noon),
            ("t", r#""2 Jan 2026 12:34:56 +0000""#, noon),
            ("t", r#""20260102T123456Z""#, noon),
            ("t3", r#""20260102T123456.789Z""#, Ok("2026-01-02 12:34:56.789")),
            ("t", r#""20260102123456""#, noon),
            ("t", "20260102123456", noon),
            ("t", r#""Mon, 02 Jan 2026 12:34:56 GMT""#, invalid),
            ("t", r#""Fri, 02 Jan 2026 12:34:56 PST""#, invalid),
            ("t", r#""02/01/2026""#, invalid),
            // Without an offset it is UTC, whatever zone the column shows.
            ("berlin", r#""2026-01-02 12:00:00""#, Ok("2026-01-02 13:00:00")),
            ("berlin", r#""2026-01-02T12:00:00+01:00""#, Ok("2026-01-02 12:00:00")),
        ],
    );
}
