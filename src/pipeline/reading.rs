//! From records to rows: what the loop does with each record at hand.

use tokio::time::Instant;
use tracing::{error, warn};

use super::seen::Run;
use super::{HOPELESS_DESCRIBE, HOPELESS_PAUSE, Pipeline, SLICE, SLICE_BYTES, Slot};
use crate::batch::Taken;
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
                            if let Some(column) = &reject.column {
                                self.guard.failed_on(column);
                            }
                            if self.seen.is_new(record.partition, record.offset) {
                                rejected += 1;
                                if rejected == 1 || !self.mailbox.is_on() {
                                    let place = (record.partition, record.offset);
                                    log_reject(&self.settings.origin.topic, place, &reject, self.mailbox.is_on());
                                } else {
                                    unlogged += 1;
                                }
                            }
                            if self.guard.hopeless_column().is_some() {
                                break;
                            }
                        }
                    }
                }
            }
            if let Some(why) = self.batch.is_due(now) {
                self.close(why);
                break;
            }
            if bytes >= SLICE_BYTES {
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
        if let Some(column) = self.guard.hopeless_column().map(str::to_owned) {
            self.stop_for_column(&column);
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
        let letters = letters + self.mailbox.bytes();
        self.progress.send_modify(|progress| {
            let budget = progress.memory.budget;
            progress.memory = Memory { budget, answer, decompressed, columns, bodies, letters };
        });
    }

    /// One column fails every event: that is no poison, but a fault of the table or of the producers.
    fn stop_for_column(&mut self, column: &str) {
        let why = format!(
            "column {column} takes none of the last events; correct its type in the table, or what the events have \
             there; nothing is dropped meanwhile"
        );
        error!(column, "{why}");
        self.block(why);
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
