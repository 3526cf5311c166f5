//! One thread does it all: how long it keeps its own timers, and with them the heartbeats, waiting.
//!
//! Times are only asserted on the binary that ships.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::consumer::{asserts, shipped};
use crate::harness::{Bench, Consumer, same};
use crate::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(150);
const MEMORY: u64 = 128 << 20;

/// What the machine itself does to a thread that only sleeps: a stall of the program is what comes on top.
struct Control {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Control {
    fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let tick = Duration::from_millis(10);
            let mut latest = Duration::ZERO;
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(tick);
                latest = latest.max(began.elapsed().saturating_sub(tick));
            }
            latest
        });
        Self { stop, thread }
    }

    fn latest(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn stall(consumer: &Consumer) -> Duration {
    Duration::from_secs_f64(Metrics::of(consumer).unwrap().get("sandarb_consumer_loop_stall_seconds"))
}

/// The membership that was joined at first is still there, and no heartbeat was missed.
fn assert_kept_its_membership(consumer: &Consumer) {
    let now = Metrics::of(consumer).unwrap();
    assert_eq!(now.get("sandarb_consumer_rebalances_total"), 1.0);
    assert_eq!(now.get("sandarb_consumer_kafka_connected"), 1.0);
    assert_eq!(now.get("sandarb_consumer_kafka_errors_total"), 0.0);
}

/// Other processes take the processor at any time, so one flood may look worse than it was; a stall of the program's own
/// making is in each of them.
#[test]
fn alone_a_flood_keeps_no_timer_waiting_for_50_ms() {
    const EVENTS: u64 = 100_000;
    const TRIES: u32 = 6;
    let bench = Bench::shared("stall");
    bench.produce(EVENTS);
    let mut all = Vec::new();
    for turn in 0..TRIES {
        let control = Control::start();
        let consumer = bench.start(&[("KAFKA_GROUP_ID", &format!("{}-{turn}", bench.group))]);
        consumer.wait(LIMIT, "all events are consumed", || {
            let (_, health) = consumer.health()?;
            same(health["events_consumed"].as_u64(), Some(EVENTS))
        });
        let (seen, machine) = (stall(&consumer), control.latest());
        assert_kept_its_membership(&consumer);
        consumer.stop();
        println!("loop_stall_seconds {seen:?}, of a thread that only sleeps {machine:?}");
        if !asserts("a flood keeps no timer waiting for 50 ms") || seen <= Duration::from_millis(50) + machine {
            return;
        }
        all.push((seen, machine));
    }
    panic!("in each of {TRIES} floods a timer waited too long: {all:?}");
}

#[test]
fn alone_heartbeats_are_on_time_through_zstd_batches_of_64_mib() {
    // The built-in limits of a debug build are its own: what is shown there is the way, not the size.
    let (batch, size, count) =
        if shipped().is_some() { (66_500_000, 20_000, 13_000) } else { (8_000_000, 20_000, 1_500) };
    let config = json!({
        "compression.type": "zstd", "linger.ms": 5000, "batch.size": batch, "batch.num.messages": 1_000_000,
        "message.max.bytes": 70_000_000, "queue.buffering.max.kbytes": 1_000_000,
    });
    through_large_batches("zstd64", size, count, &config);
}

#[test]
fn alone_heartbeats_are_on_time_through_events_of_1_mb() {
    let config = json!({"compression.type": "lz4", "linger.ms": 50, "message.max.bytes": 3_000_000});
    through_large_batches("events1m", 1_000_000, if shipped().is_some() { 300 } else { 30 }, &config);
}

/// With the shortest session that the broker allows: a thread that is busy for 6 s has lost its membership.
fn through_large_batches(name: &str, size: usize, count: u64, config: &serde_json::Value) {
    let bench = Bench::bare(name, crate::harness::Kafka::shared(), crate::harness::ClickHouse::shared());
    bench.kafka.create_topic_with(&bench.topic, 2, &json!({"max.message.bytes": "12000000"}));
    bench.create_table(crate::harness::bench::SHIPPED);
    for partition in 0..2 {
        bench.kafka.peer(&json!({
            "op": "produce_events", "topic": bench.topic, "partition": partition, "count": count / 2, "size": size,
            "config": config,
        }));
    }
    let control = Control::start();
    let consumer = bench.start(&[
        ("MEMORY_BUDGET_BYTES", &MEMORY.to_string()),
        ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"),
    ]);
    bench.wait_rows(&consumer, count, LIMIT);
    let (seen, machine) = (stall(&consumer), control.latest());
    assert_kept_its_membership(&consumer);
    let bytes = bench.clickhouse.number(&format!("SELECT sum(length(metadata)) FROM {}.events", bench.database));
    assert_eq!(bytes, count * size as u64);
    let peak = consumer.peak_rss_kib() * 1024;
    println!("{name}: loop_stall_seconds {seen:?}, of a thread that only sleeps {machine:?}, peak RSS {peak} bytes");
    consumer.stop();
    if asserts(&format!("{name}: a stall of at most 1 s, at most {} bytes of memory", MEMORY + (16 << 20))) {
        // Less than the interval between two heartbeats.
        assert!(seen <= Duration::from_secs(1) + machine, "{seen:?}, the machine {machine:?}");
        assert!(peak <= MEMORY + (16 << 20), "{peak} bytes");
    }
}
