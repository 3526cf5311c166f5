//! What becomes of a batch once its insert or its letters come back.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::mail::Mail;
use super::{Phase, Pipeline, Sent, millis};
use crate::clickhouse::inserter::Ended;
use crate::dead_letter::{Delivered, Letter};
use crate::ledger::Tally;
use crate::offsets::{Ranges, Settled};
use crate::part::Part;

impl Pipeline {
    /// An insert has ended. One that may have stored its rows goes out again as it was, from here or, once the partitions
    /// are being given away, from their next owner.
    pub(super) fn inserted(&mut self, sent: Sent, ended: Ended) {
        let Sent { batch, era, ranges, letters, why, rows, .. } = sent;
        let current = era == self.era;
        match ended {
            Ended::Stored { took, attempts, .. } => {
                debug!(rows, why = why.name(), attempts, took_ms = millis(took), current, "stored a batch");
                self.hold.reset();
                self.guard.judged(false, rows);
                self.takes_rows = true;
                if current {
                    self.stored(batch, letters, vec![Part::of(&ranges)]);
                }
            }
            _ if !current => debug!(rows, "an insert of an earlier assignment is over"),
            Ended::Forgotten { why, on_wire_unknown } => {
                warn!(rows, why, on_wire_unknown, "gave up an insert; its events will be read again");
                if self.phase == Phase::Working {
                    self.hold_back();
                }
                self.read_again(batch, &ranges, on_wire_unknown);
            }
            Ended::SchemaChanged { failure, ask_at, without_rows } => {
                if self.seen_before(&failure) && (without_rows || failure.is_of_a_shard()) {
                    self.blame_the_table(&failure);
                } else if self.seen_before(&failure) && self.may_search(batch, &ranges) {
                    return self.isolate(batch, &ranges, rows, &failure, ask_at);
                } else {
                    warn!(rows, cause = %failure, "the table has changed; reading its columns and the batch again");
                }
                self.note_schema_refusal(&failure);
                self.hold_back();
                self.read_again(batch, &ranges, ask_at.is_some());
            }
            Ended::BadRows { failure, ask_at } if self.may_search(batch, &ranges) => {
                self.isolate(batch, &ranges, rows, &failure, ask_at);
            }
            Ended::BadRows { failure, ask_at } => {
                // The log is another one by now, or others go on with the batch: read anew, it says what is refused.
                error!(rows, cause = %failure, "ClickHouse refuses this batch; reading it again");
                self.hold_back();
                self.read_again(batch, &ranges, ask_at.is_some());
            }
        }
    }

    fn may_search(&self, batch: u64, ranges: &Ranges) -> bool {
        self.phase == Phase::Working && self.is_whole(batch, ranges)
    }

    /// The rows of a batch are in the table, stored as these parts; with its letters it is settled.
    pub(super) fn stored(&mut self, batch: u64, letters: Vec<Letter>, parts: Vec<Part>) {
        self.uncommitted.stored(batch, self.tracker.nexts(batch));
        self.tell_uncommitted();
        if letters.is_empty() {
            self.commit(batch);
        } else {
            // The partitions without a letter wait for nothing.
            let waiting = letters.iter().map(|letter| letter.partition).collect();
            let settled = self.tracker.settled_but(batch, &waiting);
            self.settled(&settled);
            self.mailbox.push(Mail { batch, era: self.era, letters });
        }
        if self.tracker.is_open(batch) {
            self.unsettled.insert(batch, parts);
            self.note_doubts();
        }
    }

    pub(super) fn delivered(&mut self, mail: &Mail, delivered: Delivered) {
        if delivered == Delivered::GivenUp {
            // Nothing waits for them any more; whoever reads their partitions next says so if it cannot write them.
            self.progress.send_modify(|progress| progress.letters_blocked = None);
        }
        if mail.era == self.era {
            match delivered {
                Delivered::All => self.commit(mail.batch),
                // The epoch is over, or the partitions are being given away, and neither is ever taken back: the next
                // assignment begins anew at what was committed, so nothing has to be read again here.
                Delivered::GivenUp => {
                    warn!(letters = mail.letters.len(), "gave up dead letters; their events will be read again");
                    self.mailbox.clear();
                }
            }
        }
        self.hold_late_partitions(Instant::now());
    }

    /// Partitions whose dead letters are late wait; the others go on.
    pub(super) fn hold_late_partitions(&mut self, now: Instant) {
        let late = self.mailbox.late(now);
        if late == self.held {
            return;
        }
        if !late.is_empty() {
            warn!(partitions = ?late, "partitions wait for their dead letters");
        }
        let more = !late.is_subset(&self.held);
        self.held = late;
        if self.phase == Phase::Working && self.isolation.is_none() {
            // What was read of them and not sent would be stored without a commit, too.
            let from = if more { self.forget_unsent() } else { BTreeMap::new() };
            self.seek(&from);
        }
    }

