//! The harness itself: its checks see what is wrong, and its servers keep what they were given.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::harness::bench::{PARTITIONS, SHIPPED, Tally};
use crate::harness::kafka::from_hex;
use crate::harness::{Bench, ClickHouse, Kafka, Table, http, wait_until};

#[test]
fn missing_doubled_and_foreign_rows_are_seen() {
    let bench = Bench::shared("tally");
    let insert = |ids: &[String]| {
        let values: Vec<String> = ids.iter().map(|id| format!("('{id}')")).collect();
        let sql = format!("INSERT INTO {}.events (event_id) VALUES {}", bench.database, values.join(","));
        bench.clickhouse.query(&sql);
    };
    let id = |index| bench.source.event(index).event_id;
    let foreign = "00000000-0000-4000-8000-000000000000".to_owned();
    insert(&[id(0), id(1), id(3)]);
    insert(&[id(1), id(1), foreign.clone(), id(4)]);
    let wanted = Tally { once: 3, missing: vec![2], doubled: vec![1], surplus: 2, foreign: vec![foreign] };
    assert_eq!(bench.tally(0..5), wanted);
    let rows: Vec<u64> = bench.inserts().iter().map(|insert| insert.rows).collect();
    assert_eq!(rows, [3, 4], "what the server logged");
}

#[test]
fn a_token_is_recognised_with_the_window_and_not_without() {
    let clickhouse = ClickHouse::shared();
    for (window, rows) in [(true, 1), (false, 2)] {
        let bench = Bench::new("token", Kafka::shared(), clickhouse, Table { window, ..SHIPPED });
        let id = bench.source.event(0).event_id;
        for _ in 0..2 {
            let settings = "SETTINGS insert_deduplicate = 1, insert_deduplication_token = 'one'";
            clickhouse.query(&format!("INSERT INTO {}.events (event_id) {settings} VALUES ('{id}')", bench.database));
        }
        assert_eq!(bench.rows(), rows, "window: {window}");
    }
}

#[test]
fn a_wrong_password_is_refused_and_data_survive_a_kill() {
    let clickhouse = ClickHouse::start("someone", "p&<w>");
    clickhouse.query("CREATE TABLE default.kept (n UInt8) ENGINE = MergeTree ORDER BY n");
    clickhouse.query("INSERT INTO default.kept VALUES (7)");
    clickhouse.kill9();
    assert!(clickhouse.try_query("SELECT 1").is_err(), "it is dead");
    clickhouse.restart();
    assert_eq!(clickhouse.number("SELECT n FROM default.kept"), 7);
    let error = clickhouse.try_query("SELECT no_such_column").unwrap_err();
    assert!(error.contains("UNKNOWN_IDENTIFIER"), "{error}");
    let basic = [("X-ClickHouse-User", "someone"), ("X-ClickHouse-Key", "wrong")];
    let answer = http::request(clickhouse.port, "POST", "/", &basic, b"SELECT 1").unwrap();
    assert_eq!((answer.status, answer.header("x-clickhouse-exception-code")), (403, Some("516")));
}

#[test]
fn events_lie_in_all_partitions_as_they_were_made() {
    let bench = Bench::shared("spread");
    let indices = bench.produce(1_200);
    bench.kafka.produce(&bench.topic, 3, None, None);
    let mut left: Vec<String> = indices.map(|index| bench.source.event(index).to_json()).collect();
    left.sort_unstable();
    for (partition, end) in bench.kafka.end_offsets(&bench.topic) {
        let mut records = bench.kafka.consume(&bench.topic, partition);
        assert_eq!(records.len() as i64, end);
        assert!((50..=150).contains(&records.len()), "{} of 1200 in partition {partition}", records.len());
        if partition == 3 {
            let last = records.pop().unwrap();
            assert_eq!((&last["key"], &last["value"]), (&Value::Null, &Value::Null), "a tombstone");
        }
        for record in records {
            let json = String::from_utf8(from_hex(record["value"].as_str().unwrap())).unwrap();
            let place = left.binary_search(&json).unwrap_or_else(|_| panic!("not produced, or twice: {json}"));
            left.remove(place);
            let event: Value = serde_json::from_str(&json).unwrap();
            let key = from_hex(record["key"].as_str().unwrap());
            assert_eq!(event["org_id"].as_str().map(str::as_bytes), Some(key.as_slice()), "the key");
        }
    }
    assert!(left.is_empty(), "{} events are in no partition", left.len());
    assert!(bench.kafka.committed(&bench.group, &bench.topic).is_empty());
}

#[test]
fn a_broker_that_dies_makes_the_producer_send_nothing_twice() {
    let kafka = Kafka::start(0);
    let bench = Bench::new("twice", &kafka, ClickHouse::shared(), SHIPPED);
    const EVENTS: u64 = 40_000;
    let producing = bench.produce_at(EVENTS, Some(8_000.0));
    wait_until(Duration::from_secs(60), "some are there", || {
        let there: i64 = kafka.end_offsets(&bench.topic).values().sum();
        if there >= 4_000 { Ok(()) } else { Err(format!("{there}")) }
    });
    kafka.kill9();
    assert!(!producing.is_over(), "all was sent before the kill");
    kafka.restart();
    let outcome = producing.outcome();
    let mut times = vec![0_u32; EVENTS as usize];
    let index_of: HashMap<String, u64> =
        (0..EVENTS).map(|index| (bench.source.event(index).to_json(), index)).collect();
    for partition in 0..PARTITIONS {
        for record in kafka.consume(&bench.topic, partition) {
            let json = String::from_utf8(from_hex(record["value"].as_str().unwrap())).unwrap();
            times[index_of[&json] as usize] += 1;
        }
    }
    let twice: Vec<usize> = (0..times.len()).filter(|index| times[*index] > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let absent: Vec<u64> = (0..EVENTS).filter(|index| times[*index as usize] == 0).collect();
    assert!(absent.iter().all(|index| outcome.uncertain.contains(index)), "{absent:?} {outcome:?}");
    assert_eq!(outcome.confirmed + outcome.uncertain.len() as u64, EVENTS);
}
