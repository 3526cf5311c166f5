//! Partitions that cannot be read: a reason for as long as it lasts, with the present cause, and read again afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::bench::SHIPPED;
use crate::harness::tampered::{
    API_VERSIONS, Asked, FETCH, Fate, METADATA, Tampered, rename_fetched, set_fetch_errors,
};
use crate::harness::{Bench, ClickHouse, Consumer, Kafka, free_port, hold, pause, same};

const LIMIT: Duration = Duration::from_secs(60);
/// Within which a fault is a reason, and its end the end of the reason; and what a busy machine takes beside.
const NOTICED: Duration = Duration::from_secs(15);

fn reasons(consumer: &Consumer) -> Result<String, String> {
    Ok(consumer.status()?["reasons"].to_string())
}

/// While the rule is in force: unhealthy within the limit, with these words among the reasons, until it is over.
fn fails(
    tampered: &Tampered,
    bench: &Bench<'_>,
    consumer: &Consumer,
    words: &[&str],
    rule: impl FnMut(Asked, &mut Vec<u8>) -> Fate + Send + 'static,
) {
    tampered.tamper(rule);
    let begun = Instant::now();
    let before = bench.rows();
    bench.produce(120);
    consumer.wait(NOTICED, &format!("a reason with {words:?}"), || {
        let reasons = reasons(consumer)?;
        if words.iter().all(|word| reasons.contains(word)) { Ok(()) } else { Err(reasons) }
    });
    println!("{words:?}: a reason after {:.1} s", begun.elapsed().as_secs_f64());
    let held = Instant::now();
    while held.elapsed() < hold(3) {
        let (code, body) = consumer.health().unwrap();
        assert_eq!(code, 503, "{:?} after it began: {body}", begun.elapsed());
        pause(held);
    }
    let (connections, requests) = tampered.seen();
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(2) {
        pause(watched);
    }
    let (more_connections, more_requests) = tampered.seen();
    let each = |more: u64, before: u64| (more - before) as f64 / watched.elapsed().as_secs_f64();
    let rates = (each(more_connections, connections), each(more_requests, requests));
    println!("{words:?}: {:.1} connections and {:.1} requests a second", rates.0, rates.1);
    assert!(rates.0 < 4.0 && rates.1 < 60.0, "no pauses: {rates:?}");
    tampered.pass();
    consumer.wait_health(200, NOTICED);
    bench.wait_rows(consumer, before + 120, LIMIT);
}

#[test]
fn long_what_keeps_partitions_from_being_read_is_a_reason_until_they_are() {
    let tampered = Tampered::start();
    let bench = Bench::new("read_faults", &tampered.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = tampered.bootstrap();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap), ("BATCH_TIMEOUT_MS", "300")]);
    bench.produce(120);
    bench.wait_rows(&consumer, 120, LIMIT);
    let fetch = |fate: Fate| move |asked: Asked, _: &mut Vec<u8>| if asked.key == FETCH { fate } else { Fate::Pass };
    fails(&tampered, &bench, &consumer, &["partition 3", "KafkaStorageError (56)"], |asked, answer| {
        if asked.key == FETCH {
            set_fetch_errors(asked, answer, |index| (index == 3).then_some(56));
        }
        Fate::Pass
    });
    fails(&tampered, &bench, &consumer, &["partition 3", "partition 11", "Fetch"], fetch(Fate::Cut));
    fails(&tampered, &bench, &consumer, &["partition 3", "does not answer"], fetch(Fate::Silence));
    fails(&tampered, &bench, &consumer, &["partition 5", "partition 99 and was not asked for it"], |asked, answer| {
        if asked.key == FETCH {
            rename_fetched(asked, answer, 5, 99);
        }
        Fate::Pass
    });
    fails(&tampered, &bench, &consumer, &["partition 0", "out of range"], |asked, answer| {
        if asked.key == FETCH {
            set_fetch_errors(asked, answer, |_| Some(1));
        }
        Fate::Pass
    });
    let outside = consumer.log_lines().iter().filter(|line| line.to_string().contains("outside the log")).count();
    assert_eq!(outside, 12, "once for each partition");
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..720);
}

#[test]
fn a_broker_without_a_common_version_of_fetch_is_named_with_its_versions_and_ours() {
    let tampered = Tampered::start();
    let bench = Bench::new("old_fetch", &tampered.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = tampered.bootstrap();
    tampered.tamper(|asked, answer| {
        // Correlation id, error, and an array of key, oldest and newest version.
        if (asked.key, asked.version) == (API_VERSIONS, 0) {
            for entry in answer[10..].chunks_exact_mut(6).filter(|entry| entry[..2] == FETCH.to_be_bytes()) {
                entry[2..].copy_from_slice(&[0, 0, 0, 6]);
            }
        }
        Fate::Pass
    });
    bench.produce(100);
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap)]);
    consumer.wait(Duration::from_secs(25), "a reason with both versions", || {
        let reasons = reasons(&consumer)?;
        let words = [bootstrap.as_str(), "Fetch", "0 to 6", "11"];
        if words.iter().all(|word| reasons.contains(word)) { Ok(()) } else { Err(reasons) }
    });
    assert_eq!(consumer.health().unwrap().0, 503);
    tampered.pass();
    bench.wait_rows(&consumer, 100, LIMIT);
    consumer.wait_health(200, NOTICED);
    consumer.stop();
}

