//! Commits that the coordinator does not take: what is stored meanwhile has a bound, and so has what a crash doubles.

use std::time::{Duration, Instant};

use crate::harness::bench::SHIPPED;
use crate::harness::veil::Veiled;
use crate::harness::{Bench, ClickHouse, Table, hold, pause};
use crate::metrics::Metrics;

const LIMIT: Duration = Duration::from_secs(90);
const BATCH: u64 = 500;
/// COORDINATOR_LOAD_IN_PROGRESS.
const LOADING: i16 = 14;

fn committed(bench: &Bench<'_>) -> u64 {
    bench.kafka.committed(&bench.group, &bench.topic).values().map(|offset| u64::try_from(*offset).unwrap()).sum()
}

#[test]
fn long_two_batches_are_stored_without_a_commit_and_no_third() {
    let veiled = Veiled::start();
    // Without a window each repetition of a row is seen in the table.
    let table = Table { window: false, ..SHIPPED };
    let bench = Bench::new("uncommitted", &veiled.kafka, ClickHouse::shared(), table);
    let bootstrap = veiled.bootstrap();
    let size = BATCH.to_string();
    let env = [
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()),
        ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
        ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"),
        ("BATCH_SIZE", &size),
        ("BATCH_TIMEOUT_MS", "300"),
    ];
    let consumer = bench.start(&env);
    let load = bench.load(2_000);
    bench.wait_rows(&consumer, 3_000, LIMIT);
    for (end, lasts) in [("the commits are taken again", hold(15)), ("kill -9", hold(3))] {
        veiled.refuse_commits(LOADING);
        let refused = veiled.refused_commits();
        let began = Instant::now();
        let mut most = 0;
        while began.elapsed() < lasts {
            // The rows after the commits: what was committed in between makes the difference smaller.
            let before = committed(&bench);
            most = most.max(bench.rows().saturating_sub(before));
            assert!(most <= 2 * BATCH, "{most} rows are stored without a commit after {:?}", began.elapsed());
            pause(began);
        }
        let tries = veiled.refused_commits() - refused;
        println!("before {end}: {most} rows stored without a commit, {tries} commits refused");
        assert!(tries > 0 && most > 0);
        assert_eq!(Metrics::of(&consumer).unwrap().get("sandarb_consumer_batches_uncommitted"), 2.0);
        if end == "kill -9" {
            consumer.kill9();
            break;
        }
        veiled.refuse_commits(0);
        let wanted = bench.rows() + 5_000;
        bench.wait_rows(&consumer, wanted, LIMIT);
    }
    veiled.refuse_commits(0);
    let indices = load.stop();
    bench.produced(&indices);
    let successor = bench.start(&env);
    bench.wait_committed_to_the_end(&successor, LIMIT);
    successor.stop();
    let tally = bench.tally(indices);
    println!("{} rows doubled by the kill", tally.surplus);
    assert_eq!((tally.missing, tally.foreign), (vec![], vec![]));
    assert!(tally.surplus <= 2 * BATCH, "{} doubles", tally.surplus);
}
