//! What the parts publish about themselves, each through a watch channel of its own: the admin server and the progress
//! line only read. Counters never fall.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::kafka::faults::Faults;

use crate::ledger::Tally;

/// Published by the group's driver and the consumer.
#[derive(Debug, Clone)]
pub struct KafkaProgress {
    /// `kafka_connected` is true until then: the last answer that proves the coordinator alive, plus a limit.
    pub good_until: Option<Instant>,
    /// Why the last attempt failed, with the address; `None` once a later one went well.
    pub failure: Option<String>,
    /// The failure is an answer that every new cluster gives for a moment.
    pub failure_passes: bool,
    /// How long after its last answer the coordinator counts as away: grows with the round trip.
    pub contact_limit: Duration,
    /// The measured round trip to the brokers; `None` before the first answer.
    pub round_trip: Option<Duration>,
    /// From then on it is a reason to report that this member has no place in the group; `None` while it has one.
    pub placeless_from: Option<Instant>,
    /// From then on it is a reason to report that the coordinator has not confirmed the membership; `None` outside.
    pub confirmed_until: Option<Instant>,
    /// Commits that were refused or not answered.
    pub commits_failing: Option<FailingCommits>,
    /// The state of the group membership in one word, for people; [`CONNECTING`] before there is one.
    pub state: &'static str,
    /// The member id the coordinator gave.
    pub member_id: String,
    /// The generation of the membership, -1 outside one.
    pub generation: i32,
    /// The partitions held now.
    pub partitions: Vec<i32>,
    /// Failed requests, refused connections and error codes so far.
    pub errors: u64,
    /// Logs found cut below what was read of them already (part of `errors`).
    pub log_cuts: u64,
    /// Why nothing can be read as a whole (a missing topic, say), in a sentence with the cure.
    pub blocked: Option<String>,
    /// Why single partitions wait, by index.
    pub blocked_partitions: BTreeMap<i32, String>,
    /// What keeps partitions from being read, also where it has not lasted long enough to be a reason.
    pub faults: Faults,
    /// Generations joined so far: each came with a rebalance.
    pub rebalances: u64,
    /// Per partition the next offset to read, as it stood when the last answer was read to its end.
    pub positions: BTreeMap<i32, i64>,
    /// Per partition where it ends, as the last fetch told.
    pub ends: BTreeMap<i32, End>,
    /// Per partition held the high watermark, asked for every few seconds.
    pub log_ends: BTreeMap<i32, i64>,
    /// When all of them were last known.
    pub log_ends_at: Option<Instant>,
    /// Why not all of them are known anew.
    pub lag_failure: Option<String>,
    /// Per partition held the committed offset: found at the beginning, or acknowledged since.
    pub committed: BTreeMap<i32, i64>,
}

/// Commits that were refused or not answered since the last that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingCommits {
    /// From then on it is a reason to report.
    pub report_from: Instant,
    /// Whose, why, and what to do.
    pub cause: String,
}

/// The state before the first contact with a broker.
pub const CONNECTING: &str = "connecting";

impl Default for KafkaProgress {
    fn default() -> Self {
        Self {
            good_until: None,
            failure: None,
            failure_passes: false,
            contact_limit: Duration::ZERO,
            round_trip: None,
            placeless_from: None,
            confirmed_until: None,
            commits_failing: None,
            state: CONNECTING,
            member_id: String::new(),
            generation: -1,
            partitions: Vec::new(),
            errors: 0,
            log_cuts: 0,
            blocked: None,
            blocked_partitions: BTreeMap::new(),
            faults: Faults::default(),
            rebalances: 0,
            positions: BTreeMap::new(),
            ends: BTreeMap::new(),
            log_ends: BTreeMap::new(),
            log_ends_at: None,
            lag_failure: None,
            committed: BTreeMap::new(),
        }
    }
}

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// What may be read: the last stable offset, or with read_uncommitted the high watermark.
    pub readable: i64,
    /// The high watermark.
    pub log: i64,
}