    /// The coordinator has acknowledged commits.
    pub(super) fn acknowledged(&mut self) {
        let consumer = &self.consumer;
        self.uncommitted.acknowledged(|partition| consumer.acknowledged(partition));
        self.tell_uncommitted();
    }

    pub(super) fn tell_uncommitted(&self) {
        let batches = self.uncommitted.len();
        self.progress.send_if_modified(|progress| {
            let changed = progress.uncommitted_batches != batches;
            progress.uncommitted_batches = batches;
            changed
        });
    }

    fn commit(&mut self, batch: u64) {
        let settled = self.tracker.settled(batch);
        let tracker = &self.tracker;
        self.unsettled.retain(|batch, _| tracker.is_open(*batch));
        self.settled(&settled);
    }

    /// Commits what is settled, and counts what became of it.
    fn settled(&mut self, settled: &Settled) {
        if !settled.offsets.is_empty() {
            self.consumer.commit(&settled.offsets);
        }
        for (partition, next) in &settled.offsets {
            self.seen.settled(*partition, *next);
        }
        self.count(settled.tallies.values());
    }

    /// Counts records whose fate is settled.
    fn count<'t>(&self, tallies: impl Iterator<Item = &'t Tally>) {
        let open = self.open_events();
        self.progress.send_modify(|progress| {
            tallies.for_each(|tally| progress.settled.add(tally));
            progress.open = open;
        });
    }

    /// Events that were read and are not settled.
    pub(super) fn open_events(&self) -> u64 {
        self.tracker.open_events() + self.batch.events()
    }

    /// A partition's log was cut and goes on where the consumer stands now.
    pub(super) fn commit_from_here(&mut self, partition: i32) {
        let Some(to) = self.consumer.position(partition) else { return };
        let mut settled = self.tracker.moved(partition, to);
        for parts in self.unsettled.values_mut() {
            parts.retain(|part| part.spans().iter().all(|span| span.partition != partition));
        }
        // Before what is committed nothing is open; and a log that is shorter now could grow over the commit.
        let shorter = self.consumer.committed(partition).is_some_and(|committed| to < committed);
        if shorter {
            settled.offsets.insert(partition, to);
        }
        self.uncommitted.moved(partition, to, self.consumer.acknowledged(partition).filter(|_| shorter));
        self.tell_uncommitted();
        self.seen.moved(partition, to);
        self.settled(&settled);
    }

    /// Where a batch that is not settled begins, in the partitions whose logs may still hold something of it.
    fn firsts(&self, batch: u64, ranges: &Ranges) -> BTreeMap<i32, i64> {
        let left = ranges.iter().filter(|(partition, _)| self.tracker.is_left(batch, *partition));
        left.map(|(partition, range)| (partition, range.first)).collect()
    }

    /// A closed batch will not be settled.
    pub(super) fn forget(&mut self, batch: u64) {
        let settled = self.tracker.forgotten(batch);
        self.settled(&settled);
    }

    /// Whether no log of such a batch was cut meanwhile.
    pub(super) fn is_whole(&self, batch: u64, ranges: &Ranges) -> bool {
        ranges.iter().all(|(partition, _)| self.tracker.counts(batch, partition))
    }

    /// Forgets a batch and all that was read behind it, and goes back to the first offsets. What may be stored is read
    /// with the same ranges, what certainly is not with any.
    fn read_again(&mut self, batch: u64, ranges: &Ranges, may_be_stored: bool) {
        let (firsts, whole) = (self.firsts(batch, ranges), self.is_whole(batch, ranges));
        if may_be_stored && !whole {
            warn!(
                "the log of a batch that may be stored was cut; what is left of it is read anew and may be stored twice"
            );
        }
        let may_be_stored = may_be_stored && whole;
        if may_be_stored && self.phase == Phase::Working {
            return self.send_again(batch, ranges);
        }
        if may_be_stored {
            self.doubt(Part::of(ranges));
        }
        self.forget(batch);
        let mut from = self.forget_unsent();
        from.extend(firsts);
        if self.phase == Phase::Working {
            self.seek(&from);
        }
    }

    /// Forgets what is closed or open and was not sent; the first offset of each partition in it.
    pub(super) fn forget_unsent(&mut self) -> BTreeMap<i32, i64> {
        let mut from = self.batch.forget();
        if let Some(pending) = self.waiting.take() {
            // What was closed lies before what is open.
            from.extend(self.firsts(pending.batch, &pending.ranges));
            self.forget(pending.batch);
        }
        from
    }
}
