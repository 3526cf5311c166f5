//! What the loop does with a batch of which the server refuses rows, or that goes out again as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::isolation::{Isolation, Question, Refusal, Rest, Stand, Task};
use super::reading::log_reject;
use super::seen::Run;
use super::{Done, HOPELESS_PAUSE, Job, Phase, Pipeline, SLICE, SLICE_BYTES, Search, Slot};
use crate::batch::{Batch, Taken};
use crate::clickhouse::error::Failure;
use crate::clickhouse::inserter::Ended;
use crate::clickhouse::presence::NotKnown;
use crate::clickhouse::schema::{Dedup, Schema};
use crate::dead_letter::{Letter, Reason};
use crate::kafka::records::reader::Item;
use crate::offsets::Ranges;

/// A code that usually means that the table's columns have changed.
#[derive(Debug)]
pub(super) struct SchemaRefusal {
    code: Option<u32>,
    schema: Arc<Schema>,
    /// The table was described since, and its columns are the same.
    confirmed: bool,
}

impl SchemaRefusal {
    pub(super) fn confirm(&mut self) {
        self.confirmed = true;
    }
}

/// A search that lasts longer is a reason why other events wait.
const LONG: Duration = Duration::from_secs(10);
/// Rows refused one by one with none stored between: then the table is at fault, not the rows.
const IN_A_ROW: u64 = 100;
/// The same while the table has not taken a row since the start.
const FIRST: u64 = 10;

impl Pipeline {
    /// The server refuses what is in this batch: from now on only the rows that it refuses are looked for. `ask_at`: some
    /// of the rows may be stored, and the table can be asked from then on.
    pub(super) fn isolate(
        &mut self,
        batch: u64,
        ranges: &Ranges,
        rows: u64,
        failure: &Failure,
        ask_at: Option<Instant>,
    ) {
        let may_be_stored = ask_at.is_some();
        warn!(rows, may_be_stored, cause = %failure, "ClickHouse refuses this batch; looking for the rows that it refuses");
        let stand = ask_at.map_or(Stand::Sure, Stand::Ask);
        self.search(Isolation::of_own(batch, ranges, stand, self.budget(), Instant::now()), ranges);
        if let Some(search) = &mut self.isolation {
            search.cause = Some(failure.to_string());
        }
    }

    /// Whether this code came before, and the table's columns were the same.
    pub(super) fn seen_before(&self, failure: &Failure) -> bool {
        self.schema_refusal
            .as_ref()
            .is_some_and(|seen| seen.confirmed && seen.code == failure.code() && *seen.schema == *self.schema)
    }

    /// Has the table described; then the same code means something else.
    pub(super) fn note_schema_refusal(&mut self, failure: &Failure) {
        if !self.seen_before(failure) {
            let (code, schema) = (failure.code(), Arc::clone(&self.schema));
            self.schema_refusal = Some(SchemaRefusal { code, schema, confirmed: false });
        }
        self.describe_at = Instant::now();
    }

    /// The table is at fault, not its rows: said until something is stored.
    pub(super) fn blame_the_table(&self, failure: &Failure) {
        self.block_inserts(format!(
            "nothing can be stored: {failure}; the table's columns have not changed: correct the table (or a shard's), or \
             what the events fill"
        ));
    }

    fn block_inserts(&self, why: String) {
        if let Slot::Here(inserter) = &self.slot {
            inserter.block(why);
        }
    }

    /// Takes the search one step further, where it waits for nothing.
    pub(super) fn search_on(&mut self) {
        if self.phase != Phase::Working || self.hold_until.is_some() {
            return;
        }
        self.tell_long_search();
        let inserting = self.is_inserting();
        let Some(Search { isolation, .. }) = &mut self.isolation else { return };
        if isolation.is_reading() {
            let consumer = &self.consumer;
            isolation.end_reading(|partition| consumer.position(partition));
        }
        self.watch_reading();
        let Some(Search { isolation, .. }) = &mut self.isolation else { return };
        if inserting {
            return;
        }
        if isolation.is_over() {
            self.found();
        } else if isolation.may_read() {
            let open = self.opener();
            let Some(Search { isolation, .. }) = &mut self.isolation else { return };
            let from = isolation.begin_reading(open);
            self.seek(&from);
        } else if let Some(until) = isolation.waits_until(Instant::now()) {
            self.hold_until = Some(until);
        }
    }

