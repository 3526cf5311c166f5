//! Topics of another format, and events that all fail for one reason: nothing is dead-lettered, and the reason is named.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::bench::PARTITIONS;
use crate::harness::raw::Raw;
use crate::harness::{Bench, Consumer, hold, pause};

const LIMIT: Duration = Duration::from_secs(60);

fn write(bench: &Bench<'_>, count: u64, value: impl Fn(u64) -> Vec<u8>) {
    for partition in 0..PARTITIONS {
        let own = (0..count).filter(|number| number % PARTITIONS as u64 == partition as u64);
        let records: Vec<Raw> = own.map(|number| Raw::of(value(number))).collect();
        bench.kafka.write(&bench.topic, partition, bench.source.base_ms, &records);
    }
}

fn dead_letters(bench: &Bench<'_>) -> i64 {
    let topic = format!("{}.dlq", bench.topic);
    if bench.kafka.topics().contains(&topic) { bench.kafka.end_offsets(&topic).values().sum() } else { 0 }
}

/// It says that it looks like this, for as long as the state lasts, and puts nothing aside.
fn assert_stopped(bench: &Bench<'_>, consumer: &Consumer, says: &str, lasts: Duration) {
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", says]);
    let began = Instant::now();
    while began.elapsed() < lasts {
        let status = consumer.status().unwrap();
        let reasons = status["reasons"].to_string();
        assert!(reasons.contains(says), "{says} after {:?}: {reasons}", began.elapsed());
        pause(began);
    }
    assert_eq!((bench.rows(), dead_letters(bench)), (0, 0), "{says}");
    assert!(bench.kafka.committed(&bench.group, &bench.topic).values().all(|offset| *offset == 0));
}

