//! The loop: records in from the consumer, batches out to the inserter, offsets of what is stored back to the consumer.
//!
//! One batch fills while one is on the wire. What cannot go out is never dropped: either the same bytes are sent again,
//! or the batch is forgotten and its ranges are read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::backoff::Backoff;
use crate::batch::{Batch, Closed, Limits, Taken, Why};
use crate::clickhouse::inserter::{Ended, Insert, Inserter};
use crate::clickhouse::schema::{DescribeError, Schema};
use crate::decode::Origin;
use crate::kafka::consumer::{Consumer, Event};
use crate::kafka::error::GroupRefused;
use crate::kafka::records::reader::Item;
use crate::offsets::{Ranges, Tracker};
use crate::progress::PipelineProgress;
use crate::shutdown::Stop;

/// What the loop is told.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Where the events come from.
    pub origin: Origin,
    /// When batches close.
    pub limits: Limits,
}

/// The loop and all it owns.
#[derive(Debug)]
pub struct Pipeline {
    settings: PipelineSettings,
    consumer: Consumer,
    slot: Slot,
    schema: Arc<Schema>,
    batch: Batch,
    /// Closed while another was on the wire.
    waiting: Option<Pending>,
    tracker: Tracker,
    next_batch: u64,
    /// Changes when what was read counts no more: an insert of an earlier era leads to no commit.
    era: u64,
    phase: Phase,
    /// Nothing is read or sent before, after a batch that nobody can store.
    hold_until: Option<Instant>,
    hold: Backoff,
    patience: watch::Sender<bool>,
    probe_at: Instant,
    describe_at: Instant,
    progress: watch::Sender<PipelineProgress>,
}

/// What the loop is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No partitions.
    Idle,
    /// Reading and storing.
    Working,
    /// The group rebalances: what is on the wire is waited for.
    Draining,
    /// The program stops: what is held is stored first.
    Flushing,
    /// The program stops: waiting for the group to be left.
    Leaving,
}

/// A closed batch on its way.
#[derive(Debug)]
struct Pending {
    batch: u64,
    era: u64,
    ranges: Ranges,
    insert: Insert,
    why: Why,
}

/// The inserter is here, or away with a job.
#[derive(Debug)]
enum Slot {
    Here(Box<Inserter>),
    Away {
        job: JoinHandle<(Box<Inserter>, Done)>,
        what: Job,
    },
    /// Only while it changes hands.
    Empty,
}

#[derive(Debug)]
enum Job {
    Insert { batch: u64, era: u64, ranges: Ranges, why: Why, rows: u64 },
    Ask,
}

#[derive(Debug)]
enum Done {
    Insert(Ended),
    Described(Result<Arc<Schema>, DescribeError>),
    Probed,
}

/// Events read in one go, before other tasks get the thread.
const SLICE: usize = 1000;
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const DESCRIBE_INTERVAL: Duration = Duration::from_secs(60);

impl Pipeline {
    /// A loop that has not begun.
    pub fn new(
        settings: PipelineSettings,
        consumer: Consumer,
        inserter: Inserter,
        schema: Arc<Schema>,
        progress: watch::Sender<PipelineProgress>,
    ) -> Self {
        let now = Instant::now();
        Self {
            batch: Batch::new(&schema, settings.origin.clone(), settings.limits),
            settings,
            consumer,
            slot: Slot::Here(Box::new(inserter)),
            schema,
            waiting: None,
            tracker: Tracker::default(),
            next_batch: 0,
            era: 0,
            phase: Phase::Idle,
            hold_until: None,
            hold: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            patience: watch::Sender::new(false),
            probe_at: now + PROBE_INTERVAL,
            describe_at: now + DESCRIBE_INTERVAL,
            progress,
        }
    }

