//! The loop: records in from the consumer, batches out to the inserter, offsets of what is stored back to the consumer.
//!
//! One batch fills while one is on the wire. What cannot go out is never dropped: either the same bytes are sent again,
//! or the batch is forgotten and its ranges are read again: as the same batch, when it may be stored already.

mod doubt;
mod guard;
mod isolation;
mod mail;
mod membership;
mod outcome;
mod reading;
mod refused;
mod seen;
mod slot;
mod uncommitted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::batch::{Batch, Closed, Shape, Why};
use crate::clickhouse::inserter::{Insert, Inserter};
use crate::clickhouse::schema::{DescribeError, Schema};
use crate::dead_letter::{DeadLetters, Letter};
use crate::decode::Origin;
use crate::kafka::consumer::{Consumer, Event};
use crate::kafka::error::GroupRefused;
use crate::offsets::{Ranges, Tracker};
use crate::part::Part;
use crate::progress::PipelineProgress;
use crate::shutdown::{Stop, requested};

use guard::Guard;
use isolation::{Isolation, Task};
use mail::Mailbox;
use refused::SchemaRefusal;
use seen::Seen;
use slot::{Done, Job, Slot, back};
use uncommitted::{MAX_UNCOMMITTED, Uncommitted};

/// What the loop is told.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Where the events come from.
    pub origin: Origin,
    /// When batches close.
    pub shape: Shape,
    /// Whether it stops when nearly everything is bad, rather than put it aside.
    pub guard: bool,
    /// How long an insert given up may still be under way at the server (`CLICKHOUSE_TIMEOUT_MS`).
    pub insert_limit: Duration,
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
    /// A batch of which the server refuses a row, or that may be stored: nothing else is read or sent until it is settled.
    isolation: Option<Search>,
    /// What is stored and not committed yet, as letters are under way: by batch, the parts it was stored as.
    unsettled: BTreeMap<u64, Vec<Part>>,
    /// What is stored and whose commit is not acknowledged yet.
    uncommitted: Uncommitted,
    /// Parts that may be stored, once the partitions are being given away.
    doubts: Vec<Part>,
    /// A code that usually means that the table's columns have changed, seen last.
    schema_refusal: Option<SchemaRefusal>,
    /// The table has taken rows since the start.
    takes_rows: bool,
    mailbox: Mailbox,
    guard: Guard,
    /// So many bad events are read again after they were held back, and are now put aside.
    released: u64,
    seen: Seen,
    assigned: BTreeSet<i32>,
    /// Partitions that are not read, because their dead letters are late.
    held: BTreeSet<i32>,
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

/// An isolation, and where reading goes on behind it.
#[derive(Debug)]
struct Search {
    isolation: Isolation,
    /// Where its partitions are read from if it is given up.
    from: BTreeMap<i32, i64>,
    resume: BTreeMap<i32, i64>,
    /// How the reading of what an earlier owner sent gets on; `None` when it was this one.
    inherited: Option<Headway>,
    /// What the server said when it refused rows first.
    cause: Option<String>,
}

/// How far a reading is: it must not wait for ever for what is not there.
#[derive(Debug, Clone, Copy)]
struct Headway {
    behind: i64,
    since: Instant,
}

/// A closed batch on its way.
#[derive(Debug)]
struct Pending {
    batch: u64,
    era: u64,
    ranges: Ranges,
    /// `None` when none of its records is a row.
    insert: Option<Insert>,
    letters: Vec<Letter>,
    why: Why,
}

/// A batch on the wire.
#[derive(Debug)]
struct Sent {
    batch: u64,
    era: u64,
    ranges: Ranges,
    letters: Vec<Letter>,
    why: Why,
    rows: u64,
    /// Of the body.
    bytes: usize,
}

/// Events read in one go, before other tasks get the thread; and the bytes of their values.
const SLICE: usize = 1000;
const SLICE_BYTES: usize = 256 * 1024;
/// Between two looks at whether the coordinator is heard again.
const GATE_INTERVAL: Duration = Duration::from_millis(200);
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const DESCRIBE_INTERVAL: Duration = Duration::from_secs(60);
/// After a look at the table that failed.
const DESCRIBE_AGAIN: Duration = Duration::from_secs(5);
/// How long events that all fail for one reason wait for others before they are put aside.
const VERDICT: Duration = Duration::from_secs(5);
/// How long nothing is read after nearly everything was bad.
const HOPELESS_PAUSE: Duration = Duration::from_secs(10);
/// The table is looked at again shortly before that.
const HOPELESS_DESCRIBE: Duration = Duration::from_secs(8);

