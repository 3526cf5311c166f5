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

/// One insert of all events, or an insert for each of them: the same rows.
#[test]
fn defaults_do_not_depend_on_the_other_events_of_a_batch() {
    let columns = "name String, n Nullable(UInt8) DEFAULT 3, s Nullable(String) DEFAULT upper(name), \
                   l LowCardinality(Nullable(String)) DEFAULT 'low', a Array(String) DEFAULT ['d', name], \
                   m Map(String, String) DEFAULT map('k', name), j JSON DEFAULT '{\"d\": 1}', \
                   p UInt32 DEFAULT length(name) + 100, q String DEFAULT concat('q', toString(p)), \
                   e Array(UInt8) DEFAULT [], x String MATERIALIZED concat(ifNull(s, 'null'), toString(length(a)))";
    let fields = [
        r#""name": "bob""#,
        r#""n": 7"#,
        r#""n": null"#,
        r#""s": "given""#,
        r#""s": null"#,
        r#""l": "high""#,
        r#""l": null"#,
        r#""a": ["x", "y"]"#,
        r#""a": []"#,
        r#""m": {"z": "1", "b": "2"}"#,
        r#""m": null"#,
        r#""j": {"given": [1, 2]}"#,
        r#""p": 5"#,
        r#""q": "given""#,
        r#""e": [1]"#,
    ];
    // Each field alone, nothing at all, and mixtures of them.
    let mixture = |number: usize| {
        let taken = fields.iter().enumerate().filter(|(at, _)| (number * 2_654_435_761) >> at & 0x5 == 0x5);
        taken.map(|(_, field)| *field).collect::<Vec<_>>().join(", ")
    };
    let mixtures = (0..60).map(|number| {
        if number < 16 {
            fields.get(number).map_or(String::new(), |field| (*field).to_owned())
        } else {
            mixture(number)
        }
    });
    let events: Vec<String> = mixtures
        .enumerate()
        .map(
            |(id, fields)| {
                if fields.is_empty() { format!("{{\"id\": {id}}}") } else { format!("{{\"id\": {id}, {fields}}}") }
            },
        )
        .collect();
    let stored = |name: &str, settings: &[(&str, &str)]| {
        let bench = bench_with(name, columns);
        let consumer = bench.start(settings);
        settled(&bench, &consumer, &events);
        consumer.stop();
        assert_eq!(rejected(&bench), BTreeMap::new());
        let inserts = bench.inserts();
        let sql = format!("SELECT *, x FROM {}.events ORDER BY id FORMAT JSONEachRow", bench.database);
        let mut rows = Vec::new();
        bench.clickhouse.each_line(&sql, |line| rows.push(line.to_owned()));
        (rows, inserts.len())
    };
    let (together, few) = stored("defaults_together", &[]);
    let (alone, many) = stored("defaults_alone", &[("BATCH_SIZE", "1")]);
    assert_eq!((together.len(), alone.len()), (events.len(), events.len()));
    assert!(few < 10 && many >= events.len(), "{few} and {many} inserts");
    let differences: Vec<String> = (0..)
        .zip(together.iter().zip(&alone))
        .filter(|(_, (together, alone))| together != alone)
        .map(|(id, (together, alone)): (usize, _)| format!("{}\n  together {together}\n  alone    {alone}", events[id]))
        .collect();
    assert!(differences.is_empty(), "{} of {} differ:\n{}", differences.len(), events.len(), differences.join("\n"));
    // And they are the DEFAULTs, not nothing.
    let bare = &together[15];
    for wanted in
        [r#""n":3"#, r#""s":"""#, r#""l":"low""#, r#""a":["d",""]"#, r#""m":{"k":""}"#, r#""j":{"d":"#, r#""q":"q100""#]
    {
        assert!(bare.contains(wanted), "{wanted} in {bare}");
    }
    assert!(
        together[2].contains(r#""n":null"#) && together[4].contains(r#""s":null"#),
        "null is a value where NULL is one"
    );
}

/// Also: what no JSON is, however many programs write it.
#[test]
fn numbers_out_of_floats_are_stored_rounded_and_counted_or_rejected() {
    let columns = "cost Decimal(18, 12), cents Decimal(9, 2), costs Array(Decimal(18, 12)), f Float64, \
                   m Map(String, UInt8), wide Int128";
    let bench = bench_with("floats", columns);
    let invalid = Err("invalid_value");
    let cases = [
        ("cost", "0.30000000000000004", Ok("0.3")),
        ("cost", "0.7999999999999999", Ok("0.8")),
        ("cost", "-3.3000000000000003", Ok("-3.3")),
        ("cost", "1.1", Ok("1.1")),
        ("cents", "99.99000000000001", Ok("99.99")),
        ("costs", "[0.1, 0.30000000000000004]", Ok("[0.1,0.3]")),
        ("cost", r#""0.30000000000000004""#, invalid),
        ("cost", "0.1234567890123456", invalid),
        ("cents", "0.005", invalid),
        ("wide", "3.0000000000000004", invalid),
        ("f", "NaN", Err("invalid_json")),
        ("f", "-Infinity", Err("invalid_json")),
        ("f", r#""NaN""#, invalid),
        ("f", r#""Infinity""#, invalid),
        ("f", "0.30000000000000004", Ok("0.30000000000000004")),
        ("m", r#"{"z": 1, "a": 2, "m": 3}"#, Ok(r#"{"z":1,"a":2,"m":3}"#)),
    ];
    assert_outcomes(&bench, &cases);
    let again = bench.start(&[("KAFKA_GROUP_ID", "floats-again")]);
    bench.clickhouse.query(&format!("TRUNCATE TABLE {}.events", bench.database));
    let counted = again.wait(LIMIT, "all rows are stored", || {
        let text = again.metrics()?;
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        match number("sandarb_consumer_events_inserted_total ") {
            Some(8) => Ok(number("sandarb_consumer_decimals_rounded_total ")),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(counted, Some(5), "values that were rounded");
    again.stop();
}