    /// Runs until the group was left after a stop, or refuses this member.
    pub async fn run(mut self, mut stop: watch::Receiver<Stop>) -> Result<(), GroupRefused> {
        loop {
            self.send();
            self.settle();
            let stopping = matches!(self.phase, Phase::Flushing | Phase::Leaving);
            let wanted = self.wants_records();
            let alarm = self.alarm();
            tokio::select! {
                biased;
                () = requested(&mut stop), if !stopping => self.begin_stop(),
                (inserter, done) = back(&mut self.slot) => self.came_back(inserter, done),
                () = sleep_until(alarm) => self.tick(),
                event = self.consumer.next(wanted) => match event {
                    Event::Records => {
                        self.fill();
                        tokio::task::yield_now().await;
                    }
                    Event::Ended(how) => return how,
                    event => self.membership(event),
                },
            }
        }
    }

    fn wants_records(&self) -> bool {
        self.phase == Phase::Working && self.waiting.is_none() && self.hold_until.is_none()
    }

    fn alarm(&self) -> Instant {
        let far = Instant::now() + DESCRIBE_INTERVAL;
        let asks = match self.slot {
            Slot::Here(_) => self.probe_at.min(self.describe_at),
            Slot::Away { .. } | Slot::Empty => far,
        };
        let age = self.batch.deadline().filter(|_| self.wants_records()).unwrap_or(far);
        asks.min(age).min(self.hold_until.unwrap_or(far))
    }

    /// Something is due.
    fn tick(&mut self) {
        let now = Instant::now();
        if self.hold_until.is_some_and(|until| now >= until) {
            self.hold_until = None;
        }
        if self.wants_records()
            && let Some(why) = self.batch.is_due(now)
        {
            self.close(why);
        }
        if now >= self.describe_at.min(self.probe_at)
            && let Slot::Here(_) = self.slot
        {
            let describe = now >= self.describe_at;
            self.probe_at = now + PROBE_INTERVAL;
            if describe {
                self.describe_at = now + DESCRIBE_INTERVAL;
            }
            self.away(Job::Ask, |mut inserter| async move {
                let done = if describe {
                    Done::Described(inserter.describe().await)
                } else {
                    if let Err(failure) = inserter.probe().await {
                        debug!(%failure, "ClickHouse does not answer the probe");
                    }
                    Done::Probed
                };
                (inserter, done)
            });
        }
    }

    /// Reads a slice of what is at hand into the batch.
    fn fill(&mut self) {
        let now = Instant::now();
        let mut consumed = 0;
        let mut tombstones = 0;
        let mut rejected = 0;
        for _ in 0..SLICE {
            let Some(item) = self.consumer.read() else { break };
            match item {
                Item::Passed { partition, from, next } => self.batch.passed(partition, from, next, now),
                Item::Record(record) => match self.batch.take(&record, now) {
                    Taken::Row => consumed += 1,
                    Taken::Tombstone => tombstones += 1,
                    Taken::Rejected(reject) => {
                        consumed += 1;
                        rejected += 1;
                        error!(
                            topic = self.settings.origin.topic,
                            partition = record.partition,
                            offset = record.offset,
                            class = reject.class.name(),
                            column = reject.column,
                            reason = reject.reason,
                            "an event cannot be read; skipped"
                        );
                    }
                },
            }
            if let Some(why) = self.batch.is_due(now) {
                self.close(why);
                break;
            }
        }
        self.progress.send_modify(|progress| {
            progress.consumed += consumed;
            progress.tombstones += tombstones;
            progress.rejected += rejected;
        });
        for key in self.batch.new_unknown_keys() {
            warn!(key, "events have a key that no column of the table has; its values are not stored");
        }
    }

    fn close(&mut self, why: Why) {
        let Closed { ranges, insert, why } = self.batch.close(why);
        let batch = self.next_batch;
        self.next_batch += 1;
        self.tracker.closed(batch, &ranges);
        match insert {
            Some(insert) => self.waiting = Some(Pending { batch, era: self.era, ranges, insert, why }),
            None => self.commit(batch),
        }
    }

