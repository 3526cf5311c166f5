//! Several replicas of the program in one group, and what a series of faults did to their events.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Duration;

use super::bench::PARTITIONS;
use super::{Bench, Consumer, wait_until};

/// Replicas in one group, all started alike.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    bench: &'a Bench<'a>,
    env: Vec<(String, String)>,
    /// Those that run.
    pub(crate) replicas: Vec<Consumer>,
}

impl<'a> Fleet<'a> {
    /// So many replicas, each with its share of the 12 partitions. Heartbeats every second, a session of 6 s.
    pub(crate) fn start(bench: &'a Bench<'a>, count: usize, more: &[(&str, &str)]) -> Self {
        let mut fleet = Self::idle(bench, more);
        for _ in 0..count {
            fleet.add();
        }
        fleet.wait_even();
        fleet
    }

    /// None yet.
    pub(crate) fn idle(bench: &'a Bench<'a>, more: &[(&str, &str)]) -> Self {
        let env = SHORT.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { bench, env, replicas: Vec::new() }
    }

    /// Starts one more.
    pub(crate) fn add(&mut self) {
        let env: Vec<(&str, &str)> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.replicas.push(self.bench.start(&env));
    }

    /// Takes one out, any one.
    pub(crate) fn pick(&mut self) -> Consumer {
        let place = RandomState::new().hash_one(self.replicas.len()) as usize % self.replicas.len();
        self.replicas.remove(place)
    }

    /// Waits until each of the 12 partitions has one owner and the shares differ by one at most.
    pub(crate) fn wait_even(&self) {
        wait_shares(&self.replicas.iter().collect::<Vec<_>>(), PARTITIONS, LIMIT);
    }

    /// Waits until so many more rows are in the table.
    pub(crate) fn wait_progress(&self, rows: u64) {
        let wanted = self.bench.rows() + rows;
        self.bench.wait_rows(&self.replicas[0], wanted, LIMIT);
    }

    /// SIGTERM for all, exit code 0 from all.
    pub(crate) fn stop(self) {
        for replica in &self.replicas {
            replica.stop();
        }
    }
}

/// Waits until `0..partitions` is shared out among the replicas, as evenly as can be.
pub(crate) fn wait_shares(replicas: &[&Consumer], partitions: i32, limit: Duration) -> Vec<Vec<i32>> {
    let even = partitions as usize / replicas.len();
    wait_until(limit, &format!("{} replicas share {partitions} partitions", replicas.len()), || {
        let shares = replicas.iter().map(|replica| replica.partitions()).collect::<Result<Vec<_>, _>>()?;
        let mut all: Vec<i32> = shares.iter().flatten().copied().collect();
        all.sort_unstable();
        let fair = shares.iter().all(|share| share.len() == even || share.len() == even + 1);
        if fair && all == (0..partitions).collect::<Vec<_>>() { Ok(shares) } else { Err(format!("{shares:?}")) }
    })
}

/// How often a fault is repeated: FAULT_ROUNDS, else 3.
pub(crate) fn rounds() -> u64 {
    std::env::var("FAULT_ROUNDS").map_or(3, |text| text.parse().unwrap_or_else(|error| panic!("FAULT_ROUNDS: {error}")))
}

/// How long a fault is held: FAULT_HOLD_SECONDS (100 in `make faults`), else `short` seconds.
pub(crate) fn hold(short: u64) -> Duration {
    let seconds = std::env::var("FAULT_HOLD_SECONDS")
        .map_or(short, |text| text.parse().unwrap_or_else(|error| panic!("FAULT_HOLD_SECONDS: {error}")));
    Duration::from_secs(seconds.max(short))
}

/// Whether FAULT_ROUNDS asks for the long form of the tests whose names begin with `long_`.
pub(crate) fn in_full() -> bool {
    std::env::var_os("FAULT_ROUNDS").is_some()
}

/// What a series did to the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    /// Produced and confirmed.
    pub(crate) events: u64,
    /// Not in the table.
    pub(crate) lost: u64,
    /// Rows beyond the first of each event.
    pub(crate) duplicates: u64,
    /// The longest time between two batches, by what their rows say.
    pub(crate) longest_gap: Duration,
}

impl Series {
    /// Waits until the group has committed all there is, stops the fleet and counts. The views must have counted
    /// the same; events in `uncertain` may be absent.
    pub(crate) fn end(name: &str, fleet: Fleet<'_>, indices: Range<u64>, uncertain: &[u64]) -> Self {
        let bench = fleet.bench;
        bench.produced(&indices);
        bench.wait_committed_to_the_end(&fleet.replicas[0], LIMIT);
        fleet.stop();
        Self::count(name, bench, indices, uncertain)
    }

    /// Counts when all has come to rest.
    pub(crate) fn count(name: &str, bench: &Bench<'_>, indices: Range<u64>, uncertain: &[u64]) -> Self {
        let tally = bench.tally(indices.clone());
        assert!(tally.foreign.is_empty(), "rows that nobody produced: {:?}", tally.foreign);
        let absent = tally.missing.len() as u64;
        let lost: Vec<u64> = tally.missing.into_iter().filter(|index| !uncertain.contains(index)).collect();
        let gap = longest_gap(&bench.encoded_ms());
        let series = Self {
            events: indices.end - indices.start - uncertain.len() as u64,
            lost: lost.len() as u64,
            duplicates: tally.surplus,
            longest_gap: gap,
        };
        println!(
            "{name}: {} events, {} lost, {} duplicates, longest gap {:.1} s",
            series.events,
            series.lost,
            series.duplicates,
            series.longest_gap.as_secs_f64()
        );
        assert_eq!(lost, [0; 0], "lost");
        let rows = bench.rows();
        let views = [
            ("daily_kpis", "event_count"),
            ("agent_activity", "event_count"),
            ("kpis_by_day", "events"),
            ("agents_by_day", "events"),
        ];
        for (view, counter) in views {
            let counted = bench.clickhouse.number(&format!("SELECT sum({counter}) FROM {}.{view}", bench.database));
            // A server that dies in the middle of an insert may keep its rows and not the views', which get them when the
            // events come again: never fewer than the events, never more than the rows.
            let told = indices.end - indices.start - absent..=rows;
            assert!(told.contains(&counted), "the view {view} counts {counted}, not within {told:?}");
        }
        series
    }
}

/// Heartbeats that tell of a rebalance soon, and the shortest session that brokers allow by default.
const SHORT: [(&str, &str); 4] = [
    ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"),
    ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
    ("BATCH_TIMEOUT_MS", "500"),
    ("LOG_LEVEL", "DEBUG"),
];
/// Far longer than anything should take, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// The longest time between two of these, in milliseconds and in order.
pub(crate) fn longest_gap(times_ms: &[u64]) -> Duration {
    Duration::from_millis(times_ms.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0))
}