fn object(number: u64) -> String {
    format!(r#"{{"event_id": "00000000-0000-4000-8000-{number:012}", "org_id": "o"}}"#)
}

/// A message of Protobuf with a text and a number.
fn protobuf(number: u64) -> Vec<u8> {
    [b"\x0a\x03org\x10".as_slice(), &[(number % 128) as u8, 0x1a, 2, 0xff, 0xfe]].concat()
}

/// The words that name a format, and its values.
type Format = (&'static str, fn(u64) -> Vec<u8>);

fn formats() -> Vec<Format> {
    vec![
        ("schema registry", |number| [b"\x00\x00\x00\x00\x07".as_slice(), &protobuf(number)].concat()),
        ("gzip (0x1f8b)", |number| vec![0x1f, 0x8b, 8, 0, number as u8]),
        ("zstd frame", |number| [b"\x28\xb5\x2f\xfd".as_slice(), &number.to_be_bytes()].concat()),
        ("LZ4 frame", |number| [b"\x04\x22\x4d\x18".as_slice(), &number.to_be_bytes()].concat()),
        ("NDJSON", |number| format!("{}\n{}\n", object(number), object(number)).into_bytes()),
        ("JSON array", |number| format!("[{}]", object(number)).into_bytes()),
        ("JSON encoded twice", |number| serde_json::to_vec(&object(number)).unwrap()),
        ("Kafka Connect's envelope", |number| {
            format!(r#"{{"schema": {{"type": "struct"}}, "payload": {{"before": null, "after": {}}}}}"#, object(number))
                .into()
        }),
        ("XML", |number| format!("<event><id>{number}</id></event>").into_bytes()),
        ("CSV", |number| format!("{number},org,2026-01-02T03:04:05Z,allow").into_bytes()),
        ("MessagePack", |number| vec![0x82, 0xa1, b'a', (number % 100) as u8, 0xa1, b'b', 0xc3]),
        ("Protobuf", protobuf),
    ]
}

#[test]
fn topics_of_another_format_are_named_and_nothing_is_dead_lettered() {
    let mut running = Vec::new();
    for (says, value) in formats() {
        let bench = Bench::shared("foreign");
        write(&bench, 3_000, value);
        let consumer = bench.start(&[]);
        running.push((says, bench, consumer));
    }
    for (says, bench, consumer) in &running {
        assert_stopped(bench, consumer, says, Duration::from_millis(100));
    }
    for (says, bench, consumer) in &running {
        assert_stopped(bench, consumer, says, Duration::from_millis(100));
        consumer.stop();
    }
}

#[test]
fn long_a_foreign_topic_is_blocked_until_the_guard_is_off() {
    let bench = Bench::shared("foreign_off");
    write(&bench, 3_000, |number| format!("<event>{number}</event>").into_bytes());
    let consumer = bench.start(&[]);
    assert_stopped(&bench, &consumer, "XML", hold(12));
    consumer.stop();
    let consumer = bench.start(&[("KAFKA_DLQ_GUARD", "off")]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    assert_eq!((bench.rows(), dead_letters(&bench)), (0, 3_000));
}

#[test]
fn values_of_another_format_among_events_are_dead_letters() {
    let bench = Bench::shared("foreign_few");
    let indices = bench.produce(600);
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, 600, LIMIT);
    write(&bench, 360, |number| format!("<event>{number}</event>").into_bytes());
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(indices);
    assert_eq!(dead_letters(&bench), 360);
}

#[test]
fn all_of_300_that_fail_on_one_column_are_kept_and_50_are_poison() {
    let failing = |number: u64| {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        format!(r#"{{"event_id": "{id}", "version_number": "v{number}"}}"#).into_bytes()
    };
    let (few, many) = (Bench::shared("fail_50"), Bench::shared("fail_300"));
    // Values that are more than a batch may hold: their number decides all the same.
    let large = Bench::shared("fail_large");
    write(&few, 50, failing);
    write(&many, 300, failing);
    write(&large, 300, |number| format!(r#"{{"version_number": "{}{number}"}}"#, "x".repeat(20_000)).into_bytes());
    let small = ("MEMORY_BUDGET_BYTES", "1048576");
    let consumers = [few.start(&[]), many.start(&[]), large.start(&[small])];
    for (bench, consumer) in [(&many, &consumers[1]), (&large, &consumers[2])] {
        assert_stopped(bench, consumer, "column version_number takes none", Duration::from_secs(1));
    }
    few.wait_committed_to_the_end(&consumers[0], LIMIT);
    consumers[0].wait_healthy();
    assert_eq!(dead_letters(&few), 50);
    many.clickhouse.query(&format!("ALTER TABLE {}.events MODIFY COLUMN version_number String", many.database));
    many.wait_rows(&consumers[1], 300, LIMIT);
    many.wait_committed_to_the_end(&consumers[1], LIMIT);
    consumers[1].wait_healthy();
    consumers.iter().for_each(Consumer::stop);
    assert_eq!((many.rows(), dead_letters(&many)), (300, 0));
}

/// The replica that has this partition, among those that run.
fn owner(replicas: &[Consumer], partition: i32) -> Option<usize> {
    replicas.iter().position(|replica| replica.partitions().is_ok_and(|own| own.contains(&partition)))
}

/// Replicas come until `first` has given the partition away; it must be ready soon and stay so.
fn assert_ready_without(bench: &Bench<'_>, first: Consumer, partition: i32, env: &[(&str, &str)]) {
    let mut replicas = vec![first];
    let given = (0..8).any(|_| {
        replicas.push(bench.start(env));
        let shares: Vec<&Consumer> = replicas.iter().collect();
        crate::harness::fleet::wait_shares(&shares, PARTITIONS, LIMIT);
        owner(&replicas, partition) != Some(0)
    });
    assert!(given, "partition {partition} stays with the first of 9");
    let heir = owner(&replicas, partition).unwrap();
    // The reason goes with the partition.
    replicas[heir].wait_health(503, LIMIT);
    let began = Instant::now();
    replicas[0].wait_health(200, Duration::from_secs(15));
    println!("ready {:?} after its partition has another owner", began.elapsed());
    while began.elapsed() < hold(15) {
        let states: BTreeMap<usize, u16> =
            replicas.iter().enumerate().map(|(at, replica)| (at, replica.health().unwrap().0)).collect();
        assert_eq!(states[&0], 200, "{states:?}");
        pause(began);
    }
    for replica in replicas {
        replica.kill9();
    }
}

#[test]
fn long_a_reason_of_dead_letters_goes_with_its_partition() {
    let bench = Bench::shared("outlived_dlq");
    let dlq = format!("{}.dlq", bench.topic);
    bench.kafka.create_topic_with(&dlq, PARTITIONS, &serde_json::json!({"cleanup.policy": "compact"}));
    let env = [("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"), ("KAFKA_SESSION_TIMEOUT_MS", "6000")];
    let first = bench.start(&env);
    bench.kafka.write(&bench.topic, 7, 1, &[Raw::of(object(1)), Raw::of("poison")]);
    first.wait_health(503, LIMIT);
    first.wait_log(LIMIT, &["ERROR", &dlq, "(87)"]);
    assert_ready_without(&bench, first, 7, &env);
}

#[test]
fn long_a_reason_of_bad_events_goes_with_their_partition() {
    let bench = Bench::shared("outlived_events");
    let env = [("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"), ("KAFKA_SESSION_TIMEOUT_MS", "6000")];
    let first = bench.start(&env);
    let records: Vec<Raw> = (0..1_500).map(|n| Raw::of(format!(r#"{{"version_number": "v{n}"}}"#))).collect();
    bench.kafka.write(&bench.topic, 7, 1, &records);
    first.wait_health(503, LIMIT);
    first.wait_log(LIMIT, &["ERROR", "column version_number takes none"]);
    assert_ready_without(&bench, first, 7, &env);
}
