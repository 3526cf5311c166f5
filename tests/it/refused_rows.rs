//! Rows that any expression of a table refuses, with any code: exactly they are put aside, and every other row is stored
//! once, however many table partitions a batch falls into.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crate::harness::bench::PARTITIONS;
use crate::harness::raw::Raw;
use crate::harness::{Bench, ClickHouse, Kafka, wait_until};

const LIMIT: Duration = Duration::from_secs(120);
const EVENTS: u64 = 600;
const BAD: [u64; 3] = [0, 301, 599];

/// A table, and what a row has that it refuses.
struct Case {
    name: &'static str,
    /// Beside the usual columns.
    columns: &'static str,
    partition_by: &'static str,
    order_by: &'static str,
    ttl: &'static str,
    bad: &'static str,
    code: u32,
}

const USUAL: Case = Case {
    name: "",
    columns: "",
    partition_by: "toYYYYMM(event_time)",
    order_by: "n",
    ttl: "",
    bad: r#""b": 0"#,
    code: 153,
};

const CASES: [Case; 12] = [
    Case { name: "nested", columns: ", nest Nested(x UInt8, y UInt8)", bad: r#""nest.y": [1, 2]"#, code: 190, ..USUAL },
    Case {
        name: "dotted",
        columns: ", `nest.x` Array(UInt8), `nest.y` Array(UInt8)",
        bad: r#""nest.x": []"#,
        code: 190,
        ..USUAL
    },
    Case {
        name: "arrays",
        columns: ", p Array(UInt8), q Array(UInt8), m Array(UInt16) MATERIALIZED arrayMap((a, b) -> a + b, p, q)",
        bad: r#""p": [1, 2, 3]"#,
        code: 190,
        ..USUAL
    },
    Case { name: "materialized", columns: ", u UInt32 MATERIALIZED toUInt32(s)", bad: r#""s": """#, code: 32, ..USUAL },
    Case { name: "default", columns: ", u UInt32 DEFAULT intDiv(100, b)", ..USUAL },
    Case { name: "check", columns: ", CONSTRAINT c CHECK throwIf(b = 0) = 0", code: 395, ..USUAL },
    Case { name: "partition", partition_by: "(toYYYYMM(event_time), throwIf(b = 0))", code: 395, ..USUAL },
    Case { name: "order", order_by: "(n, intDiv(1, b))", ..USUAL },
    Case { name: "index", columns: ", INDEX i intDiv(1, b) TYPE minmax GRANULARITY 1", ..USUAL },
    Case { name: "ttl", ttl: "TTL event_time + toIntervalDay(intDiv(10000, b))", ..USUAL },
    Case { name: "projection", columns: ", PROJECTION z (SELECT intDiv(1, b) AS z, n ORDER BY z)", ..USUAL },
    Case { name: "regexp", columns: ", u Bool MATERIALIZED match('x', s)", bad: r#""s": "(""#, code: 427, ..USUAL },
];

/// An event of one of so many months; a key that comes twice counts with its last value.
fn event(number: u64, months: u64, bad: Option<&str>) -> Raw {
    let time = 1_700_000_000 + number % months * 31 * 86_400;
    let fields = [("b", "1"), ("s", r#""7""#), ("p", "[1]"), ("q", "[2]"), ("nest.x", "[1]"), ("nest.y", "[2]")];
    let is_other = |(name, _): &&(&str, &str)| !bad.is_some_and(|bad| bad.starts_with(&format!("\"{name}\"")));
    let mut fields: Vec<String> =
        fields.iter().filter(is_other).map(|(name, value)| format!("\"{name}\": {value}")).collect();
    fields.extend(bad.map(str::to_owned));
    Raw::of(format!(
        r#"{{"event_id": "00000000-0000-4000-8000-{number:012}", "n": {number}, "event_time": {time}, {}}}"#,
        fields.join(", ")
    ))
}

pub(crate) fn create(bench: &Bench<'_>, rest: &str) {
    bench.kafka.create_topic(&bench.topic, PARTITIONS);
    bench.clickhouse.query(&format!("CREATE DATABASE {}", bench.database));
    bench.clickhouse.query(&format!(
        "CREATE TABLE {}.events (event_id UUID, n UInt32, b UInt8, s String, event_time DateTime('UTC') {rest}",
        bench.database
    ));
}

/// Offset and code of each dead-letter record, by the number of its event.
pub(crate) fn dead_letters(bench: &Bench<'_>) -> Vec<(u64, String)> {
    let dlq = format!("{}.dlq", bench.topic);
    if !bench.kafka.topics().contains(&dlq) {
        return Vec::new();
    }
    let of = |letter: Raw| {
        let text = String::from_utf8(letter.value.clone().unwrap()).unwrap();
        let (_, rest) = text.split_once(r#""n": "#).unwrap();
        let number = rest.split_once(',').unwrap().0.parse().unwrap();
        (number, letter.header("sandarb.code").unwrap_or_default().to_owned())
    };
    (0..PARTITIONS).flat_map(|partition| bench.kafka.read(&dlq, partition)).map(of).collect()
}

fn run(case: &Case, months: u64, window: u32) {
    let Case { name, columns, partition_by, order_by, ttl, bad, code } = case;
    let bench = Bench::bare(&format!("refused_{name}"), Kafka::shared(), ClickHouse::shared());
    create(
        &bench,
        &format!(
            "{columns}) ENGINE = MergeTree PARTITION BY {partition_by} ORDER BY {order_by} {ttl} \
             SETTINGS non_replicated_deduplication_window = {window}, allow_suspicious_indices = 1"
        ),
    );
    for partition in 0..3 {
        let of = |number: &u64| number % 3 == partition;
        let events: Vec<Raw> =
            (0..EVENTS).filter(of).map(|number| event(number, months, BAD.contains(&number).then_some(*bad))).collect();
        bench.kafka.write(&bench.topic, i32::try_from(partition).unwrap(), bench.source.base_ms, &events);
    }
    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    let counts = bench.clickhouse.query(&format!("SELECT count(), uniqExact(n) FROM {}.events", bench.database));
    let good = EVENTS - BAD.len() as u64;
    assert_eq!(counts.trim(), format!("{good}\t{good}"), "{name}, {months} months, window {window}");
    let letters = dead_letters(&bench);
    let found: BTreeSet<u64> = letters.iter().map(|(number, _)| *number).collect();
    assert_eq!(found, BTreeSet::from(BAD), "{name}, {months} months");
    assert!(letters.iter().all(|(_, found)| *found == code.to_string()), "{name}: {letters:?}");
}

fn run_all(months: u64, window: u32) {
    for some in CASES.chunks(4) {
        thread::scope(|scope| {
            for case in some {
                scope.spawn(move || run(case, months, window));
            }
        });
    }
}

#[test]
fn rows_refused_with_any_code_are_put_aside_alone() {
    run_all(1, 1000);
}

#[test]
fn rows_refused_part_by_part_double_nothing() {
    run_all(6, 1000);
}

#[test]
fn rows_refused_part_by_part_double_nothing_without_a_window() {
    run_all(6, 0);
}

#[test]
fn what_may_be_stored_is_not_split_while_the_table_cannot_be_asked() {
    let grants = "<blind><password>sandarb</password><networks><ip>::/0</ip></networks><profile>default</profile>\
                  <quota>default</quota><grants><query>GRANT INSERT ON blind.events</query></grants></blind>";
    let server = ClickHouse::start_with("ingest", "sandarb", &["--users", grants]);
    let mut bench = Bench::bare("blind", Kafka::shared(), &server);
    bench.database = "blind".to_owned();
    create(
        &bench,
        ", INDEX i intDiv(1, b) TYPE minmax GRANULARITY 1) ENGINE = MergeTree PARTITION BY toYYYYMM(event_time) ORDER BY n \
         SETTINGS non_replicated_deduplication_window = 1000",
    );
    let bad = |number| (number == 599).then_some(r#""b": 0"#);
    let events: Vec<Raw> = (0..EVENTS).map(|number| event(number, 6, bad(number))).collect();
    bench.kafka.write(&bench.topic, 0, bench.source.base_ms, &events);
    let consumer = bench.start(&[("CLICKHOUSE_USER", "blind")]);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", "GRANT SELECT(event_id) ON blind.events"]);
    let stored = bench.rows();
    assert!(0 < stored && stored < EVENTS, "{stored}: some parts are stored");
    let failed = consumer.health().unwrap().1["errors"].as_u64().unwrap();
    consumer.wait(LIMIT, "two more attempts", || {
        let errors = consumer.health()?.1["errors"].as_u64().unwrap();
        if errors >= failed + 2 { Ok(()) } else { Err(format!("{errors} errors")) }
    });
    assert_eq!((bench.rows(), dead_letters(&bench).len()), (stored, 0), "nothing is split or doubled");
    server.query("ALTER TABLE blind.events DROP INDEX i");
    bench.wait_rows(&consumer, EVENTS, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    let distinct = server.number("SELECT uniqExact(n) FROM blind.events");
    assert_eq!((bench.rows(), distinct), (EVENTS, EVENTS));
}

#[test]
fn a_table_that_refuses_every_row_is_said_and_nothing_is_put_aside() {
    let bench = Bench::bare("all_refused", Kafka::shared(), ClickHouse::shared());
    create(&bench, ", u UInt32 MATERIALIZED toUInt32(s)) ENGINE = MergeTree ORDER BY n");
    let events: Vec<Raw> = (0..40).map(|number| event(number, 1, Some(r#""s": "x""#))).collect();
    bench.kafka.write(&bench.topic, 0, bench.source.base_ms, &events);
    let consumer = bench.start(&[]);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", "every row so far", "Cannot parse"]);
    assert_eq!((bench.rows(), dead_letters(&bench).len()), (0, 0));
    bench.clickhouse.query(&format!("ALTER TABLE {}.events DROP COLUMN u", bench.database));
    bench.wait_rows(&consumer, 40, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    assert_eq!((bench.rows(), dead_letters(&bench).len()), (40, 0));
}

#[test]
fn a_shard_that_lacks_a_column_is_a_fault_of_the_table() {
    let bench = Bench::bare("shard", Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic(&bench.topic, PARTITIONS);
    let database = &bench.database;
    bench.clickhouse.query(&format!("CREATE DATABASE {database}"));
    bench
        .clickhouse
        .query(&format!("CREATE TABLE {database}.shard (event_id UUID, n UInt32) ENGINE = MergeTree ORDER BY n"));
    let columns = "(event_id UUID, n UInt32, b UInt8)";
    let remote = format!("CREATE TABLE {database}.events {columns} AS remote('127.0.0.1', {database}, shard)");
    bench.clickhouse.query(&remote);
    let events: Vec<Raw> = (0..40).map(|number| event(number, 1, None)).collect();
    bench.kafka.write(&bench.topic, 0, bench.source.base_ms, &events);
    let consumer = bench.start(&[]);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", "No such column b", "columns have not changed"]);
    // Through more than one further try.
    let failed = consumer.health().unwrap().1["errors"].as_u64().unwrap();
    wait_until(LIMIT, "two more attempts", || {
        let (status, health) = consumer.health()?;
        assert_eq!(status, 503, "{health}");
        let errors = health["errors"].as_u64().unwrap();
        if errors >= failed + 2 { Ok(()) } else { Err(format!("{errors} errors")) }
    });
    assert_eq!((bench.rows(), dead_letters(&bench).len()), (0, 0));
    bench.clickhouse.query(&format!("ALTER TABLE {database}.shard ADD COLUMN b UInt8"));
    bench.wait_rows(&consumer, 40, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    assert_eq!((bench.rows(), dead_letters(&bench).len()), (40, 0));
}
