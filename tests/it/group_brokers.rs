//! A cluster of three brokers that die and are restarted under load.

use std::time::Duration;

use crate::harness::kafka::needs_kafka;
use crate::harness::{Bench, ClickHouse, Consumer, Fleet, Kafka, Series, Table, rounds};

#[test]
fn brokers_die_and_restart_and_nothing_is_lost_or_doubled() {
    needs_kafka((3, 3), "a cluster of brokers without ZooKeeper");
    let kafka = Kafka::three();
    let bench = Bench::new("three", &kafka, ClickHouse::shared(), Table { window: false, views: true });
    kafka.wait_in_sync(&bench.topic);
    // The session outlasts the time in which a dead coordinator is replaced, as it does by default.
    let env = [("KAFKA_SESSION_TIMEOUT_MS", "30000"), ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000")];
    let fleet = Fleet::start(&bench, 2, &env);
    let resets = |fleet: &Fleet<'_>| fleet.replicas.iter().map(count_resets).sum::<usize>();
    let load = bench.load(1_000);
    fleet.wait_progress(3_000);
    let at_start = resets(&fleet);
    assert_eq!(at_start, 12, "each partition had no commit once");
    let coordinator = kafka.coordinator(&bench.group);
    println!("leaders {:?}, coordinator {coordinator}", kafka.led(&bench.topic));
    let (die, restart) = if rounds() < 20 {
        (vec![coordinator, (coordinator + 1) % 3], vec![(coordinator + 2) % 3])
    } else {
        (vec![coordinator, 0, 1, 2], vec![0, 1, 2])
    };
    for &node in &die {
        let led = kafka.led(&bench.topic).get(&node).copied().unwrap_or(0);
        kafka.kill9_node(node);
        fleet.wait_progress(3_000);
        kafka.restart_node(node);
        kafka.wait_in_sync(&bench.topic);
        fleet.wait_progress(3_000);
        println!("broker {node} died, the leader of {led} partitions");
    }
    for &node in &restart {
        kafka.stop_node(node);
        kafka.restart_node(node);
        kafka.wait_in_sync(&bench.topic);
        fleet.wait_progress(3_000);
        println!("broker {node} was restarted");
    }
    fleet.wait_even();
    for replica in &fleet.replicas {
        replica.wait_health(200, Duration::from_secs(30));
    }
    assert_eq!(resets(&fleet), at_start, "a partition was started without its committed offset");
    let (indices, uncertain) = load.stop_uncertain();
    println!("the producer does not know of {} events", uncertain.len());
    let name = format!("{} × kill -9 and {} × restart of three brokers", die.len(), restart.len());
    let series = Series::end(&name, fleet, indices, &uncertain);
    // First what is ours, then what the producer could have doubled, too.
    let records: i64 = kafka.end_offsets(&bench.topic).values().sum();
    assert_eq!(bench.rows(), records.unsigned_abs(), "each record of the topic is one row");
    assert_eq!(series.duplicates, 0);
}

fn count_resets(consumer: &Consumer) -> usize {
    let reset =
        |line: &&serde_json::Value| line["msg"].as_str().is_some_and(|text| text.contains("no committed offset"));
    consumer.log_lines().iter().filter(reset).count()
}
