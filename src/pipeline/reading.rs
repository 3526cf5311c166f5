//! From records to rows: what the loop does with each record at hand.

use tokio::time::Instant;
use tracing::{error, warn};

use super::guard::Common;
use super::seen::Run;
use super::{HOPELESS_DESCRIBE, HOPELESS_PAUSE, Pipeline, SLICE, SLICE_BYTES, Slot, VERDICT};
use crate::batch::{Taken, Why};
use crate::decode::Reject;
use crate::kafka::records::reader::Item;
use crate::progress::Memory;

impl Pipeline {
    /// Reads a slice of what is at hand into the batch.
    pub(super) fn fill(&mut self) {
        if self.isolation.is_some() {
            return self.fill_parts();
        }
        let now = Instant::now();
        let mut run = Run::default();
        let (mut rows, mut rejected, mut unlogged, mut bytes) = (0_u64, 0_u64, 0_u64, 0);
        for _ in 0..SLICE {
            // By reference: a record moved is stored and loaded again in other pieces, which has to wait for the stores.
            match &self.consumer.read() {
                None => break,
                Some(Item::Passed { partition, from, next }) => self.batch.passed(*partition, *from, *next, now),
                Some(Item::Record(record)) => {
                    bytes += record.value.map_or(0, <[u8]>::len);
                    self.seen.count(&mut run, record.partition, record.offset);
                    match self.batch.take(record, now) {
                        Taken::Row => {
                            rows += 1;
                            self.guard.read();
                        }
                        Taken::Tombstone => {}
                        Taken::Rejected(reject) => {
                            self.guard.failed(&reject, record.value.unwrap_or_default());
                            if self.seen.is_new(record.partition, record.offset) {
                                rejected += 1;
                                if rejected == 1 || !self.mailbox.is_on() {
                                    let place = (record.partition, record.offset);
                                    log_reject(&self.settings.origin.topic, place, &reject, self.mailbox.is_on());
                                } else {
                                    unlogged += 1;
                                }
                            }
                            if self.guard.hopeless().is_some() {
                                break;
                            }
                        }
                    }
                }
            }
            if self.close_due(now) || bytes >= SLICE_BYTES {
                break;
            }
        }
        self.seen.end(&run);
        if unlogged > 0 {
            warn!(rejected = unlogged, "more events cannot be read; each becomes a dead letter");
        }
        let open = self.open_events();
        self.progress.send_modify(|progress| {
            progress.read += run.read;
            progress.read_again += run.again;
            progress.open = open;
        });
        self.tell_memory();
        for key in self.batch.new_unknown_keys() {
            warn!(key, "events have a key that no column of the table has; its values are not stored");
        }
        if let Some(common) = self.guard.hopeless().cloned() {
            self.stop_for(&common);
        } else if rows > 0 {
            self.unblock();
        }
    }

    /// Publishes where the memory is.
    pub(super) fn tell_memory(&self) {
        let (answer, decompressed) = self.consumer.held();
        let (columns, letters) = self.batch.held();
        let waiting = self.waiting.as_ref();
        let sent = match &self.slot {
            Slot::Away { what, .. } => what.bytes(),
            Slot::Here(_) | Slot::Empty => 0,
        };
        let bodies =
            sent + waiting.and_then(|pending| pending.insert.as_ref()).map_or(0, |insert| insert.block.body.len());
        let searched = self.isolation.as_ref().map_or(0, |search| search.isolation.held());
        let letters = letters + self.mailbox.bytes() + searched;
        self.progress.send_modify(|progress| {
            let budget = progress.memory.budget;
            progress.memory = Memory { budget, answer, decompressed, columns, bodies, letters };
        });
    }

    /// Closes the batch when it is due, unless its events are held back for a verdict. True when it is over.
    pub(super) fn close_due(&mut self, now: Instant) -> bool {
        let Some(why) = self.batch.is_due(now) else { return false };
        if self.is_undecided() {
            if why == Why::Bytes {
                self.batch.count_only();
            }
            if self.close_at().is_some_and(|at| now < at) {
                return false;
            }
            if let Some(common) = self.guard.hopeless_alone(self.batch.rejects()).cloned() {
                self.stop_for(&common);
                return true;
            }
            self.unblock();
        }
        self.close(why);
        true
    }

    /// Whether all events of the open batch failed for one reason: that may be poison, or a fault of the table or the topic.
    pub(super) fn is_undecided(&self) -> bool {
        self.released == 0 && self.batch.rows() == 0 && self.guard.is_undecided(self.batch.rejects())
    }

    /// When the open batch closes by age.
    pub(super) fn close_at(&self) -> Option<Instant> {
        let deadline = self.batch.deadline()?;
        let verdict = self.batch.opened_at().filter(|_| self.is_undecided()).map(|at| at + VERDICT);
        Some(verdict.map_or(deadline, |verdict| deadline.max(verdict)))
    }

    /// Bad events that were held back are poison: they are read again, as only their number was kept.
    pub(super) fn read_released(&mut self) {
        self.released = self.batch.rejects();
        let from = self.batch.forget();
        self.seek(&from);
    }

    /// Every event fails for one reason: that is no poison, but a fault of the table, of the topic or of the producers.
    fn stop_for(&mut self, common: &Common) {
        let why = match common {
            Common::Column(column) => format!(
                "column {column} takes none of the last events; correct its type in the table, or what the events have \
                 there; nothing is dropped meanwhile (KAFKA_DLQ_GUARD=off makes dead-letter records of them)"
            ),
            Common::Format(format) => format!(
                "the topic's values are no events of the table: they look like {format}; correct KAFKA_TOPIC, the table, \
                 or what is produced; nothing is dropped meanwhile (KAFKA_DLQ_GUARD=off makes dead-letter records of them)"
            ),
        };
        error!("{why}");
        self.block(why);
        self.guard.again();
        let from = self.batch.forget();
        self.seek(&from);
        let now = Instant::now();
        self.describe_at = now + HOPELESS_DESCRIBE;
        self.hold_until = Some(now + HOPELESS_PAUSE);
    }

    pub(super) fn block(&self, why: String) {
        self.progress.send_modify(|progress| progress.blocked = Some(why));
    }

    pub(super) fn unblock(&self) {
        self.progress.send_if_modified(|progress| progress.blocked.take().is_some());
    }
}

/// Logs a record that cannot be a row.
pub(super) fn log_reject(topic: &str, (partition, offset): (i32, i64), reject: &Reject, kept: bool) {
    let (class, column, reason) = (reject.class.name(), &reject.column, &reject.reason);
    if kept {
        warn!(topic, partition, offset, class, column, reason, "an event cannot be read; it becomes a dead letter");
    } else {
        error!(topic, partition, offset, class, column, reason, "an event cannot be read; skipped");
    }
}
