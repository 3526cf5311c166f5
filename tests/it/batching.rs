//! When a batch closes: full on a flood, by time on a trickle.

use std::time::Duration;

use crate::harness::Bench;

#[test]
fn on_a_flood_the_inserts_are_full() {
    const EVENTS: u64 = 30_000;
    const BATCH: u64 = 1_000;
    let bench = Bench::shared("flood");
    let indices = bench.produce(EVENTS);
    // Time closes no batch here: what is not full at the end waits for it.
    let consumer = bench.start(&[("BATCH_SIZE", "1000"), ("BATCH_TIMEOUT_MS", "4000")]);
    bench.wait_rows(&consumer, EVENTS, Duration::from_secs(90));
    consumer.stop();
    bench.assert_exactly_once(indices);
    let rows: Vec<u64> = bench.inserts().iter().map(|insert| insert.rows).collect();
    assert!(rows.iter().all(|rows| *rows <= BATCH), "{rows:?}");
    assert_eq!(rows.iter().sum::<u64>(), EVENTS, "{rows:?}");
    let partial = rows.iter().filter(|rows| **rows < BATCH).count();
    assert!(partial <= 3, "{partial} of {} inserts are not full: {rows:?}", rows.len());
}

#[test]
fn on_a_trickle_time_closes_the_batch() {
    const EVENTS: u64 = 14;
    const TIMEOUT_MS: u64 = 3_000;
    // How far the clocks of an event's way may lie apart: the producer's request, a fetch, the insert itself.
    const SLACK_MS: u64 = 1_500;
    let bench = Bench::shared("trickle");
    let consumer = bench.start(&[("BATCH_TIMEOUT_MS", "3000")]);
    // The first event's row says that the partitions are held; what is measured comes after it.
    bench.produce(1);
    bench.wait_rows(&consumer, 1, Duration::from_secs(30));
    let indices = bench.produce_at(EVENTS, Some(1.0)).wait();
    bench.wait_rows(&consumer, 1 + EVENTS, Duration::from_millis(TIMEOUT_MS + 10_000));
    consumer.stop();
    bench.assert_exactly_once(0..indices.end);
    let inserts = bench.inserts().split_off(1);
    let rows: Vec<u64> = inserts.iter().map(|insert| insert.rows).collect();
    assert!((3..=7).contains(&rows.len()), "{rows:?}");
    assert!(rows.iter().all(|rows| (1..=5).contains(rows)), "{rows:?}");
    let closed = bench.encoded_ms().split_off(1);
    assert_eq!(closed.len(), inserts.len(), "{closed:?} {inserts:?}");
    for (pair, closed) in inserts.windows(2).zip(closed) {
        // A batch opens with the first event after the last one closed, and an event comes each second. How late the server
        // began with the last one makes the pause between the two shorter, but not the time since it was closed.
        let pause = pair[1].start_ms - pair[0].start_ms;
        assert!(pause <= TIMEOUT_MS + 1_000 + SLACK_MS, "{pause} ms between two inserts: {inserts:?}");
        let since = pair[1].start_ms - closed;
        assert!(since >= TIMEOUT_MS - 100, "{since} ms after the last batch was closed: {inserts:?}");
    }
}
