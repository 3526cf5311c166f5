//! ClickHouse dies under load and comes back.

use std::time::{Duration, Instant};

use crate::harness::consumer::asserts;
use crate::harness::{Bench, ClickHouse, Consumer, Kafka, Table, hold, pause};
use crate::tables::assert_views_count;

const EVENTS: u64 = 60_000;
const BATCH: u64 = 2_000;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn nothing_is_lost_or_doubled_with_a_deduplication_window_nor_in_the_views() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("outage", Kafka::shared(), &clickhouse, Table { window: true, views: true });
    survive_an_outage(&bench);
    bench.assert_exactly_once(0..EVENTS);
    assert_views_count(&bench, 0..EVENTS);
}

#[test]
fn without_a_window_only_the_batch_in_doubt_is_doubled() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("outage_plain", Kafka::shared(), &clickhouse, Table { window: false, views: false });
    survive_an_outage(&bench);
    let tally = bench.tally(0..EVENTS);
    assert!(tally.missing.is_empty() && tally.foreign.is_empty(), "{tally:?}");
    assert!(tally.surplus <= BATCH, "{} rows too many, more than one batch", tally.surplus);
    let thrice = format!(
        "SELECT count() FROM (SELECT event_id FROM {}.events GROUP BY event_id HAVING count() > 2)",
        bench.database
    );
    assert_eq!(clickhouse.number(&thrice), 0, "a batch was stored more than twice");
}

#[test]
fn a_server_that_hangs_is_an_outage_too() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("hang", Kafka::shared(), &clickhouse, Table { window: true, views: false });
    let consumer = bench.start(&[("CLICKHOUSE_TIMEOUT_MS", "3000")]);
    let flood = bench.produce_at(EVENTS, Some(6_000.0));
    bench.wait_rows(&consumer, EVENTS / 10, LIMIT);
    clickhouse.signal("STOP");
    consumer.wait_health(503, Duration::from_secs(30));
    clickhouse.signal("CONT");
    flood.wait();
    bench.wait_rows(&consumer, EVENTS, LIMIT);
    consumer.wait_healthy();
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..EVENTS);
}

#[test]
fn long_a_frozen_server_shows_within_ten_seconds_and_so_does_its_return() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("frozen", Kafka::shared(), &clickhouse, Table { window: true, views: false });
    let consumer = bench.start(&[]);
    consumer.wait_healthy();
    let mut events = 0;
    for inserting in [false, true] {
        let load = inserting.then(|| bench.load(200));
        if load.is_some() {
            bench.wait_rows(&consumer, events + 200, LIMIT);
        }
        clickhouse.signal("STOP");
        let began = Instant::now();
        consumer.wait_health(503, TEN);
        println!("inserting: {inserting}: 503 after {:?}", began.elapsed());
        while began.elapsed() < hold(12) {
            assert_eq!(consumer.health().unwrap().0, 503, "inserting: {inserting}");
            pause(began);
        }
        clickhouse.signal("CONT");
        let began = Instant::now();
        consumer.wait_health(200, TEN);
        println!("inserting: {inserting}: 200 after {:?}", began.elapsed());
        if let Some(load) = load {
            let indices = load.stop();
            bench.produced(&indices);
            events = indices.end;
        }
    }
    bench.wait_rows(&consumer, events, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..events);
}

/// Both ways.
const TEN: Duration = Duration::from_secs(10);

/// Kills the server while events flow, looks at the program for the time it is down, starts it again, and waits until
/// everything is stored.
fn survive_an_outage(bench: &Bench<'_>) {
    let consumer = bench.start(&[]);
    // Longer than the outage: load before, during and after it.
    let flood = bench.produce_at(EVENTS, Some(2_000.0));
    bench.wait_rows(&consumer, EVENTS / 20, LIMIT);
    bench.clickhouse.kill9();
    assert!(!flood.is_over(), "the load ended before the outage");
    watch_the_outage(&consumer);
    bench.clickhouse.restart();
    let indices = flood.wait();
    assert_eq!(indices, 0..EVENTS);
    consumer.wait_healthy();
    bench.wait_rows(&consumer, EVENTS, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let health = consumer.wait_healthy();
    assert_eq!(health["events_consumed"], EVENTS, "the membership stayed, so nothing was read twice: {health}");
    consumer.stop();
}

fn watch_the_outage(consumer: &Consumer) {
    let started = Instant::now();
    let health = consumer.wait_health(503, Duration::from_secs(10));
    assert_eq!(
        (&health["clickhouse_connected"], &health["kafka_connected"]),
        (&false.into(), &true.into()),
        "{health}"
    );
    let mut settled: Vec<u64> = Vec::new();
    while started.elapsed() < hold(20) {
        std::thread::sleep(Duration::from_secs(1));
        let (status, health) = consumer.health().unwrap();
        assert_eq!(status, 503, "{health}");
        if started.elapsed() > Duration::from_secs(5) {
            settled.push(consumer.rss_kib());
        }
    }
    let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
    // Only the binary that ships has the allocator and the buffers whose size is promised.
    if asserts("memory moves by no more than 2 MiB") {
        assert!(most - least <= 2 * 1024, "resident memory moved by {} KiB: {settled:?}", most - least);
    }
}

#[test]
fn a_broker_that_dies_is_waited_for() {
    let kafka = Kafka::start(0);
    let bench = Bench::new("broker", &kafka, ClickHouse::shared(), Table { window: true, views: false });
    let consumer = bench.start(&[]);
    bench.produce(5_000);
    bench.wait_rows(&consumer, 5_000, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    kafka.kill9();
    consumer.wait_health(503, Duration::from_secs(10));
    // Fetches may fail before the coordinator's silence is long enough.
    consumer.wait(Duration::from_secs(10), "no contact with Kafka", || match consumer.health()? {
        (503, health) if health["kafka_connected"] == false => Ok(()),
        (status, health) => Err(format!("{status} {health}")),
    });
    kafka.restart();
    bench.produce(5_000);
    bench.wait_rows(&consumer, 10_000, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..10_000);
}
