//! Events that cannot be rows: each becomes a letter, bit for bit, and nothing waits that need not.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::bench::{PARTITIONS, SHIPPED};
use crate::harness::fleet::in_full;
use crate::harness::raw::Raw;
use crate::harness::veil::Veiled;
use crate::harness::{Bench, ClickHouse, Consumer};

const LIMIT: Duration = Duration::from_secs(90);
const TIMESTAMP: i64 = 1_768_954_900_524;

/// One event of each kind that no row can be made of, and the class it is of.
fn poison() -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!("{{\"metadata\": {}1{}}}", "[".repeat(100), "]".repeat(100));
    let text = |class, json: &str| (class, json.as_bytes().to_vec());
    vec![
        text("invalid_json", "not JSON"),
        text("invalid_json", ""),
        text("invalid_json", r#"{"event_id": "#),
        text("invalid_json", r#"{"org_id": "o"} {"org_id": "o"}"#),
        text("invalid_json", r#"{"org_id": "\ud800"}"#),
        ("invalid_utf8", b"{\"org_id\": \"\xff\xfe\"}".to_vec()),
        text("not_an_object", "[{}]"),
        text("not_an_object", "\"text\""),
        text("not_an_object", "42"),
        text("not_an_object", "null"),
        text("too_deep", &deep),
        text("invalid_value", r#"{"event_id": "no-uuid"}"#),
        text("invalid_value", r#"{"event_id": 5}"#),
        text("invalid_value", r#"{"version_number": 3.7}"#),
        text("invalid_value", r#"{"version_number": "many"}"#),
        text("invalid_value", r#"{"version_number": [1]}"#),
        text("out_of_range", r#"{"version_number": 4294967296}"#),
        text("out_of_range", r#"{"version_number": -1}"#),
        text("invalid_value", r#"{"event_time": "yesterday"}"#),
        text("out_of_range", r#"{"event_time": "2500-01-01T00:00:00Z"}"#),
        text("invalid_value", r#"{"template_rendered": "maybe"}"#),
    ]
}

/// Keys and headers of all sorts around a value.
fn dressed(number: usize, value: Vec<u8>) -> Raw {
    let key = match number % 3 {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(b"key \x00\xff".to_vec()),
    };
    let headers = match number % 4 {
        0 => vec![],
        1 => vec![(b"trace".to_vec(), None), (b"trace".to_vec(), Some(b"two".to_vec()))],
        2 => vec![(b"\xff\x00".to_vec(), Some(b"\xfe".to_vec())), (b"".to_vec(), Some(b"".to_vec()))],
        _ => vec![(b"sandarb.reason".to_vec(), Some(b"a letter read again".to_vec()))],
    };
    Raw { key, value: Some(value), headers }
}

/// Where it was, which class it must have, and what it was.
type Poisoned = BTreeMap<(i32, i64), (&'static str, Raw)>;

/// Writes `each` records of every kind, spread over the partitions.
fn write_poison(bench: &Bench<'_>, each: usize) -> Poisoned {
    let mut written = BTreeMap::new();
    let kinds = poison();
    for round in 0..each {
        for partition in 0..PARTITIONS {
            let at = |number: usize| number % PARTITIONS as usize == partition as usize;
            let (classes, records): (Vec<&'static str>, Vec<Raw>) = kinds
                .iter()
                .enumerate()
                .filter(|(number, _)| at(number + round))
                .map(|(number, (class, value))| (*class, dressed(number + round, value.clone())))
                .unzip();
            let base = bench.kafka.write(&bench.topic, partition, TIMESTAMP, &records);
            for (at, (class, record)) in classes.into_iter().zip(records).enumerate() {
                written.insert((partition, base + at as i64), (class, record));
            }
        }
    }
    written
}

/// The dead letters by place, without the headers that were added; equal ones may come more than once.
fn letters(bench: &Bench<'_>, dlq: &str) -> Poisoned {
    let mut found = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for mut letter in bench.kafka.read(dlq, partition) {
            let number = |name: &str| letter.header(name).unwrap().parse::<i64>().unwrap();
            let place = (number("sandarb.partition") as i32, number("sandarb.offset"));
            assert_eq!(place.0, partition, "a letter keeps its partition");
            assert_eq!(number("sandarb.timestamp"), TIMESTAMP);
            assert_eq!(letter.header("sandarb.topic"), Some(bench.topic.as_str()));
            assert!(letter.header("sandarb.cluster_id").is_some_and(|id| id.len() == 22), "{letter:?}");
            assert!(!letter.header("sandarb.reason").unwrap().is_empty());
            let class = letter.header("sandarb.class").unwrap().to_owned();
            let class = poison().iter().map(|(class, _)| *class).find(|one| *one == class).unwrap();
            let with_column = matches!(class, "invalid_value" | "out_of_range");
            assert_eq!(letter.header("sandarb.column").is_some(), with_column, "{letter:?}");
            let ours = if with_column { 8 } else { 7 };
            letter.headers.truncate(letter.headers.len() - ours);
            if let Some(before) = found.insert(place, (class, letter.clone())) {
                assert_eq!(before, (class, letter), "another letter of the same place");
            }
        }
    }
    found
}

/// In full 100,000 events, one in a hundred of them bad.
#[test]
fn long_each_becomes_a_letter_and_the_rest_rows() {
    let (events, rate, scale) = if in_full() { (99_000, 3_000.0, 8) } else { (12_000, 4_000.0, 1) };
    let bench = Bench::shared("letters");
    let dlq = format!("{}.dlq", bench.topic);
    let consumers: Vec<Consumer> = (0..2).map(|_| bench.start(&[])).collect();
    let mut written = write_poison(&bench, 2 * scale);
    let flood = bench.produce_at(events, Some(rate));
    written.extend(write_poison(&bench, 3 * scale));
    bench.kafka.produce(&bench.topic, 5, Some(b"gone"), None);
    flood.wait();
    written.extend(write_poison(&bench, scale));
    bench.wait_rows(&consumers[0], events, LIMIT);
    bench.wait_committed_to_the_end(&consumers[0], LIMIT);
    // What is committed has its letter.
    let found = letters(&bench, &dlq);
    assert_eq!(found.len(), written.len());
    for (place, letter) in &written {
        assert_eq!(found.get(place), Some(letter), "{place:?}");
    }
    println!("{events} events, {} bad ones of {} kinds", written.len(), poison().len());
    bench.assert_exactly_once(0..events);
    assert_eq!(bench.kafka.end_offsets(&dlq).len(), PARTITIONS as usize, "as many partitions as the topic has");
    for consumer in consumers {
        consumer.wait_healthy();
        consumer.stop();
    }
    // librdkafka checks the batches' checksums, and reads the same values.
    let values: Vec<Value> = bench.kafka.consume(&dlq, 3).iter().map(|letter| letter["value"].clone()).collect();
    let ours: Vec<Raw> = bench.kafka.read(&dlq, 3);
    assert_eq!(values.len(), ours.len());
    for (theirs, ours) in values.iter().zip(ours) {
        assert_eq!(theirs.as_str(), ours.value.map(|value| crate::harness::kafka::to_hex(&value)).as_deref());
    }
    let settings = bench.kafka.topic_settings(&dlq);
    assert_eq!(settings["retention.ms"], "-1");
    assert_eq!(settings["cleanup.policy"], "delete");
}

#[test]
fn without_a_topic_for_them_they_are_logged_with_their_place_and_skipped() {
    let bench = Bench::shared("skipped");
    let written = write_poison(&bench, 1);
    let indices = bench.produce(500);
    let consumer = bench.start(&[("KAFKA_DLQ_TOPIC", "")]);
    bench.wait_rows(&consumer, 500, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let lines = consumer.log_lines();
    for (partition, offset) in written.keys() {
        let told = lines.iter().any(|line| {
            let skipped = line["msg"].as_str().is_some_and(|text| text.contains("skipped"));
            skipped && line["partition"] == *partition && line["offset"] == *offset
        });
        assert!(told, "offset {offset} of partition {partition} in {lines:#?}");
    }
    let health = consumer.wait_healthy();
    assert_eq!(health["errors"], written.len(), "{health}");
    consumer.stop();
    bench.assert_exactly_once(indices);
    assert!(!bench.kafka.topics().contains(&format!("{}.dlq", bench.topic)));
}

#[test]
fn a_topic_that_takes_none_makes_only_their_partitions_wait() {
    let bench = Bench::shared("unwritable");
    let dlq = format!("{}.dlq", bench.topic);
    // A compacted topic refuses records without a key.
    bench.kafka.create_topic_with(&dlq, PARTITIONS, &json!({"cleanup.policy": "compact"}));
    let consumer = bench.start(&[]);
    bench.produce(2_000);
    bench.wait_rows(&consumer, 2_000, LIMIT);
    let place = bench.kafka.write(&bench.topic, 3, TIMESTAMP, &[Raw::of("poison")]);
    let health = consumer.wait_health(503, LIMIT);
    assert_eq!(health["clickhouse_connected"], true, "{health}");
    consumer.wait_log(LIMIT, &["ERROR", &dlq, "(87)"]);
    consumer.wait_log(LIMIT, &["partitions wait for their dead letters"]);
    bench.produce(4_000);
    // All but the partition of the letter flow on.
    let mut ends = bench.kafka.end_offsets(&bench.topic);
    ends.remove(&3);
    consumer.wait(LIMIT, "the other partitions are committed", || {
        let mut committed = bench.kafka.committed(&bench.group, &bench.topic);
        let held = committed.remove(&3);
        assert!(held.is_none_or(|offset| offset <= place), "committed past a letter that nobody has");
        if committed == ends { Ok(()) } else { Err(format!("{committed:?}")) }
    });
    bench.kafka.alter_topic(&dlq, "cleanup.policy", "delete");
    bench.wait_rows(&consumer, 6_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    assert_eq!(letters(&bench, &dlq).len(), 1);
    consumer.stop();
    bench.assert_exactly_once(0..6_000);
}

#[test]
fn a_topic_that_is_neither_found_nor_created_is_said_and_waited_for() {
    let veiled = Veiled::start();
    let bench = Bench::new("hidden", &veiled.kafka, ClickHouse::shared(), SHIPPED);
    let dlq = format!("{}.dlq", bench.topic);
    veiled.kafka.create_topic(&dlq, PARTITIONS);
    veiled.hide(&dlq);
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &veiled.bootstrap())]);
    bench.produce(2_000);
    bench.wait_rows(&consumer, 2_000, LIMIT);
    let place = bench.kafka.write(&bench.topic, 3, TIMESTAMP, &[Raw::of("poison")]);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", "dead letters cannot be written", &dlq, "does not exist"]);
    let committed = bench.kafka.committed(&bench.group, &bench.topic);
    assert!(committed.get(&3).is_none_or(|offset| *offset <= place), "committed past a letter that nobody has");
    veiled.show();
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    assert_eq!(letters(&bench, &dlq).len(), 1);
    consumer.stop();
    bench.assert_exactly_once(0..2_000);
}

#[test]
fn a_letter_that_is_too_large_goes_without_its_record() {
    let bench = Bench::shared("large");
    let dlq = format!("{}.dlq", bench.topic);
    bench.kafka.create_topic_with(&dlq, 1, &json!({"max.message.bytes": "3000"}));
    // Noise, so that compression does not help.
    let noise: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let small: Vec<Raw> = (0..60).map(|n| Raw::of(format!("small poison {n}, {}", "x".repeat(n)))).collect();
    let large = Raw { key: Some(b"key".to_vec()), ..Raw::of(noise) };
    bench.kafka.write(&bench.topic, 7, TIMESTAMP, &small);
    let place = bench.kafka.write(&bench.topic, 7, TIMESTAMP, &[large]);
    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_log(LIMIT, &["WARNING", "too large", &format!("\"offset\":{place}")]);
    consumer.wait_healthy();
    consumer.stop();
    let letters = bench.kafka.read(&dlq, 0);
    assert_eq!(letters.len(), 61);
    let (bare, whole): (Vec<Raw>, Vec<Raw>) = letters.into_iter().partition(|letter| letter.value.is_none());
    assert_eq!(whole.into_iter().map(|letter| letter.value).collect::<Vec<_>>(), {
        small.into_iter().map(|record| record.value).collect::<Vec<_>>()
    });
    let [bare] = bare.as_slice() else { panic!("{bare:?}") };
    assert_eq!((&bare.key, bare.header("sandarb.offset")), (&None, Some(place.to_string().as_str())));
    assert!(bare.header("sandarb.omitted_bytes").unwrap().parse::<u64>().unwrap() >= 20_000);
}
