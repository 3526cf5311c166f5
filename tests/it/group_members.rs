//! Replicas share the partitions out.

use crate::harness::fleet::{LIMIT, wait_shares};
use crate::harness::{Bench, Consumer, same};

#[test]
fn one_to_thirteen_replicas_share_twelve_partitions() {
    let bench = Bench::shared("replicas");
    let indices = bench.produce(2_000);
    let mut replicas: Vec<Consumer> = Vec::new();
    for count in [1, 2, 3, 6, 12, 13] {
        while replicas.len() < count {
            replicas.push(bench.start(&[("KAFKA_HEARTBEAT_INTERVAL_MS", "1000")]));
        }
        let shares = wait_shares(&replicas.iter().collect::<Vec<_>>(), 12, LIMIT);
        let mut sizes: Vec<usize> = shares.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        println!("{count} replicas: {sizes:?}");
        for replica in &replicas {
            replica.wait_healthy();
        }
    }
    // The one without partitions takes over as soon as there is one for it.
    let idle = replicas.iter().position(|replica| replica.partitions() == Ok(Vec::new())).expect("one idles");
    replicas[idle].wait_healthy();
    let idle = replicas.remove(idle);
    replicas.remove(0).stop();
    replicas.push(idle);
    wait_shares(&replicas.iter().collect::<Vec<_>>(), 12, LIMIT);
    let last = replicas.pop().unwrap();
    last.wait(LIMIT, "it has a partition", || same(last.partitions()?.len(), 1));
    let more = bench.produce(2_000);
    bench.wait_rows(&last, more.end, LIMIT);
    bench.wait_committed_to_the_end(&last, LIMIT);
    // All at once, each with what it holds.
    for replica in replicas.iter().chain([&last]) {
        replica.signal("TERM");
    }
    for replica in replicas.iter().chain([&last]) {
        assert_eq!(replica.wait_exit(LIMIT), Some(0));
    }
    bench.assert_exactly_once(indices.start..more.end);
}
