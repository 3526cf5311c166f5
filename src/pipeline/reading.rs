//! From records to rows: what the loop does with each record at hand.

use tokio::time::Instant;
use tracing::{error, warn};

use super::{HOPELESS_DESCRIBE, HOPELESS_PAUSE, Pipeline, SLICE};
use crate::batch::Taken;
use crate::decode::Reject;
use crate::kafka::records::reader::Item;

impl Pipeline {
    /// Reads a slice of what is at hand into the batch.
    pub(super) fn fill(&mut self) {
        if self.isolation.is_some() {
            return self.fill_parts();
        }
        let now = Instant::now();
        let mut consumed = 0;
        let mut tombstones = 0;
        let mut rejected = 0;
        for _ in 0..SLICE {
            let Some(item) = self.consumer.read() else { break };
            match item {
                Item::Passed { partition, from, next } => self.batch.passed(partition, from, next, now),
                Item::Record(record) => match self.batch.take(&record, now) {
                    Taken::Row => {
                        consumed += 1;
                        self.guard.read();
                    }
                    Taken::Tombstone => tombstones += 1,
                    Taken::Rejected(reject) => {
                        consumed += 1;
                        rejected += 1;
                        if let Some(column) = &reject.column {
                            self.guard.failed_on(column);
                        }
                        if rejected == 1 || !self.mailbox.is_on() {
                            let place = (record.partition, record.offset);
                            log_reject(&self.settings.origin.topic, place, &reject, self.mailbox.is_on());
                        }
                        if self.guard.hopeless_column().is_some() {
                            break;
                        }
                    }
                },
            }
            if let Some(why) = self.batch.is_due(now) {
                self.close(why);
                break;
            }
        }
        if rejected > 1 && self.mailbox.is_on() {
            warn!(rejected, "more events cannot be read; each becomes a dead letter");
        }
        self.progress.send_modify(|progress| {
            progress.consumed += consumed;
            progress.tombstones += tombstones;
            progress.rejected += rejected;
        });
        for key in self.batch.new_unknown_keys() {
            warn!(key, "events have a key that no column of the table has; its values are not stored");
        }
        if let Some(column) = self.guard.hopeless_column().map(str::to_owned) {
            self.stop_for_column(&column);
        } else if consumed > rejected {
            self.unblock();
        }
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

fn log_reject(topic: &str, (partition, offset): (i32, i64), reject: &Reject, kept: bool) {
    let (class, column, reason) = (reject.class.name(), &reject.column, &reject.reason);
    if kept {
        warn!(topic, partition, offset, class, column, reason, "an event cannot be read; it becomes a dead letter");
    } else {
        error!(topic, partition, offset, class, column, reason, "an event cannot be read; skipped");
    }
}
