//! Where reading begins or goes on: nothing that is not stored is passed by a commit, whatever a broker says of its log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::bench::SHIPPED;
use crate::harness::tampered::{FETCH, Fate, Tampered, set_fetch_errors};
use crate::harness::veil::Veiled;
use crate::harness::{Bench, ClickHouse, hold, pause, same, wait_until};
use crate::log_changes::{delete_records, lost_lines};

const LIMIT: Duration = Duration::from_secs(60);
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// COORDINATOR_LOAD_IN_PROGRESS.
const LOADING: i16 = 14;

#[test]
fn a_start_found_again_in_range_commits_nothing_that_is_not_stored() {
    let tampered = Tampered::start();
    let bench = Bench::new("found_again", &tampered.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = tampered.bootstrap();
    // Nothing closes the open batch.
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()), ("BATCH_TIMEOUT_MS", "600000")];
    let first = bench.produce(600);
    let ends = bench.kafka.end_offsets(&bench.topic);
    let consumer = bench.start(&env);
    let read_to = |ends: &BTreeMap<i32, i64>| {
        wait_until(LIMIT, "all is read", || same(tampered.fetched(), ends.clone()));
    };
    read_to(&ends);
    let started = bench.kafka.committed(&bench.group, &bench.topic);
    // Once for each partition, as a leader says that has just taken over.
    let refused = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&refused);
    tampered.tamper(move |asked, answer| {
        if asked.key == FETCH {
            set_fetch_errors(asked, answer, |index| {
                let bit = 1 << index;
                let new = counted.fetch_or(bit, Ordering::SeqCst) & bit == 0;
                new.then_some(OFFSET_OUT_OF_RANGE)
            });
        }
        Fate::Pass
    });
    wait_until(LIMIT, "each partition was refused once", || same(refused.load(Ordering::SeqCst), (1 << 12) - 1));
    // Each start was found again by the time that something comes after it.
    let second = bench.produce(100);
    read_to(&bench.kafka.end_offsets(&bench.topic));
    assert_eq!(bench.kafka.committed(&bench.group, &bench.topic), started, "nothing is stored yet");
    consumer.kill9();
    tampered.pass();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap)]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(first.start..second.end);
}

#[test]
fn what_retention_takes_from_an_open_batch_counts_as_lost_for_the_next_owner() {
    let tampered = Tampered::start();
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("taken", &tampered.kafka, &clickhouse, SHIPPED);
    let bootstrap = tampered.bootstrap();
    bench.produce(300);
    let read = bench.kafka.end_offsets(&bench.topic);
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap), ("BATCH_TIMEOUT_MS", "600000")]);
    wait_until(LIMIT, "all is read", || same(tampered.fetched(), read.clone()));
    clickhouse.kill9();
    consumer.signal("STOP");
    // For longer than the fetch that is under way waits.
    bench.produce_at(60, Some(50.0)).wait();
    let ends = bench.kafka.end_offsets(&bench.topic);
    delete_records(&bench, &ends);
    consumer.signal("CONT");
    consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", "these offsets are lost"]);
    consumer.wait_log(LIMIT, &["ClickHouse", "refuses connections"]);
    let nothing: BTreeMap<i32, i64> = read.keys().map(|partition| (*partition, 0)).collect();
    assert_eq!(bench.kafka.committed(&bench.group, &bench.topic), nothing, "nothing is stored");
    consumer.kill9();
    clickhouse.restart();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap)]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let lost: i64 = lost_lines(&consumer).iter().map(|line| line["lost"].as_i64().unwrap()).sum();
    assert_eq!(lost, ends.values().sum::<i64>(), "none of these is in the table");
    assert_eq!(bench.rows(), 0);
    consumer.stop();
}

#[test]
fn long_nothing_is_read_before_the_commit_of_its_start_is_acknowledged() {
    let veiled = Veiled::start();
    let bench = Bench::new("unacknowledged", &veiled.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = veiled.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()), ("KAFKA_AUTO_OFFSET_RESET", "latest")];
    veiled.refuse_commits(LOADING);
    let killed = bench.start(&env);
    killed.wait_log(LIMIT, &["no committed offset", "latest"]);
    // Were they read without a commit, a kill would leave a gap behind them.
    let skipped = bench.produce(1_000);
    let began = Instant::now();
    while began.elapsed() < hold(12) {
        assert_eq!(bench.rows(), 0, "read before its start is committed, {:?} after", began.elapsed());
        pause(began);
    }
    assert!(veiled.refused_commits() > 0);
    killed.kill9();

    let consumer = bench.start(&env);
    consumer.wait_log(LIMIT, &["no committed offset", "latest"]);
    wait_until(LIMIT, "every start is found", || {
        let found = consumer.log_lines().iter().filter(|line| line["msg"].as_str().unwrap().contains("latest")).count();
        same(found, 12)
    });
    let indices = bench.produce(1_000);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(bench.rows(), 0);
        pause(began);
    }
    veiled.refuse_commits(0);
    bench.wait_rows(&consumer, 1_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(indices);
    assert_eq!(bench.tally(skipped).once, 0, "of the run that was killed there is nothing");
}