impl KafkaProgress {
    /// Per partition held how many offsets lie between the committed one and the end of the log. Before the first commit it
    /// is counted from where reading stands.
    pub fn lags(&self) -> impl Iterator<Item = (i32, i64)> {
        self.partitions.iter().filter_map(|partition| {
            let fetched = || self.ends.get(partition).map(|end| end.log);
            let end = self.log_ends.get(partition).copied().or_else(fetched)?;
            let from = self.committed.get(partition).or_else(|| self.positions.get(partition))?;
            Some((*partition, end.saturating_sub(*from).max(0)))
        })
    }

    /// Partitions with offsets that cannot be read before open transactions end, and how many.
    pub fn held_by_transactions(&self) -> impl Iterator<Item = (i32, i64)> {
        let held = self.ends.iter().map(|(partition, end)| (*partition, end.log.saturating_sub(end.readable)));
        held.filter(|(_, offsets)| *offsets > 0)
    }
}

/// Published by the inserter.
#[derive(Debug, Clone, Default)]
pub struct InsertProgress {
    /// The last authenticated contact (an insert, or the probe) went well.
    pub connected: bool,
    /// Why it did not, with the address; `None` once a later one went well.
    pub failure: Option<String>,
    /// How often the server has answered the probe again after it had not.
    pub returned: u64,
    /// Rows stored.
    pub rows: u64,
    /// Values stored that were rounded to the scale of a Decimal.
    pub rounded: u64,
    /// Inserts stored.
    pub batches: u64,
    /// When the last insert was stored.
    pub last_stored_at: Option<SystemTime>,
    /// Insert attempts that failed.
    pub failed_attempts: u64,
    /// `off`, `window N` or `replicated`: whether the table recognises a repeated insert. `None` until it was asked.
    pub dedup: Option<String>,
    /// Why nothing can be stored, in a sentence with the cure.
    pub blocked: Option<String>,
    /// How long the attempts took that stored something.
    pub took: Latencies,
}

/// How long things took, counted into buckets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    /// How many took no longer than the bound of the same index, and longer than the bound before.
    pub counts: [u64; LATENCY_BOUNDS.len()],
    /// How many there were in all, the longer ones among them.
    pub count: u64,
    /// All together.
    pub sum: Duration,
}

/// The buckets' upper bounds.
pub const LATENCY_BOUNDS: [Duration; 9] = [
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
];

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        let fitting = self.counts.iter_mut().zip(LATENCY_BOUNDS).find(|(_, bound)| took <= *bound);
        if let Some((count, _)) = fitting {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

/// Published by the pipeline.
#[derive(Debug, Clone, Default)]
pub struct PipelineProgress {
    /// What became of the records that are settled.
    pub settled: Tally,
    /// Records read, each time that one was.
    pub read: u64,
    /// Those among them that this process had read before.
    pub read_again: u64,
    /// Events read and not settled yet.
    pub open: u64,
    /// Letters that the dead-letter topic has.
    pub dead_lettered: u64,
    /// Why nothing is read (a column that no event can fill, say), in a sentence with the cure.
    pub blocked: Option<String>,
    /// Why dead letters cannot be written, in a sentence with the cure.
    pub letters_blocked: Option<String>,
    /// Where the memory is.
    pub memory: Memory,
    /// Batches that are stored and whose commit the coordinator has not acknowledged: a crash would store them again.
    pub uncommitted_batches: usize,
}

/// Counts by class. Classes are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes(pub Vec<(&'static str, u64)>);

impl Classes {
    /// Counts so many more of a class.
    pub fn add(&mut self, class: &'static str, more: u64) {
        match self.0.iter_mut().find(|(name, _)| *name == class) {
            Some((_, count)) => *count += more,
            None => self.0.push((class, more)),
        }
    }

    /// The count of a class.
    pub fn get(&self, class: &str) -> u64 {
        self.0.iter().find(|(name, _)| *name == class).map_or(0, |(_, count)| *count)
    }

    /// All together.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// What the memory budget goes to, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// MEMORY_BUDGET_BYTES.
    pub budget: usize,
    /// The fetch answer that is being read.
    pub answer: usize,
    /// The buffer for decompressed records.
    pub decompressed: usize,
    /// Open columns.
    pub columns: usize,
    /// Encoded batches that wait or are on the wire.
    pub bodies: usize,
    /// Records that become dead letters.
    pub letters: usize,
}

/// The reading ends of all.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The group's and the consumer's.
    pub kafka: watch::Receiver<KafkaProgress>,
    /// The inserter's.
    pub insert: watch::Receiver<InsertProgress>,
    /// The pipeline's.
    pub pipeline: watch::Receiver<PipelineProgress>,
    /// The longest stall of the loop lately.
    pub stall: watch::Receiver<Duration>,
}

