//! What the loop does with a batch of which the server refuses rows, or that goes out again as it was.

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::isolation::{Isolation, Refused, Rest};
use super::reading::log_reject;
use super::seen::Run;
use super::{HOPELESS_PAUSE, Phase, Pipeline, SLICE, SLICE_BYTES, Search};
use crate::batch::Taken;
use crate::clickhouse::error::Failure;
use crate::clickhouse::inserter::Ended;
use crate::dead_letter::{Letter, Reason};
use crate::kafka::records::reader::Item;
use crate::offsets::Ranges;

impl Pipeline {
    /// The server refuses a row of this batch and has stored none of it: from now on only that row is looked for.
    pub(super) fn isolate(&mut self, batch: u64, ranges: &Ranges, rows: u64, failure: &Failure) {
        warn!(rows, cause = %failure, "ClickHouse refuses this batch; looking for the rows that it refuses");
        self.search(Isolation::halves_of(batch, ranges), ranges);
    }

    /// Takes the search one step further, where it waits for nothing.
    pub(super) fn search_on(&mut self) {
        if self.phase != Phase::Working || self.hold_until.is_some() {
            return;
        }
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
            if isolation.ends_round() {
                return self.hold_back();
            }
            let (schema, settings, kept) = (&self.schema, &self.settings, self.mailbox.is_on());
            let open = || crate::batch::Batch::new(schema, settings.origin.clone(), settings.shape, kept);
            let from = isolation.begin_reading(open);
            self.seek(&from);
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
        }
        let current = era == self.era;
        let Some(Search { isolation, .. }) = self.isolation.as_mut().filter(|_| current) else {
            debug!("a part of a batch that counts no more has ended");
            return;
        };
        match ended {
            Ended::Stored { .. } => {
                isolation.stored(rest);
                self.hold.reset();
            }
            Ended::BadRows { failure, on_wire_unknown: false } if failure.blames_rows() => {
                if isolation.refused(rest, Reason::refused(&failure)) == Refused::Isolated {
                    self.guard.judged(true, 1);
                    self.stop_when_most_are_refused(&failure);
                }
            }
            Ended::BadRows { on_wire_unknown: false, .. } => isolation.split(rest),
            Ended::SchemaChanged { failure, on_wire_unknown } => {
                warn!(cause = %failure, "the table has changed; reading its columns");
                isolation.again(rest, on_wire_unknown);
                self.describe_at = Instant::now();
                self.hold_back();
            }
            Ended::BadRows { on_wire_unknown, .. } | Ended::Forgotten { on_wire_unknown, .. } => {
                isolation.again(rest, on_wire_unknown);
                self.hold_back();
            }
        }
    }

    /// Most rows refused means that the table is wrong, not the events.
    fn stop_when_most_are_refused(&mut self, failure: &Failure) {
        if !self.guard.is_refused_by_the_server() {
            return;
        }
        let why = format!(
            "ClickHouse refuses more than half of the last rows ({failure}); correct the table, or what produces the \
             events; nothing is dropped meanwhile"
        );
        error!("{why}");
        self.block(why);
        if let Some(Search { isolation, .. }) = &mut self.isolation {
            isolation.put_back();
        }
        self.hold_until = Some(Instant::now() + HOPELESS_PAUSE);
    }

    /// All refused rows are found, all others stored.
    fn found(&mut self) {
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
