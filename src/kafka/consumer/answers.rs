//! What the consumer does with the answers to its fetches: hands their records out, and has a place that cannot be read
//! fetched again.

use std::time::Duration;

use tracing::{error, warn};

use super::Consumer;
use crate::kafka::epochs::EpochStart;
use crate::kafka::fetching::Rewind;
use crate::kafka::records::RecordsError;
use crate::kafka::records::reader::{Answer, AnswerReader, Item};

/// A place that could not be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Damage {
    offset: i64,
    /// It was fetched again from there already.
    retried: bool,
}

const DAMAGE_PAUSE: Duration = Duration::from_secs(30);

impl Consumer {
    /// Goes on to the next item and gives it; `None` when the answer is used up. What cannot be read makes its partition
    /// wait, and nothing is skipped.
    pub fn read(&mut self) -> Option<Item<'_>> {
        loop {
            match self.reader.as_mut()?.advance() {
                Ok(true) => break,
                Ok(false) => {
                    self.drop_reader();
                    return None;
                }
                Err(fault) => self.unreadable(&fault),
            }
        }
        let reader = self.reader.as_ref()?;
        let (partition, next) = reader.place()?;
        self.positions.set(partition, next);
        reader.item()
    }

    /// Takes the partitions of an answer that go on where they stand. `epochs` is where leader epochs begin in it.
    pub(super) fn open(&mut self, mut answer: Answer, epochs: &[EpochStart]) {
        let positions = &self.positions;
        let mut astray = Vec::new();
        answer.sections.retain(|section| {
            let partition = section.fetched.partition;
            let position = positions.get(partition);
            let fits = position == Some(section.fetch_offset);
            if !fits {
                astray.extend(position.map(|offset| (partition, offset)));
            }
            fits
        });
        for start in epochs {
            if answer.sections.iter().any(|section| section.fetched.partition == start.partition) {
                self.epochs.read(*start);
            }
        }
        for (partition, offset) in astray {
            // Fetched before the partition was rewound, or without an end to where it stands: from there, then.
            if !self.damage.contains_key(&partition) {
                self.rewind(partition, offset, Duration::ZERO, None);
            }
        }
        for section in &answer.sections {
            let partition = section.fetched.partition;
            if self.damage.get(&partition).is_some_and(|damage| damage.offset < section.fetch_offset) {
                self.forget_damage(partition);
            }
        }
        if !answer.sections.is_empty() {
            let decompressor = std::mem::take(&mut self.decompressor);
            self.reader = Some(AnswerReader::new(answer, decompressor, self.settings.batch_limit));
        }
    }

    /// A partition is read elsewhere than where it could not be read.
    pub(super) fn forget_damage(&mut self, partition: i32) {
        if self.damage.remove(&partition).is_some() {
            self.progress.send_modify(|progress| {
                progress.blocked_partitions.remove(&partition);
            });
        }
    }

    /// What the reader stands at cannot be read: the partition waits there.
    fn unreadable(&mut self, fault: &RecordsError) {
        let Some(reader) = &mut self.reader else { return };
        let Some(partition) = reader.section().map(|section| section.fetched.partition) else { return };
        reader.skip_section();
        let Some(offset) = self.positions.get(partition) else { return };
        let seen = self.damage.get(&partition).is_some_and(|damage| damage.offset == offset && damage.retried);
        self.damage.insert(partition, Damage { offset, retried: true });
        self.progress.send_modify(|progress| progress.errors += 1);
        let topic = &self.fetch_settings.topic;
        if fault.may_be_transit_damage() && !seen {
            warn!(topic, partition, offset, error = %fault, "cannot read a record batch; fetching it again");
            self.rewind(partition, offset, Duration::ZERO, None);
        } else {
            error!(topic, partition, offset, error = %fault, "cannot read a record batch; the partition waits, nothing is skipped");
            let blocked = Some(format!("partition {partition} waits at offset {offset}: {fault}"));
            self.rewind(partition, offset, DAMAGE_PAUSE, blocked);
        }
    }

    /// False when the fetcher cannot take it now.
    pub(super) fn rewind(&mut self, partition: i32, offset: i64, pause: Duration, blocked: Option<String>) -> bool {
        let Some(fetching) = &self.fetching else { return false };
        let rewind = Rewind { partition, position: self.epochs.position(partition, offset), pause, blocked };
        let sent = fetching.rewinds.try_send(rewind);
        if let Err(fault) = &sent {
            // The fetcher's queue is full or it has ended: the next answer of this partition astray asks again.
            self.damage.remove(&partition);
            warn!(partition, %fault, "cannot rewind a partition yet");
        }
        sent.is_ok()
    }
}