    /// The next insert or question of the search.
    pub(super) fn next_of_search(&mut self) -> Option<Task> {
        if self.phase != Phase::Working || self.hold_until.is_some() {
            return None;
        }
        let open = self.opener();
        self.isolation.as_mut()?.isolation.next(Instant::now(), open)
    }

    fn opener(&self) -> impl Fn() -> Batch + use<> {
        let (schema, settings, kept) = (Arc::clone(&self.schema), self.settings.clone(), self.mailbox.is_on());
        move || Batch::new(&schema, settings.origin.clone(), settings.shape, kept)
    }

    fn tell_long_search(&self) {
        let Some(Search { isolation, cause: Some(cause), .. }) = &self.isolation else { return };
        let lasts = isolation.since.elapsed();
        if lasts >= LONG && self.progress.borrow().blocked.is_none() {
            self.block(format!(
                "all other events wait while the rows that ClickHouse refuses are looked for, for {} s by now ({cause}); \
                 correct what the events have there, or the table",
                lasts.as_secs()
            ));
        }
    }

    /// Asks the table which rows it holds.
    pub(super) fn ask_presence(&mut self, question: Question, rest: Rest) {
        let schema = Arc::clone(&self.schema);
        self.away(Job::Presence { era: self.era, rest }, |mut inserter| async move {
            let present = inserter.present(&schema, &question.ids).await;
            (inserter, Done::Present(present))
        });
    }

    /// The table has answered, or could not be asked.
    pub(super) fn presence(&mut self, era: u64, rest: Rest, present: Result<BTreeMap<String, u64>, NotKnown>) {
        let current = era == self.era;
        let dedup = self.schema.dedup;
        let Some(Search { isolation, .. }) = self.isolation.as_mut().filter(|_| current) else { return };
        match present {
            Ok(held) => {
                let (there, isolated) = isolation.answered(rest, &held, Instant::now());
                if there > 0 {
                    warn!(rows = there, "rows of a refused insert are in the table; only the others are sent");
                    self.takes_rows = true;
                    self.guard.judged(false, there as u64);
                }
                if isolated {
                    self.guard.judged(true, 1);
                    self.stop_when_most_are_refused();
                }
            }
            Err(why) => {
                let denied = !matches!(why, NotKnown::Failed(_));
                isolation.not_answered(rest, denied && dedup != Dedup::Off);
                self.block_inserts(format!(
                    "an insert is refused of which some rows may be stored, and the table cannot be asked which: {why}; \
                     nothing is split or dropped meanwhile"
                ));
                self.hold_back();
            }
        }
    }

    /// Reads a slice of what is at hand into the parts of the search.
    pub(super) fn fill_parts(&mut self) {
        let now = Instant::now();
        let Some(Search { isolation, .. }) = &mut self.isolation else { return };
        let mut run = Run::default();
        let mut bytes = 0;
        for _ in 0..SLICE {
            if bytes >= SLICE_BYTES {
                break;
            }
            match self.consumer.read() {
                Some(Item::Record(record)) => {
                    bytes += record.value.map_or(0, <[u8]>::len);
                    let Some(taken) = isolation.take(&record, now) else { continue };
                    self.seen.count(&mut run, record.partition, record.offset);
                    if let Taken::Rejected(reject) = taken
                        && self.seen.is_new(record.partition, record.offset)
                    {
                        let place = (record.partition, record.offset);
                        log_reject(&self.settings.origin.topic, place, &reject, self.mailbox.is_on());
                    }
                }
                // Where the partition stands is asked of the consumer.
                Some(Item::Passed { .. }) => {}
                None => break,
            }
        }
        self.seen.end(&run);
        self.progress.send_modify(|progress| {
            progress.read += run.read;
            progress.read_again += run.again;
        });
    }