impl Pipeline {
    /// A loop that has not begun. Without `dead_letters`, bad events are logged with their place and skipped.
    pub fn new(
        settings: PipelineSettings,
        consumer: Consumer,
        inserter: Inserter,
        dead_letters: Option<DeadLetters>,
        schema: Arc<Schema>,
        progress: watch::Sender<PipelineProgress>,
    ) -> Self {
        let now = Instant::now();
        Self {
            batch: Batch::new(&schema, settings.origin.clone(), settings.shape, dead_letters.is_some()),
            isolation: None,
            unsettled: BTreeMap::new(),
            uncommitted: Uncommitted::default(),
            doubts: Vec::new(),
            schema_refusal: None,
            takes_rows: false,
            mailbox: Mailbox::new(dead_letters),
            guard: Guard::new(settings.guard),
            released: 0,
            seen: Seen::default(),
            assigned: BTreeSet::new(),
            held: BTreeSet::new(),
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
            self.search_on();
            self.send();
            self.mailbox.send(|| self.consumer.fence(), &self.patience);
            self.settle();
            let stopping = matches!(self.phase, Phase::Flushing | Phase::Leaving);
            let wanted = self.wants_records();
            let alarm = self.alarm();
            tokio::select! {
                biased;
                () = requested(&mut stop), if !stopping => self.begin_stop(),
                (inserter, done) = back(&mut self.slot) => self.came_back(inserter, done),
                (mail, delivered) = self.mailbox.back() => self.delivered(&mail, delivered),
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
        let room = match &self.isolation {
            Some(search) => search.isolation.is_reading(),
            None => self.waiting.is_none() && self.mailbox.bytes() < self.settings.shape.bytes,
        };
        room && self.phase == Phase::Working && self.hold_until.is_none()
    }

    fn alarm(&self) -> Instant {
        let far = Instant::now() + DESCRIBE_INTERVAL;
        let asks = match self.slot {
            Slot::Here(_) => self.probe_at.min(self.describe_at),
            Slot::Away { .. } | Slot::Empty => far,
        };
        let age = self.close_at().filter(|_| self.wants_records()).unwrap_or(far);
        let late = self.mailbox.late_at(Instant::now()).unwrap_or(far);
        let stuck = self.stuck_at().unwrap_or(far);
        // A heartbeat that is taken wakes nobody here.
        let asks = if self.is_gated() { asks.min(Instant::now() + GATE_INTERVAL) } else { asks };
        asks.min(age).min(late).min(stuck).min(self.hold_until.unwrap_or(far))
    }

    /// Something is due.
    fn tick(&mut self) {
        let now = Instant::now();
        if self.hold_until.is_some_and(|until| now >= until) {
            self.hold_until = None;
        }
        self.hold_late_partitions(now);
        if self.wants_records() && self.isolation.is_none() {
            self.close_due(now);
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

    fn close(&mut self, why: Why) {
        if self.batch.counts_only() {
            return self.read_released();
        }
        // Only now: an open batch whose events were released is not held back again.
        self.released = self.released.saturating_sub(self.batch.rejects());
        let Closed { ranges, insert, letters, tallies, why } = self.batch.close(why);
        let batch = self.next_batch;
        self.next_batch += 1;
        self.tracker.closed(batch, &ranges, tallies);
        if insert.is_some() || self.is_full() {
            self.waiting = Some(Pending { batch, era: self.era, ranges, insert, letters, why });
        } else {
            self.stored(batch, letters, vec![Part::of(&ranges)]);
        }
    }

    /// Whether so much is stored and not acknowledged as committed that no further batch may be stored.
    fn is_full(&self) -> bool {
        self.uncommitted.of_others(&self.held) + usize::from(self.is_inserting()) >= MAX_UNCOMMITTED
    }

    /// Whether what there is to send waits, as the group's coordinator is silent.
    fn is_gated(&self) -> bool {
        (self.waiting.is_some() || self.isolation.is_some()) && self.consumer.fence().is_silent()
    }

    /// Sends the waiting batch when the inserter is here.
    fn send(&mut self) {
        if !matches!(self.slot, Slot::Here(_)) {
            return;
        }
        if self.is_gated() {
            if self.phase == Phase::Flushing {
                // Nobody would take its commit: it is read again after the next start.
                self.forget_unsent();
            }
            return;
        }
        let (job, insert) = if self.isolation.is_some() {
            match self.next_of_search() {
                Some(Task::Send(built)) => {
                    let bytes = built.insert.block.body.len();
                    (Job::Part { era: self.era, rest: built.rest, bytes }, built.insert)
                }
                Some(Task::Ask(question, rest)) => return self.ask_presence(question, rest),
                None => return,
            }
        } else {
            if self.is_full() {
                return;
            }
            let Some(Pending { batch, era, ranges, insert, letters, why }) = self.waiting.take() else { return };
            let Some(insert) = insert else { return self.stored(batch, letters, vec![Part::of(&ranges)]) };
            let (rows, bytes) = (insert.block.rows, insert.block.body.len());
            (Job::Insert(Sent { batch, era, ranges, letters, why, rows, bytes }), insert)
        };
        let mut fence = self.consumer.fence();
        let mut stop = self.patience.subscribe();
        self.away(job, |mut inserter| async move {
            let ended = inserter.insert(&insert, &mut fence, &mut stop).await;
            (inserter, Done::Insert(ended))
        });
        // The last batch of a stop: nobody may be there any more to note it later.
        self.note_doubts();
    }

    fn away<F>(&mut self, what: Job, work: impl FnOnce(Box<Inserter>) -> F)
    where
        F: Future<Output = (Box<Inserter>, Done)> + Send + 'static,
    {
        match std::mem::replace(&mut self.slot, Slot::Empty) {
            // A task of its own: an insert must not be cut short because something else happens.
            Slot::Here(mut inserter) => {
                inserter.stay(self.isolation.as_ref().is_some_and(|search| search.isolation.is_in_doubt()));
                inserter.searching(self.isolation.is_some());
                self.slot = Slot::Away { job: tokio::spawn(work(inserter)), what: Box::new(what) };
            }
            other => self.slot = other,
        }
    }

    fn came_back(&mut self, inserter: Box<Inserter>, done: Done) {
        let what = match std::mem::replace(&mut self.slot, Slot::Here(inserter)) {
            Slot::Away { what, .. } => *what,
            Slot::Here(_) | Slot::Empty => Job::Ask,
        };
        self.probe_at = Instant::now() + PROBE_INTERVAL;
        match (what, done) {
            (Job::Insert(sent), Done::Insert(ended)) => self.inserted(sent, ended),
            (Job::Part { era, rest, .. }, Done::Insert(ended)) => self.part_ended(era, rest, ended),
            (Job::Presence { era, rest }, Done::Present(present)) => self.presence(era, rest, present),
            (_, Done::Described(described)) => self.described(described),
            (_, Done::Probed | Done::Insert(_) | Done::Present(_)) => {}
        }
        self.tell_memory();
    }

    /// Forgets what was fetched and goes on at these offsets, with the partitions that may be read now.
    fn seek(&mut self, from: &BTreeMap<i32, i64>) {
        let held = match &self.isolation {
            Some(search) => {
                let others = self.assigned.iter().filter(|partition| !search.isolation.reads(**partition));
                others.copied().collect()
            }
            None => self.held.clone(),
        };
        self.consumer.seek(from, &held);
    }

    fn hold_back(&mut self) {
        self.hold_until = Some(Instant::now() + self.hold.pause());
    }

    fn begin_era(&mut self) {
        self.era += 1;
        self.waiting = None;
        self.isolation = None;
        self.unsettled.clear();
        self.uncommitted.clear();
        self.tell_uncommitted();
        self.doubts.clear();
        self.mailbox.clear();
        self.guard.begin();
        self.released = 0;
        // What was said of the partitions of before is not said of those to come.
        self.progress.send_modify(|progress| (progress.blocked, progress.letters_blocked) = (None, None));
        self.held.clear();
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
                self.batch = self.open_batch();
                if self.phase == Phase::Working && !from.is_empty() {
                    self.seek(&from);
                }
            }
            Ok(_) => self.schema_refusal.iter_mut().for_each(SchemaRefusal::confirm),
            Err(error) => {
                warn!(%error, "cannot read the table's columns");
                self.describe_at = self.describe_at.min(Instant::now() + DESCRIBE_AGAIN);
            }
        }
    }

    fn open_batch(&self) -> Batch {
        Batch::new(&self.schema, self.settings.origin.clone(), self.settings.shape, self.mailbox.is_on())
    }

    fn is_inserting(&self) -> bool {
        match &self.slot {
            Slot::Away { what, .. } => !matches!(**what, Job::Ask),
            Slot::Here(_) | Slot::Empty => false,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