#[test]
fn metadata_of_a_broker_that_lags_behind_ends_no_fetches() {
    let tampered = Tampered::start();
    let bench = Bench::new("lagging", &tampered.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = tampered.bootstrap();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap), ("BATCH_TIMEOUT_MS", "300")]);
    bench.produce(100);
    bench.wait_rows(&consumer, 100, LIMIT);
    // A partition's leader is asked for, and one answer shows the topic as it was before it was created anew.
    let (lag, lagged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (arm, done) = (Arc::clone(&lag), Arc::clone(&lagged));
    let topic = bench.topic.clone().into_bytes();
    tampered.tamper(move |asked, answer| {
        if asked.key == FETCH && !done.load(Ordering::SeqCst) {
            set_fetch_errors(asked, answer, |index| (index == 3).then_some(6));
            arm.store(true, Ordering::SeqCst);
        }
        if asked.key == METADATA && arm.load(Ordering::SeqCst) && !done.swap(true, Ordering::SeqCst) {
            assert!(asked.version >= 10, "no ids before");
            let name = answer.windows(topic.len()).position(|window| window == topic).unwrap();
            answer[name + topic.len()] ^= 0xff; // the first byte of the id
        }
        Fate::Pass
    });
    consumer.wait(LIMIT, "a broker lagged behind", || same(lagged.load(Ordering::SeqCst), true));
    let second = bench.produce(1_000);
    bench.wait_rows(&consumer, 1_100, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_health(200, NOTICED);
    consumer.stop();
    bench.assert_exactly_once(0..second.end);
}

#[test]
fn a_broker_that_returns_at_another_address_is_read_there() {
    let kafka = Kafka::start(0);
    let bench = Bench::new("elsewhere", &kafka, ClickHouse::shared(), SHIPPED);
    let port = free_port();
    // As a name that is resolved to the address of the moment.
    let bootstrap = format!("{},127.0.0.1:{port}", kafka.bootstrap());
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()),
        ("BATCH_TIMEOUT_MS", "300"),
        ("KAFKA_SESSION_TIMEOUT_MS", "60000"),
    ];
    let consumer = bench.start(&env);
    bench.produce(100);
    bench.wait_rows(&consumer, 100, LIMIT);
    kafka.kill9();
    kafka.restart_elsewhere(port);
    let moved = Instant::now();
    let second = bench.produce(1_000);
    bench.wait_rows(&consumer, 1_100, LIMIT);
    println!("read at the new address after {:.1} s", moved.elapsed().as_secs_f64());
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_health(200, NOTICED);
    consumer.stop();
    bench.assert_exactly_once(0..second.end);
}

#[test]
fn long_a_coordinator_that_hangs_makes_no_loop_of_reading_again() {
    let tampered = Tampered::start();
    let bench = Bench::new("hanging", &tampered.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = tampered.bootstrap();
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()),
        ("BATCH_TIMEOUT_MS", "200"),
        ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"),
    ];
    let consumer = bench.start(&env);
    let load = bench.load(500);
    bench.wait_rows(&consumer, 500, LIMIT);
    // Everything of the group's is swallowed; the leaders answer.
    tampered.tamper(|asked, _| if (8..=14).contains(&asked.key) { Fate::Silence } else { Fate::Pass });
    consumer.wait_health(503, NOTICED);
    // Beyond the session's end.
    let began = Instant::now();
    let (mut connections, mut requests, mut since) = (0, 0, began);
    while began.elapsed() < hold(12) {
        if began.elapsed() < Duration::from_secs(6) {
            (connections, requests) = tampered.seen();
            since = Instant::now();
        }
        pause(began);
    }
    let (more_connections, more_requests) = tampered.seen();
    let each = |more: u64, before: u64| (more - before) as f64 / since.elapsed().as_secs_f64();
    let rates = (each(more_connections, connections), each(more_requests, requests));
    println!("{:.1} connections and {:.1} requests a second", rates.0, rates.1);
    assert!(rates.0 < 4.0 && rates.1 < 60.0, "no pauses: {rates:?}");
    tampered.pass();
    let indices = load.stop();
    bench.produced(&indices);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_health(200, NOTICED);
    consumer.stop();
    let tally = bench.tally(indices);
    assert_eq!((tally.missing, tally.foreign), (vec![], vec![]));
}