/// Logs how far the program has come, every `every`, for ever. May be cancelled.
pub async fn log_lines(progress: Progress, every: Duration) {
    let mut ticks = interval_at(Instant::now() + every, every);
    // After a stall one line is enough; its rate covers the time that really went by.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Counts::of(&progress);
    let mut before_at = Instant::now();
    loop {
        let now_at = ticks.tick().await;
        let now = Counts::of(&progress);
        let step = now.since(before, now_at.saturating_duration_since(before_at));
        (before, before_at) = (now, now_at);
        let kafka = progress.kafka.borrow().clone();
        tracing::info!(
            consumed = step.consumed,
            inserted = step.inserted,
            events_per_second = step.events_per_second,
            consumed_total = now.consumed,
            inserted_total = now.inserted,
            batches_total = now.batches,
            errors_total = now.errors,
            partitions = kafka.partitions.len(),
            state = kafka.state,
            "progress"
        );
    }
}

/// Logs what became of all records since the start: the last line of a run.
pub fn log_ledger(progress: &Progress, msg: &'static str) {
    let PipelineProgress { settled, read, read_again, open, .. } = progress.pipeline.borrow().clone();
    tracing::info!(
        consumed_total = settled.events(),
        inserted_total = settled.rows,
        rejected_total = settled.rejected.sum(),
        tombstones_total = settled.tombstones,
        read_total = read,
        read_again_total = read_again,
        unsettled = open,
        "{msg}"
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    consumed: u64,
    inserted: u64,
    batches: u64,
    errors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    consumed: u64,
    inserted: u64,
    events_per_second: u64,
}

impl Counts {
    fn of(progress: &Progress) -> Self {
        let (insert, pipeline) = (progress.insert.borrow(), progress.pipeline.borrow());
        let errors = pipeline.settled.rejected.sum().saturating_add(insert.failed_attempts);
        Self {
            consumed: pipeline.settled.events(),
            inserted: pipeline.settled.rows,
            batches: insert.batches,
            errors: errors.saturating_add(progress.kafka.borrow().errors),
        }
    }

    fn since(self, before: Self, elapsed: Duration) -> Step {
        let consumed = self.consumed.saturating_sub(before.consumed);
        let per_second = u128::from(consumed) * 1000 / elapsed.as_millis().max(1);
        Step {
            consumed,
            inserted: self.inserted.saturating_sub(before.inserted),
            events_per_second: u64::try_from(per_second).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;
    use crate::telemetry::capture::Captured;
    use crate::telemetry::log::subscriber;

    /// The numbers of a step, apart from the total counts.
    fn counts(consumed: u64, inserted: u64) -> Counts {
        Counts { consumed, inserted, batches: 0, errors: 0 }
    }

    #[test]
    fn rates() {
        let step = counts(30_000, 20_000).since(counts(10_000, 10_000), Duration::from_secs(10));
        assert_eq!(step, Step { consumed: 20_000, inserted: 10_000, events_per_second: 2_000 });
        assert_eq!(counts(5, 5).since(counts(5, 5), Duration::ZERO).events_per_second, 0);
        assert_eq!(counts(1, 0).since(counts(0, 0), Duration::from_secs(10)).events_per_second, 0);
        assert_eq!(counts(u64::MAX, 0).since(counts(0, 0), Duration::ZERO).events_per_second, u64::MAX);
    }

    #[test]
    fn latencies_fall_into_the_bucket_of_their_bound() {
        let mut took = Latencies::default();
        for ms in [0, 10, 11, 20_000, 20_001] {
            took.add(Duration::from_millis(ms));
        }
        assert_eq!(took.counts, [2, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((took.count, took.sum), (5, Duration::from_millis(40_022)));
    }

    #[test]
    fn lag_is_what_is_not_committed_of_the_log() {
        let mut kafka = KafkaProgress { partitions: vec![0, 1, 2, 4], ..KafkaProgress::default() };
        kafka.positions.extend([(0, 5), (1, 9), (2, 1)]);
        let end = |readable, log| End { readable, log };
        kafka.ends.extend([(0, end(15, 15)), (1, end(7, 9)), (3, end(4, 4))]);
        assert_eq!(kafka.lags().collect::<Vec<_>>(), [(0, 10), (1, 0)], "as far as it is known");
        kafka.committed.extend([(0, 2), (4, 7)]);
        kafka.log_ends.extend([(0, 20), (1, 8), (4, 7)]);
        assert_eq!(kafka.lags().collect::<Vec<_>>(), [(0, 18), (1, 0), (4, 0)]);
        assert_eq!(kafka.held_by_transactions().collect::<Vec<_>>(), [(1, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_each_time_with_what_is_new_and_what_is_in_all() {
        let captured = Captured::default();
        let writer = captured.clone();
        let clock = || SystemTime::UNIX_EPOCH;
        let _guard = tracing::subscriber::set_default(subscriber(LogLevel::Info, clock, move || writer.clone()));
        let (kafka, kafka_end) = watch::channel(KafkaProgress::default());
        let (insert, insert_end) = watch::channel(InsertProgress::default());
        let (pipeline, pipeline_end) = watch::channel(PipelineProgress::default());
        let (_stall, stall) = watch::channel(Duration::ZERO);
        let progress = Progress { kafka: kafka_end, insert: insert_end, pipeline: pipeline_end, stall };
        let lines = tokio::spawn(log_lines(progress, Duration::from_secs(10)));
        tokio::task::yield_now().await;
        kafka.send_modify(|kafka| {
            kafka.state = "stable";
            kafka.partitions = vec![0, 1, 2];
            kafka.errors = 1;
        });
        insert.send_modify(|insert| (insert.rows, insert.batches, insert.failed_attempts) = (995, 2, 20));
        pipeline.send_modify(|pipeline| {
            pipeline.settled.rows = 990;
            pipeline.settled.rejected.add("server", 300);
        });
        tokio::time::sleep(Duration::from_millis(10_001)).await;
        pipeline.send_modify(|pipeline| pipeline.settled.rows = 1490);
        tokio::time::sleep(Duration::from_secs(10)).await;
        lines.abort();
        let head = "{\"ts\":\"1970-01-01T00:00:00.000000Z\",\"level\":\"INFO\",\"msg\":\"progress\",\
                    \"logger\":\"sandarb_consumer::progress\",";
        let tail = "\"batches_total\":2,\"errors_total\":321,\"partitions\":3,\"state\":\"stable\"}\n";
        assert_eq!(
            captured.text(),
            format!(
                "{head}\"consumed\":1290,\"inserted\":990,\"events_per_second\":129,\"consumed_total\":1290,\"inserted_total\":990,{tail}\
                 {head}\"consumed\":500,\"inserted\":500,\"events_per_second\":50,\"consumed_total\":1790,\"inserted_total\":1490,{tail}"
            )
        );
    }
}