    /// Sends the waiting batch when the inserter is here.
    fn send(&mut self) {
        if !matches!(self.slot, Slot::Here(_)) {
            return;
        }
        let Some(Pending { batch, era, ranges, insert, why }) = self.waiting.take() else { return };
        let mut fence = self.consumer.fence();
        let mut stop = self.patience.subscribe();
        let job = Job::Insert { batch, era, ranges, why, rows: insert.block.rows };
        self.away(job, |mut inserter| async move {
            let ended = inserter.insert(&insert, &mut fence, &mut stop).await;
            (inserter, Done::Insert(ended))
        });
    }

    fn away<F>(&mut self, what: Job, work: impl FnOnce(Box<Inserter>) -> F)
    where
        F: Future<Output = (Box<Inserter>, Done)> + Send + 'static,
    {
        match std::mem::replace(&mut self.slot, Slot::Empty) {
            // A task of its own: an insert must not be cut short because something else happens.
            Slot::Here(inserter) => self.slot = Slot::Away { job: tokio::spawn(work(inserter)), what },
            other => self.slot = other,
        }
    }

    fn came_back(&mut self, inserter: Box<Inserter>, done: Done) {
        let what = match std::mem::replace(&mut self.slot, Slot::Here(inserter)) {
            Slot::Away { what, .. } => what,
            Slot::Here(_) | Slot::Empty => Job::Ask,
        };
        self.probe_at = Instant::now() + PROBE_INTERVAL;
        match (what, done) {
            (Job::Insert { batch, era, ranges, why, rows }, Done::Insert(ended)) => {
                self.inserted(batch, era, &ranges, why, rows, ended);
            }
            (_, Done::Described(described)) => self.described(described),
            (_, Done::Probed | Done::Insert(_)) => {}
        }
    }

    fn inserted(&mut self, batch: u64, era: u64, ranges: &Ranges, why: Why, rows: u64, ended: Ended) {
        let current = era == self.era;
        match ended {
            Ended::Stored { took, attempts, .. } => {
                debug!(rows, why = why.name(), attempts, took_ms = millis(took), current, "stored a batch");
                self.hold.reset();
                if current {
                    self.commit(batch);
                }
            }
            _ if !current => debug!(rows, "an insert of an earlier assignment is over"),
            Ended::Forgotten { why, on_wire_unknown } => {
                warn!(rows, why, on_wire_unknown, "gave up an insert; its events will be read again");
                self.read_again(ranges);
            }
            Ended::SchemaChanged { failure, .. } => {
                warn!(rows, cause = %failure, "the table has changed; reading its columns and the batch again");
                self.describe_at = Instant::now();
                self.hold_back();
                self.read_again(ranges);
            }
            Ended::BadRows { failure, .. } => {
                error!(rows, cause = %failure, "ClickHouse refuses a row of this batch; nothing is dropped, trying again");
                self.hold_back();
                self.read_again(ranges);
            }
        }
    }

    fn hold_back(&mut self) {
        self.hold_until = Some(Instant::now() + self.hold.pause());
    }

    fn commit(&mut self, batch: u64) {
        let moved = self.tracker.settled(batch);
        if !moved.is_empty() {
            self.consumer.commit(&moved);
        }
    }

    /// Forgets everything that is not stored and goes back to its first offsets.
    fn read_again(&mut self, ranges: &Ranges) {
        let mut from: BTreeMap<i32, i64> = BTreeMap::new();
        let mut earliest = |partition, first| {
            from.entry(partition).and_modify(|at: &mut i64| *at = (*at).min(first)).or_insert(first);
        };
        for (partition, range) in ranges.iter() {
            earliest(partition, range.first);
        }
        for (partition, range) in self.waiting.iter().flat_map(|pending| pending.ranges.iter()) {
            earliest(partition, range.first);
        }
        for (partition, first) in self.batch.forget() {
            earliest(partition, first);
        }
        self.begin_era();
        if self.phase == Phase::Working {
            self.consumer.seek(&from);
        }
    }

    fn begin_era(&mut self) {
        self.era += 1;
        self.waiting = None;
        self.batch.forget();
        self.tracker = Tracker::default();
    }

