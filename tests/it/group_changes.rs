//! Replicas come, go, die and freeze under a steady load.
//!
//! FAULT_ROUNDS sets how often: 3 unless it is set, 20 in `make faults`, which shows the printed lines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bench::PARTITIONS;
use crate::harness::fleet::{LIMIT, longest_gap};
use crate::harness::{Bench, ClickHouse, Consumer, Fleet, Kafka, Series, Table, rounds};
use crate::tables::assert_views_count;

const RATE: u32 = 2_500;
const BATCH: u64 = 2_000;
const WITH_VIEWS: Table = Table { window: true, views: true };
const WITHOUT_WINDOW: Table = Table { window: false, views: true };

fn bench(name: &str, table: Table) -> Bench<'static> {
    Bench::new(name, Kafka::shared(), ClickHouse::shared(), table)
}

#[test]
fn alone_stops_and_starts_of_replicas_lose_and_double_nothing() {
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
    // The heartbeat that tells the other of it comes within the interval of a second that Fleet sets.
    let allowed = Duration::from_secs(1 + 2);
    let ends: Vec<u64> = bench.inserts().iter().map(|insert| insert.start_ms + insert.took_ms).collect();
    assert!(longest_gap(&ends) <= allowed, "{:?} between two inserts, {series:?}", longest_gap(&ends));
    let pause = longest_pause(&bench);
    println!("no partition waited longer than {pause:?}");
    assert!(pause <= allowed, "a partition waited {pause:?}");
    assert_views_count(&bench, indices);
}

/// The longest time that a partition's events waited between two batches.
fn longest_pause(bench: &Bench<'_>) -> Duration {
    let sql = format!(
        "SELECT DISTINCT toUInt32(substring(org_id, 5)) % {PARTITIONS} AS partition, \
         toUnixTimestamp64Milli(ingested_at) AS encoded FROM {}.events ORDER BY partition, encoded",
        bench.database
    );
    let mut encoded: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in bench.clickhouse.rows(&sql) {
        encoded.entry(row[0].clone()).or_default().push(row[1].parse().unwrap());
    }
    assert_eq!(encoded.len(), PARTITIONS as usize);
    encoded.values().map(|times| longest_gap(times)).max().unwrap()
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
        frozen.signal("STOP");
        let asleep = frozen.log_lines().len();
        // The session is 6 s: the other has everything after it, and works on.
        fleet.wait_even();
        fleet.wait_progress(2 * u64::from(RATE));
        let committed = bench.kafka.committed(&bench.group, &bench.topic);
        frozen.signal("CONT");
        let awake = frozen.wait(LIMIT, "it joins again", || {
            let lines: Vec<Value> = frozen.log_lines().split_off(asleep);
            let joined = lines.iter().position(|line| line["msg"] == "joined the group");
            joined.map(|place| lines[..place].to_vec()).ok_or_else(|| "not yet".to_owned())
        });
        assert!(awake.iter().any(|line| line["why"] == "the session expired"), "{awake:#?}");
        // What was asked before the freeze may be answered after it; nothing is asked anew.
        let count = |what: &str| awake.iter().filter(|line| line["msg"] == what).count();
        assert!(count("stored a batch") <= 1 && count("committed") <= 1, "{awake:#?}");
        fleet.replicas.push(frozen);
        fleet.wait_even();
        for (partition, offset) in bench.kafka.committed(&bench.group, &bench.topic) {
            assert!(offset >= committed[&partition], "partition {partition} went back from {committed:?} to {offset}");
        }
    }
    let series = Series::end(&format!("{} × frozen past the session", rounds()), fleet, load.stop(), &[]);
    // The one request that was on the wire at each freeze; its successor reads those events too.
    assert!(series.duplicates <= rounds() * BATCH, "{series:?}");
}

#[test]
fn the_group_settles_while_clickhouse_is_down_with_a_window() {
    settle_while_clickhouse_is_down(WITH_VIEWS);
}

#[test]
fn the_group_settles_while_clickhouse_is_down_without_a_window() {
    settle_while_clickhouse_is_down(WITHOUT_WINDOW);
}

fn settle_while_clickhouse_is_down(table: Table) {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("down", Kafka::shared(), &clickhouse, table);
    let mut fleet = Fleet::start(&bench, 3, &[]);
    let load = bench.load(1_000);
    fleet.wait_progress(2_000);
    clickhouse.kill9();
    for replica in &fleet.replicas {
        replica.wait_health(503, LIMIT);
    }
    let gone = fleet.pick();
    gone.signal("TERM");
    assert_eq!(gone.wait_exit(LIMIT), Some(0));
    let left = Instant::now();
    fleet.wait_even();
    let settled = left.elapsed();
    println!("settled {:.1} s after a member left", settled.as_secs_f64());
    assert!(settled < Duration::from_secs(5), "{settled:?}");
    let gave_up = |replica: &&Consumer| replica.find_log(&["gave up an insert", r#""on_wire_unknown":true"#]).is_some();
    let in_doubt = fleet.replicas.iter().chain([&gone]).filter(gave_up).count() as u64;
    println!("{in_doubt} of 3 had an insert in doubt");
    clickhouse.restart();
    fleet.wait_progress(1_000);
    let name = format!("a rebalance while ClickHouse is down ({table:?})");
    let series = Series::end(&name, fleet, load.stop(), &[]);
    // What was on the wire when the server died has other owners now, who send it again as it was: with a window the
    // server knows it.
    let allowed = if table.window { 0 } else { in_doubt * BATCH };
    assert!(series.duplicates <= allowed, "{series:?} with {table:?}");
}
