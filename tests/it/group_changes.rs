//! Replicas come, go, die and freeze under a steady load.
//!
//! FAULT_ROUNDS sets how often: 3 unless it is set, 20 in `make faults`, which shows the printed lines.

use std::time::{Duration, Instant};

use crate::harness::fleet::LIMIT;
use crate::harness::{Bench, ClickHouse, Fleet, Kafka, Series, Table, rounds};
use crate::tables::assert_views_count;

const RATE: u32 = 2_500;
const BATCH: u64 = 2_000;
const WITH_VIEWS: Table = Table { window: true, views: true };
const WITHOUT_WINDOW: Table = Table { window: false, views: true };

fn bench(name: &str, table: Table) -> Bench<'static> {
    Bench::new(name, Kafka::shared(), ClickHouse::shared(), table)
}

#[test]
fn stops_and_starts_of_replicas_lose_and_double_nothing() {
    let bench = bench("terms", WITHOUT_WINDOW);
    let mut fleet = Fleet::start(&bench, 2, &[]);
    let load = bench.load(RATE);
    for _ in 0..rounds() {
        fleet.wait_progress(u64::from(RATE));
        fleet.pick().stop();
        fleet.wait_even();
        fleet.wait_progress(u64::from(RATE));
        fleet.add();
        fleet.wait_even();
    }
    let indices = load.stop();
    let series = Series::end(&format!("{} × SIGTERM and start", rounds()), fleet, indices.clone(), &[]);
    assert_eq!(series.duplicates, 0);
    // The heartbeat that tells the other of it comes within its interval of 1 s.
    assert!(series.longest_gap <= Duration::from_secs(1 + 2), "{series:?}");
    assert_views_count(&bench, indices);
}

#[test]
fn kills_lose_nothing_and_double_at_most_what_was_under_way() {
    let bench = bench("kills", WITHOUT_WINDOW);
    let mut fleet = Fleet::start(&bench, 2, &[]);
    let load = bench.load(RATE);
    for _ in 0..rounds() {
        fleet.wait_progress(u64::from(RATE));
        fleet.pick().kill9();
        fleet.wait_even();
        fleet.wait_progress(u64::from(RATE));
        fleet.add();
        fleet.wait_even();
    }
    let series = Series::end(&format!("{} × kill -9", rounds()), fleet, load.stop(), &[]);
    // One batch on the wire, one whose commit was not.
    assert!(series.duplicates <= rounds() * BATCH * 2, "{series:?}");
}

#[test]
fn a_storm_of_rebalances_loses_nothing() {
    let bench = bench("storm", WITHOUT_WINDOW);
    let mut fleet = Fleet::start(&bench, 2, &[]);
    let load = bench.load(1_000);
    fleet.wait_progress(1_000);
    let (lasts, every) =
        (Duration::from_secs(3 * rounds().min(20)).max(Duration::from_secs(15)), Duration::from_secs(2));
    let started = Instant::now();
    let mut beat = started;
    let mut leaving = Vec::new();
    while started.elapsed() < lasts {
        // One joins, and the one that is there longest leaves, whatever the group is doing.
        fleet.add();
        let old = fleet.replicas.remove(0);
        old.signal("TERM");
        leaving.push(old);
        beat += every;
        std::thread::sleep(beat.saturating_duration_since(Instant::now()));
    }
    let over = Instant::now();
    let rows = bench.rows();
    bench.wait_rows(&fleet.replicas[1], rows + 1, Duration::from_secs(10));
    println!("progress {:.1} s after the storm", over.elapsed().as_secs_f64());
    for old in &leaving {
        assert_eq!(old.wait_exit(LIMIT), Some(0));
    }
    fleet.wait_even();
    let name = format!("{} s of joining and leaving every 2 s", lasts.as_secs());
    let series = Series::end(&name, fleet, load.stop(), &[]);
    assert_eq!(series.duplicates, 0, "every stop was a clean one");
}

#[test]
fn a_frozen_replica_neither_commits_nor_inserts_when_it_wakes() {
    let bench = bench("zombie", WITHOUT_WINDOW);
    let mut fleet = Fleet::start(&bench, 2, &[]);
    let load = bench.load(RATE);
    for _ in 0..rounds() {
        fleet.wait_progress(u64::from(RATE));
        let frozen = fleet.pick();
        let before = frozen.status().unwrap();
        frozen.signal("STOP");
        // The session is 6 s: the other has everything after it, and works on.
        fleet.wait_even();
        fleet.wait_progress(2 * u64::from(RATE));
        let committed = bench.kafka.committed(&bench.group, &bench.topic);
        frozen.signal("CONT");
        let line = frozen.wait_log(LIMIT, &["lost the partitions"]);
        assert_eq!(line["level"], "WARNING", "{line}");
        fleet.replicas.push(frozen);
        fleet.wait_even();
        for (partition, offset) in bench.kafka.committed(&bench.group, &bench.topic) {
            assert!(offset >= committed[&partition], "partition {partition} went back from {committed:?} to {offset}");
        }
        let after = fleet.replicas[1].status().unwrap();
        println!(
            "frozen with {} rows, generation {}; awake with {}, generation {}",
            before["clickhouse"]["rows_inserted"],
            before["kafka"]["generation"],
            after["clickhouse"]["rows_inserted"],
            after["kafka"]["generation"]
        );
    }
    let series = Series::end(&format!("{} × frozen past the session", rounds()), fleet, load.stop(), &[]);
    // The one request that was on the wire at each freeze; its successor reads those events too.
    assert!(series.duplicates <= rounds() * BATCH, "{series:?}");
}

#[test]
fn the_group_settles_while_clickhouse_is_down() {
    for table in [WITH_VIEWS, WITHOUT_WINDOW] {
        let clickhouse = ClickHouse::start("ingest", "sandarb");
        let bench = Bench::new("down", Kafka::shared(), &clickhouse, table);
        let mut fleet = Fleet::start(&bench, 2, &[]);
        let load = bench.load(1_000);
        fleet.wait_progress(2_000);
        clickhouse.kill9();
        for replica in &fleet.replicas {
            replica.wait_health(503, LIMIT);
        }
        // The original pair has had time to hold back; now a third comes, and one of the first goes.
        let joined = Instant::now();
        fleet.add();
        // A new replica cannot become a member before it has seen the table: the two go on as they are until then.
        let gone = fleet.replicas.remove(0);
        gone.signal("TERM");
        assert_eq!(gone.wait_exit(LIMIT), Some(0));
        let left = fleet.replicas.remove(0);
        crate::harness::fleet::wait_shares(&[&left], 12, Duration::from_secs(8));
        println!("settled {:.1} s after a member left", joined.elapsed().as_secs_f64());
        fleet.replicas.insert(0, left);
        clickhouse.restart();
        fleet.wait_even();
        fleet.wait_progress(1_000);
        let series = Series::end("a rebalance while ClickHouse is down", fleet, load.stop(), &[]);
        let doubt = if table.window { 0 } else { 2 * BATCH };
        assert!(series.duplicates <= doubt, "{series:?} with {table:?}");
    }
}