    /// An insert of a part has ended.
    pub(super) fn part_ended(&mut self, era: u64, rest: Rest, ended: Ended) {
        if let Ended::Stored { rows, .. } = &ended {
            self.guard.judged(false, *rows);
            self.takes_rows = true;
        }
        let (current, now) = (era == self.era, Instant::now());
        let seen_before = matches!(&ended, Ended::SchemaChanged { failure, .. } if self.seen_before(failure));
        let Some(Search { isolation, .. }) = self.isolation.as_mut().filter(|_| current) else {
            debug!("a part of a batch that counts no more has ended");
            return;
        };
        match ended {
            Ended::Stored { .. } => {
                isolation.stored(&rest);
                self.hold.reset();
            }
            Ended::SchemaChanged { failure, ask_at, .. } if seen_before && !failure.is_of_a_shard() => {
                self.part_refused(rest, &failure, ask_at);
            }
            Ended::BadRows { failure, ask_at } => self.part_refused(rest, &failure, ask_at),
            Ended::SchemaChanged { failure, ask_at, .. } => {
                isolation.again_anew(rest, ask_at);
                if seen_before {
                    self.blame_the_table(&failure);
                } else {
                    warn!(cause = %failure, "the table has changed; reading its columns");
                }
                self.note_schema_refusal(&failure);
                self.hold_back();
            }
            Ended::Forgotten { on_wire_unknown, .. } => {
                let ask_at = now + self.settings.insert_limit;
                isolation.again(rest, on_wire_unknown.then_some(ask_at));
                self.hold_back();
            }
        }
    }

    fn part_refused(&mut self, rest: Rest, failure: &Failure, ask_at: Option<Instant>) {
        let Some(Search { isolation, cause, .. }) = &mut self.isolation else { return };
        let named = failure.named_row();
        let reason = Reason::refused(failure);
        cause.get_or_insert_with(|| failure.to_string());
        let refusal = Refusal { reason, named, conclusive: named.is_some(), ask_at };
        if isolation.refused(rest, refusal, Instant::now()) {
            self.guard.judged(true, 1);
            self.stop_when_most_are_refused();
        }
    }

    /// Most rows refused means that the table is wrong, not the events.
    fn stop_when_most_are_refused(&mut self) {
        let Some(Search { isolation, .. }) = &self.isolation else { return };
        if self.guard.is_refused_by_the_server() || (self.settings.guard && isolation.in_a_row() >= IN_A_ROW) {
            self.stop_search("more than half of the last rows, or 100 in a row");
        }
    }

    fn stop_search(&mut self, which: &str) {
        let Some(Search { isolation, cause, .. }) = &mut self.isolation else { return };
        isolation.put_back();
        let why = format!(
            "ClickHouse refuses {which} ({}); correct the table, or what produces the events; nothing is dropped meanwhile",
            cause.as_deref().unwrap_or("see the log")
        );
        error!("{why}");
        self.block(why);
        self.hold_until = Some(Instant::now() + HOPELESS_PAUSE);
    }

    /// All refused rows are found, all others stored.
    fn found(&mut self) {
        let every = |isolation: &Isolation| !isolation.has_taken() && isolation.found() as u64 >= FIRST;
        if self.settings.guard
            && !self.takes_rows
            && self.isolation.as_ref().is_some_and(|search| every(&search.isolation))
        {
            return self.stop_search("every row so far");
        }
        let Some(Search { isolation, resume, inherited, .. }) = self.isolation.take() else { return };
        let (batch, found, parts) = (isolation.batch, isolation.found(), isolation.parts());
        let (mut letters, mut tallies) = isolation.into_outcome();
        // Those of other partitions are written, and counted, by their owners, who find the same.
        letters.retain(|letter| self.assigned.contains(&letter.partition));
        tallies.retain(|partition, _| self.assigned.contains(partition));
        self.tracker.recount(batch, tallies);
        if found == 0 {
            info!("what may have been stored before is stored now");
        } else {
            info!(refused_rows = found, "found the rows that ClickHouse refuses; the others are stored");
        }
        self.unblock();
        if self.mailbox.is_on() {
            self.stored(batch, letters, parts);
        } else {
            letters.iter().for_each(|letter| self.skip(letter));
            self.stored(batch, Vec::new(), Vec::new());
        }
        self.read_on(&resume, inherited.is_some());
    }

    fn skip(&self, letter: &Letter) {
        let Letter { partition, offset, reason, .. } = letter;
        let (topic, code, reason) = (&self.settings.origin.topic, reason.code, &reason.text);
        error!(topic, partition, offset, code, reason, "ClickHouse refuses an event; skipped");
    }
}