    fn described(&mut self, described: Result<Arc<Schema>, DescribeError>) {
        match described {
            Ok(schema) if *schema != *self.schema => {
                info!(columns = schema.columns.len(), "the table's columns have changed");
                self.schema = schema;
                // What is closed keeps its bytes: the server casts what it can, and says so if it cannot.
                let from = self.batch.forget();
                self.batch = Batch::new(&self.schema, self.settings.origin.clone(), self.settings.limits);
                if self.phase == Phase::Working && !from.is_empty() {
                    self.consumer.seek(&from);
                }
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "cannot read the table's columns"),
        }
    }

    fn membership(&mut self, event: Event) {
        match event {
            Event::Assigned { partitions } => {
                info!(?partitions, "assigned");
                self.begin_era();
                self.hold_until = None;
                match self.phase {
                    Phase::Flushing | Phase::Leaving => {}
                    Phase::Idle | Phase::Working | Phase::Draining => self.phase = Phase::Working,
                }
                self.patience.send_replace(false);
            }
            Event::Revoking { why, .. } => match self.phase {
                Phase::Idle | Phase::Working => {
                    // What was not sent is read again by whoever owns the partitions then.
                    info!(why, on_the_wire = self.is_inserting(), "finishing what is on the wire");
                    self.consumer.stop_reading();
                    self.waiting = None;
                    self.batch.forget();
                    self.phase = Phase::Draining;
                    self.patience.send_replace(true);
                }
                Phase::Draining | Phase::Flushing | Phase::Leaving => {}
            },
            // The ranges of one batch must not go back.
            Event::Moved { .. } if !self.batch.is_empty() => self.close(Why::Moved),
            Event::Moved { .. } => {}
            Event::Lost { why } => {
                info!(why, "the partitions are gone");
                self.begin_era();
                match self.phase {
                    Phase::Flushing => self.leave(),
                    Phase::Leaving => {}
                    Phase::Idle | Phase::Working | Phase::Draining => self.phase = Phase::Idle,
                }
            }
            Event::Records | Event::Ended(_) => {}
        }
    }

    fn is_inserting(&self) -> bool {
        matches!(self.slot, Slot::Away { what: Job::Insert { .. }, .. })
    }

    /// Ends the phases that wait for the wire.
    fn settle(&mut self) {
        let busy = self.is_inserting() || self.waiting.is_some();
        match self.phase {
            Phase::Draining if !busy => {
                self.consumer.drained();
                self.phase = Phase::Idle;
            }
            Phase::Flushing if !busy => self.leave(),
            _ => {}
        }
    }

    fn begin_stop(&mut self) {
        info!(phase = ?self.phase, rows_held = !self.batch.is_empty(), "stopping: storing what is held");
        match self.phase {
            Phase::Working if self.hold_until.is_none() => {
                self.consumer.stop_reading();
                self.flush();
                self.phase = Phase::Flushing;
            }
            _ => {
                self.consumer.stop_reading();
                self.waiting = None;
                self.phase = Phase::Flushing;
            }
        }
        self.patience.send_replace(true);
    }

    /// Closes what is open, behind what may be waiting already.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.waiting.is_some() {
            // Only one can wait: the rest is read again after the next start.
            self.batch.forget();
        } else {
            self.close(Why::Stopping);
        }
    }

    fn leave(&mut self) {
        self.phase = Phase::Leaving;
        self.consumer.leave();
    }
}

/// Returns once a stop is requested. May be cancelled.
async fn requested(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop == Stop::Requested).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The inserter's return. May be cancelled.
async fn back(slot: &mut Slot) -> (Box<Inserter>, Done) {
    let Slot::Away { job, .. } = slot else { return std::future::pending().await };
    match job.await {
        Ok(back) => back,
        Err(panic) => {
            // With panic = "abort" nobody comes here: a task that panicked took the process with it.
            error!(%panic, "the inserter's task ended without a result");
            std::future::pending().await
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
