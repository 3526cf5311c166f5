//! Rows that only the server refuses: exactly these are put aside; and what looks like them and is none is not.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::bench::PARTITIONS;
use crate::harness::fleet::in_full;
use crate::harness::raw::Raw;
use crate::harness::{Bench, ClickHouse, Kafka, Table};

const LIMIT: Duration = Duration::from_secs(120);

/// An event by the fields that matter here.
fn event(number: u64, org_id: &str) -> Raw {
    Raw::of(format!(r#"{{"event_id": "00000000-0000-4000-8000-{number:012}", "org_id": "{org_id}"}}"#))
}

fn count(bench: &Bench<'_>, table: &str, filter: &str) -> u64 {
    bench.clickhouse.number(&format!("SELECT count() FROM {}.{table} WHERE {filter}", bench.database))
}

#[test]
fn exactly_the_rows_that_a_constraint_refuses_become_letters() {
    let bench = Bench::shared("constraint");
    let table = format!("{}.events", bench.database);
    bench.clickhouse.query(&format!("ALTER TABLE {table} ADD CONSTRAINT known CHECK org_id != 'refused'"));
    let mut refused = BTreeMap::new();
    let mut refuse = |partition: i32| {
        let record = event(refused.len() as u64, "refused");
        let offset = bench.kafka.write(&bench.topic, partition, bench.source.base_ms, std::slice::from_ref(&record));
        refused.insert((partition, offset), record);
    };
    // At the start, in the middle of one batch of several partitions, two beside each other, at the end.
    refuse(0);
    bench.produce(3_000);
    [4, 4, 9].into_iter().for_each(&mut refuse);
    bench.produce(3_000);
    [0, 7].into_iter().for_each(&mut refuse);
    bench.produce(2_000);
    refuse(11);
    let consumer = bench.start(&[("BATCH_SIZE", "1000")]);
    bench.wait_rows(&consumer, 8_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let health = consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..8_000);
    let dlq = format!("{}.dlq", bench.topic);
    let mut found = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for letter in bench.kafka.read(&dlq, partition) {
            assert_eq!(letter.header("sandarb.class"), Some("server"));
            assert_eq!(letter.header("sandarb.code"), Some("469"));
            assert!(letter.header("sandarb.reason").unwrap().contains("known"), "{letter:?}");
            let offset = letter.header("sandarb.offset").unwrap().parse::<i64>().unwrap();
            found.insert((partition, offset), Raw { headers: Vec::new(), ..letter });
        }
    }
    assert_eq!(found, refused);
    assert_eq!(health["events_inserted"], 8_000, "{health}");
}

#[test]
fn too_many_table_partitions_in_one_batch_are_sent_in_parts() {
    const DAYS: u64 = 350;
    let bench = Bench::bare("days", Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic(&bench.topic, PARTITIONS);
    bench.clickhouse.query(&format!("CREATE DATABASE {}", bench.database));
    bench.clickhouse.query(&format!(
        "CREATE TABLE {}.events (n UInt64, event_time DateTime64(3, 'UTC')) ENGINE = MergeTree \
         PARTITION BY toYYYYMMDD(event_time) ORDER BY n SETTINGS non_replicated_deduplication_window = 10000",
        bench.database
    ));
    for partition in 0..PARTITIONS {
        let of = |day: &u64| day % PARTITIONS as u64 == partition as u64;
        let events: Vec<Raw> = (0..DAYS)
            .filter(of)
            .map(|day| Raw::of(format!(r#"{{"n": {day}, "event_time": {}}}"#, 1_700_000_000 + day * 86_400)))
            .collect();
        bench.kafka.write(&bench.topic, partition, bench.source.base_ms, &events);
    }
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, DAYS, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    let distinct = format!("SELECT uniqExact(n) FROM {}.events", bench.database);
    assert_eq!((bench.rows(), bench.clickhouse.number(&distinct)), (DAYS, DAYS));
    assert!(!bench.kafka.topics().contains(&format!("{}.dlq", bench.topic)), "nothing is put aside");
}

#[test]
fn a_throwing_view_is_waited_for_and_nothing_is_doubled_or_put_aside() {
    let bench = Bench::new("throwing", Kafka::shared(), ClickHouse::shared(), Table { window: true, views: false });
    let (clickhouse, database) = (bench.clickhouse, &bench.database);
    clickhouse.query(&format!(
        "CREATE TABLE {database}.target (event_id UUID, boom UInt8) ENGINE = MergeTree ORDER BY event_id \
         SETTINGS non_replicated_deduplication_window = 1000"
    ));
    clickhouse.query(&format!(
        "CREATE MATERIALIZED VIEW {database}.throwing TO {database}.target AS \
         SELECT event_id, throwIf(org_id = 'boom') AS boom FROM {database}.events"
    ));
    let consumer = bench.start(&[]);
    bench.produce(2_000);
    bench.wait_rows(&consumer, 2_000, LIMIT);
    bench.kafka.write(&bench.topic, 2, bench.source.base_ms, &[event(1, "boom")]);
    bench.produce(500);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", "while pushing to view", "materialized view"]);
    let failed = consumer.health().unwrap().1["errors"].as_u64().unwrap();
    consumer.wait(LIMIT, "some more attempts", || {
        let errors = consumer.health()?.1["errors"].as_u64().unwrap();
        if errors >= failed + 3 { Ok(()) } else { Err(format!("{errors} errors")) }
    });
    assert!(count(&bench, "events", "org_id = 'boom'") <= 1, "each attempt has stored the row again");
    clickhouse.query(&format!(
        "ALTER TABLE {database}.throwing MODIFY QUERY SELECT event_id, toUInt8(org_id = 'boom') AS boom \
         FROM {database}.events"
    ));
    bench.wait_rows(&consumer, 2_501, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    assert_eq!(bench.rows(), 2_501);
    assert_eq!((count(&bench, "target", "1"), count(&bench, "target", "boom = 1")), (2_501, 1));
    assert!(!bench.kafka.topics().contains(&format!("{}.dlq", bench.topic)), "nothing was put aside");
}

#[test]
fn long_poison_alone_flows_on_for_as_long_as_it_comes() {
    // In full one a second for five minutes.
    let (lasts, pause) = if in_full() { (300, 1_000) } else { (8, 200) };
    let (lasts, pause) = (Duration::from_secs(lasts), Duration::from_millis(pause));
    let bench = Bench::shared("drip");
    let consumer = bench.start(&[]);
    bench.produce(12);
    bench.wait_rows(&consumer, 12, LIMIT);
    consumer.wait_healthy();
    let started = Instant::now();
    let mut written = 0;
    while started.elapsed() < lasts {
        let poison = Raw::of(format!(r#"{{"version_number": "poison {written}"}}"#));
        bench.kafka.write(&bench.topic, written % PARTITIONS, 1, &[poison]);
        written += 1;
        let (status, health) = consumer.health().unwrap();
        assert_eq!(status, 200, "{health}");
        thread::sleep(pause);
    }
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    println!("{written} bad events in {:.0} s", started.elapsed().as_secs_f64());
    consumer.wait_healthy();
    let letters: i64 = bench.kafka.end_offsets(&format!("{}.dlq", bench.topic)).values().sum();
    assert_eq!(letters, i64::from(written));
    consumer.stop();
}

#[test]
fn a_column_that_fails_every_event_stops_instead() {
    const EVENTS: u64 = 3_000;
    let bench = Bench::shared("column");
    for partition in 0..PARTITIONS {
        let events: Vec<Raw> = (0..EVENTS / PARTITIONS as u64)
            .map(|number| {
                let id = u64::try_from(partition).unwrap() * 1_000 + number;
                Raw::of(format!(r#"{{"event_id": "00000000-0000-4000-8000-{id:012}", "version_number": "v{number}"}}"#))
            })
            .collect();
        bench.kafka.write(&bench.topic, partition, bench.source.base_ms, &events);
    }
    let consumer = bench.start(&[("BATCH_TIMEOUT_MS", "10000")]);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["ERROR", "column version_number takes none"]);
    // Through more than one further try.
    let tries = |count: usize| {
        consumer.wait(LIMIT, "further tries", || {
            let lines = consumer.log_lines();
            let seen = lines.iter().filter(|line| line.to_string().contains("takes none")).count();
            if seen >= count { Ok(()) } else { Err(format!("{seen}")) }
        });
    };
    tries(3);
    assert_eq!(bench.rows(), 0);
    assert!(!bench.kafka.topics().contains(&format!("{}.dlq", bench.topic)), "nothing is put aside");
    assert!(bench.kafka.committed(&bench.group, &bench.topic).values().all(|offset| *offset == 0));
    bench.clickhouse.query(&format!("ALTER TABLE {}.events MODIFY COLUMN version_number String", bench.database));
    bench.wait_rows(&consumer, EVENTS, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    assert_eq!(bench.rows(), EVENTS);
    assert_eq!(count(&bench, "events", "startsWith(version_number, 'v')"), EVENTS);
}
