//! Logs that are cut under the program and grow again: by an unclean election, and by a broker that dies with data it had
//! not flushed. Every record of the new log becomes a row; only records of the lost end may be rows without being in Kafka.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::harness::bench::SHIPPED;
use crate::harness::kafka::needs_kafka;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka};

const LIMIT: Duration = Duration::from_secs(60);
const FROM_THE_END: [(&str, &str); 1] = [("KAFKA_AUTO_OFFSET_RESET", "latest")];

/// A topic of one partition, with its table.
fn bench<'k>(name: &str, kafka: &'k Kafka) -> Bench<'k> {
    let bench = Bench::bare(name, kafka, ClickHouse::shared());
    bench.create_table(SHIPPED);
    bench
}

fn produce<const N: usize>(benches: [&Bench<'_>; N], events: u64) {
    for bench in benches {
        bench.produce(events);
    }
}

/// The program with what is there read and committed.
fn reading(bench: &Bench<'_>, more: &[(&str, &str)]) -> Consumer {
    let consumer = bench.start(more);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer
}

/// All of `events` are rows, and nothing is a row twice.
fn assert_all(bench: &Bench<'_>, consumer: &Consumer, events: u64) {
    consumer.wait(LIMIT, &format!("{events} rows in {}", bench.database), || {
        let rows = bench.rows();
        if rows >= events { Ok(()) } else { Err(format!("{rows} rows")) }
    });
    bench.wait_committed_to_the_end(consumer, LIMIT);
    bench.assert_exactly_once(0..events);
}

/// The line that says where reading stood, where the log was cut, and that it is counted.
fn assert_reported(consumer: &Consumer, position: i64, end: i64) {
    assert_reported_at(consumer, position, end);
    let metrics = consumer.metrics().unwrap();
    assert!(metrics.lines().any(|line| line == "sandarb_consumer_log_cuts_total 1"), "{metrics}");
    assert!(consumer.wait_healthy()["errors"].as_u64().unwrap() >= 1);
}

fn assert_reported_at(consumer: &Consumer, position: i64, end: i64) {
    let line = consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", "the log was cut below what was read already"]);
    assert_eq!((&line["position"], &line["log_end"]), (&json!(position), &json!(end)), "{line}");
}

#[test]
fn an_unclean_election_hides_no_record_of_the_new_log() {
    needs_kafka((3, 3), "a cluster of brokers without ZooKeeper");
    let kafka = Kafka::three();
    let settings = json!({"unclean.leader.election.enable": "true", "min.insync.replicas": "1"});
    let [running, restarted, joined] = ["unclean_run", "unclean_restart", "unclean_join"].map(|name| {
        let bench = bench(name, &kafka);
        kafka.create_topic_on(&bench.topic, &[1, 2], &settings);
        bench
    });
    let benches = [&running, &restarted, &joined];
    produce(benches, 100);
    // The session outlasts the time in which a dead coordinator is replaced.
    let env = [("KAFKA_SESSION_TIMEOUT_MS", "30000"), ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000")];
    let consumers = benches.map(|bench| reading(bench, &env));
    // The follower is away while 100 records are written, read and committed; then they die with their leader.
    kafka.stop_node(1);
    produce(benches, 100);
    for (bench, consumer) in benches.iter().zip(&consumers) {
        bench.wait_committed_to_the_end(consumer, LIMIT);
    }
    let [first, second, third] = consumers;
    second.stop();
    third.signal("STOP");
    kafka.kill9_node(0);
    kafka.restart_node(1);
    for bench in benches {
        kafka.wait_leader(&bench.topic, 2);
        bench.produce(200);
        assert_eq!(
            kafka.end_offsets(&bench.topic)[&0],
            300,
            "100 of the first log and 200 at the offsets that were lost"
        );
    }
    assert_all(&running, &first, 400);
    assert_reported(&first, 200, 100);
    first.stop();
    // The epoch comes back with the committed offset: to the program started again …
    let second = restarted.start(&env);
    assert_all(&restarted, &second, 400);
    assert_reported(&second, 200, 100);
    second.stop();
    // … and to whoever gets the partition in a rebalance.
    let fourth = joined.start(&env);
    fourth.wait(LIMIT, "the partition has another owner", || {
        let held = fourth.partitions()?;
        if held.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });
    third.signal("CONT");
    assert_all(&joined, &fourth, 400);
    assert_reported(&fourth, 200, 100);
    third.stop();
    fourth.stop();
}

/// A broker that dies together with the ZooKeeper it is registered with comes back in the same epoch.
fn needs_new_epochs() {
    needs_kafka((3, 0), "a leader epoch that grows when a single broker comes back");
}

/// What a partition's log has on the disk.
fn log_file(bench: &Bench<'_>) -> PathBuf {
    bench.kafka.log_dir(&bench.topic, 0).join("00000000000000000000.log")
}

/// Kills the broker and starts it again as if what came behind these sizes of the logs had not been flushed.
fn lose_the_ends(kafka: &Kafka, logs: &[(PathBuf, u64)]) {
    kafka.kill9();
    for (log, size) in logs {
        OpenOptions::new().write(true).open(log).unwrap().set_len(*size).unwrap();
    }
    kafka.restart();
}

#[test]
fn a_broker_that_dies_with_unflushed_data_costs_no_record_that_comes_after() {
    needs_new_epochs();
    let kafka = Kafka::start(0);
    // Each reads on in another way: from where it stood, from a commit, from beyond the end of the shorter log, and from a
    // start at the end, where nothing was read.
    let benches = ["unflushed_run", "unflushed_restart", "unflushed_beyond", "unflushed_latest"].map(|name| {
        let bench = bench(name, &kafka);
        kafka.create_topic(&bench.topic, 1);
        bench.produce(100);
        bench
    });
    let logs = benches.each_ref().map(|bench| (log_file(bench), fs::metadata(log_file(bench)).unwrap().len()));
    produce(benches.each_ref(), 100);
    let [running, restarted, beyond, latest] = &benches;
    let first = reading(running, &[]);
    reading(restarted, &[]).stop();
    let third = reading(beyond, &[]);
    reading(latest, &FROM_THE_END).stop();
    first.signal("STOP");
    third.signal("STOP");
    lose_the_ends(&kafka, &logs);
    running.produce(200);
    restarted.produce(200);
    beyond.produce(50);
    let last = latest.produce(200);
    let ends = benches.each_ref().map(|bench| kafka.end_offsets(&bench.topic)[&0]);
    assert_eq!(ends, [300, 300, 150, 300]);
    first.signal("CONT");
    assert_all(running, &first, 400);
    assert_reported(&first, 200, 100);
    first.stop();
    let second = restarted.start(&[]);
    assert_all(restarted, &second, 400);
    assert_reported(&second, 200, 100);
    second.stop();
    third.signal("CONT");
    assert_all(beyond, &third, 250);
    assert_reported(&third, 200, 100);
    third.stop();
    let fourth = latest.start(&FROM_THE_END);
    latest.wait_rows(&fourth, 200, LIMIT);
    latest.wait_committed_to_the_end(&fourth, LIMIT);
    latest.assert_exactly_once(last);
    assert_reported(&fourth, 200, 100);
    fourth.stop();
}

#[test]
fn a_batch_on_the_wire_is_committed_up_to_the_place_of_a_cut() {
    needs_new_epochs();
    let (kafka, clickhouse) = (Kafka::start(0), ClickHouse::start("ingest", "sandarb"));
    let bench = Bench::bare("cut_amid", &kafka, &clickhouse);
    bench.create_table(SHIPPED);
    kafka.create_topic(&bench.topic, 1);
    bench.produce(100);
    let consumer = reading(&bench, &[("BATCH_SIZE", "100"), ("CLICKHOUSE_TIMEOUT_MS", "60000")]);
    clickhouse.signal("STOP");
    bench.produce(50);
    let log = (log_file(&bench), fs::metadata(log_file(&bench)).unwrap().len());
    bench.produce(50);
    consumer.wait(LIMIT, "a full batch is on the wire", || {
        let open = consumer.status()?["events"]["open"].as_u64();
        if open == Some(100) { Ok(()) } else { Err(format!("{open:?}")) }
    });
    consumer.signal("STOP");
    lose_the_ends(&kafka, &[log]);
    bench.produce(30);
    consumer.signal("CONT");
    assert_reported_at(&consumer, 200, 150);
    assert_eq!(kafka.committed(&bench.group, &bench.topic)[&0], 100, "what lies before the cut is not stored yet");
    clickhouse.signal("CONT");
    assert_all(&bench, &consumer, 230);
    consumer.stop();
    assert_eq!(kafka.committed(&bench.group, &bench.topic)[&0], 180);
}
