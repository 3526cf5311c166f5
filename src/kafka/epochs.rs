//! Leader epochs of what was read ([KIP-320]): which one goes with a commit, and whether a leader's log still holds the
//! records that were read before a position.
//!
//! Each record batch carries the epoch of the leader that wrote it. A log that was cut (an unclean election, a broker
//! killed with unflushed data) goes on with a later epoch, so an epoch that ends before the position of its reader shows
//! the cut, even when the log has grown past that position since.
//!
//! [KIP-320]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-320%3A+Allow+fetchers+to+detect+and+handle+log+truncation

use std::collections::BTreeMap;

use crate::kafka::protocol::offset_for_leader_epoch::{EpochEnd, EpochQuestion};

/// An epoch that nobody told.
pub const UNKNOWN_EPOCH: i32 = -1;

/// From this offset on the record batches of an answer are of this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The partition.
    pub partition: i32,
    /// The first offset of the first batch.
    pub offset: i64,
    /// The epoch, [`UNKNOWN_EPOCH`] in formats without one.
    pub epoch: i32,
}

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub offset: i64,
    /// The epoch of the record batch before it.
    pub epoch: i32,
    /// Where the batches of this epoch began, `None` when that was not read here.
    pub epoch_start: Option<i64>,
    /// The epoch of the leader whose log was last found to hold what lies before.
    pub checked: i32,
}

impl Position {
    /// A position that no leader has been asked about.
    pub fn new(offset: i64, epoch: i32) -> Self {
        Self { offset, epoch, epoch_start: None, checked: UNKNOWN_EPOCH }
    }

    /// Whether a leader of this epoch has to be asked before anything is read from it.
    pub fn is_unchecked(&self, leader_epoch: i32) -> bool {
        self.epoch != UNKNOWN_EPOCH && leader_epoch != UNKNOWN_EPOCH && self.checked != leader_epoch
    }

    /// Reading goes on behind batches whose last epoch began there.
    pub fn read(&mut self, next: i64, last: Option<EpochStart>) {
        self.offset = next;
        if let Some(last) = last.filter(|last| last.epoch != self.epoch) {
            self.epoch = last.epoch;
            self.epoch_start = Some(last.offset);
        }
    }
}

/// What the log of a leader has to do with what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lineage {
    /// It holds all of it.
    Whole,
    /// It was cut: from `end` on it holds other records, or none.
    Cut {
        /// The first offset that was not read of this log.
        end: i64,
        /// The epoch before it.
        epoch: i32,
    },
    /// The leader cannot tell.
    Unknown,
    /// The answer is of a broker that has not heard of the epoch: its log is an old one.
    Behind,
}

/// Compares a position with a leader's answer. `same_topic` is whether the topic's id says that it is the topic that was
/// read before.
pub fn lineage(position: &Position, asked: &EpochQuestion, answer: &EpochEnd, same_topic: bool) -> Lineage {
    if answer.leader_epoch < 0 || answer.end_offset < 0 {
        // A leader's log has each epoch up to the leader's own.
        let older = asked.current_leader_epoch != UNKNOWN_EPOCH && asked.current_leader_epoch < asked.leader_epoch;
        return match (older, same_topic) {
            (true, true) => Lineage::Behind,
            // Epochs begin again with a topic that was deleted and created again.
            (true, false) => Lineage::Cut { end: 0, epoch: UNKNOWN_EPOCH },
            (false, _) => Lineage::Unknown,
        };
    }
    let mut end = answer.end_offset;
    if answer.leader_epoch < position.epoch {
        // None of the batches of the position's epoch is in this log.
        end = position.epoch_start.map_or(end, |start| end.min(start));
    }
    // A leader never cuts its own epoch, and says so with a new one. One that came back in the same epoch with less than it
    // had cannot tell from where on its log is another: nothing does.
    let same_leader = answer.leader_epoch == asked.current_leader_epoch;
    if end < position.offset && same_leader {
        return Lineage::Unknown;
    }
    if end < position.offset { Lineage::Cut { end, epoch: answer.leader_epoch } } else { Lineage::Whole }
}

/// Of which epochs the partitions were read, as far back as commits may come.
#[derive(Debug, Default)]
pub struct Epochs {
    /// Per partition: from this offset on, this epoch; in order.
    partitions: BTreeMap<i32, Vec<(i64, i32)>>,
}

/// Epochs that are remembered of a partition. Positions before them have none that is known.
const REMEMBERED: usize = 32;

impl Epochs {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.partitions.clear();
    }

    /// Reading of a partition goes on at `offset` instead of where it stood `before`, or begins there; what lies before the
    /// offset is of this epoch.
    pub fn start(&mut self, partition: i32, before: Option<i64>, offset: i64, epoch: i32) {
        match before {
            None => self.begin(partition, epoch),
            Some(before) if offset < before => self.cut(partition, offset, epoch),
            Some(before) if offset > before => self.read(EpochStart { partition, offset: offset - 1, epoch }),
            Some(_) => {}
        }
    }

    fn begin(&mut self, partition: i32, epoch: i32) {
        self.partitions.insert(partition, vec![(i64::MIN, epoch)]);
    }

    /// Batches of an epoch were read. What was read from there on before counts no more.
    pub fn read(&mut self, start: EpochStart) {
        let entries = self.partitions.entry(start.partition).or_default();
        entries.retain(|(offset, _)| *offset < start.offset);
        if entries.last().is_none_or(|(_, epoch)| *epoch != start.epoch) {
            entries.push((start.offset, start.epoch));
        }
        if entries.len() > REMEMBERED {
            entries.remove(0);
        }
    }

    /// The log was cut at `end`; the batch before that is of `epoch`.
    fn cut(&mut self, partition: i32, end: i64, epoch: i32) {
        if epoch == UNKNOWN_EPOCH {
            return self.begin(partition, epoch);
        }
        let entries = self.partitions.entry(partition).or_default();
        entries.retain(|(offset, _)| *offset < end);
        for (_, read) in entries.iter_mut() {
            *read = (*read).min(epoch);
        }
        if entries.last().is_none_or(|(_, read)| *read != epoch) {
            entries.push((end.saturating_sub(1), epoch));
        }
    }

    /// The position at an offset: its epoch is that of the batch before it.
    pub fn position(&self, partition: i32, offset: i64) -> Position {
        let entries = self.partitions.get(&partition).map_or(&[][..], Vec::as_slice);
        match entries.iter().rev().find(|(start, _)| *start < offset) {
            Some((start, epoch)) => Position {
                epoch_start: Some(*start).filter(|start| *start > i64::MIN),
                ..Position::new(offset, *epoch)
            },
            None => Position::new(offset, UNKNOWN_EPOCH),
        }
    }

    /// The epoch of the batch before an offset.
    pub fn before(&self, partition: i32, offset: i64) -> i32 {
        self.position(partition, offset).epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(offset: i64, epoch: i32) -> EpochStart {
        EpochStart { partition: 0, offset, epoch }
    }

    #[test]
    fn a_commit_has_the_epoch_of_the_batch_before_it() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.before(0, 10), UNKNOWN_EPOCH);
        epochs.begin(0, 3);
        epochs.read(start(90, 3)); // a batch comes whole: from before the position
        epochs.read(start(120, 5));
        let seen = [(90, 3), (100, 3), (120, 3), (121, 5), (500, 5)];
        assert_eq!(seen.map(|(offset, _)| (offset, epochs.before(0, offset))), seen);
        assert_eq!(epochs.position(0, 121).epoch_start, Some(120));
        assert_eq!(epochs.position(0, 120).epoch_start, None, "begun before this reading");
        // Read again from 110, with the batches of another log.
        epochs.read(start(110, 6));
        let seen = [(110, 3), (111, 6), (500, 6)];
        assert_eq!(seen.map(|(offset, _)| (offset, epochs.before(0, offset))), seen);
        assert_eq!(epochs.before(1, 100), UNKNOWN_EPOCH);
        epochs.begin(0, UNKNOWN_EPOCH);
        assert_eq!(epochs.before(0, 500), UNKNOWN_EPOCH);
    }

    #[test]
    fn what_is_forgotten_is_unknown_and_not_of_an_older_epoch() {
        let mut epochs = Epochs::default();
        epochs.begin(0, 0);
        for epoch in 1..=100 {
            epochs.read(start(i64::from(epoch) * 10, epoch));
        }
        assert_eq!(epochs.before(0, 1001), 100);
        assert_eq!(epochs.before(0, 5), UNKNOWN_EPOCH);
        assert_eq!(epochs.partitions[&0].len(), REMEMBERED);
    }

    #[test]
    fn a_cut_leaves_no_epoch_that_the_log_does_not_have() {
        let mut epochs = Epochs::default();
        epochs.begin(0, 3);
        epochs.read(start(100, 5));
        epochs.read(start(200, 6));
        epochs.cut(0, 150, 5);
        assert_eq!([50, 100, 101, 150, 300].map(|offset| epochs.before(0, offset)), [3, 3, 5, 5, 5]);
        epochs.cut(0, 120, 4);
        assert_eq!([50, 101, 120].map(|offset| epochs.before(0, offset)), [3, 4, 4]);
        epochs.cut(0, 90, 4);
        assert_eq!([50, 89, 90].map(|offset| epochs.before(0, offset)), [3, 3, 4]);
        epochs.cut(0, 0, UNKNOWN_EPOCH);
        assert_eq!(epochs.before(0, 10), UNKNOWN_EPOCH);
    }

    #[test]
    fn the_table_of_answers() {
        let at = |offset, epoch, epoch_start| Position { epoch_start, ..Position::new(offset, epoch) };
        let cut = |end, epoch| Lineage::Cut { end, epoch };
        // position, the leader's epoch, its answer, same topic, what it means
        let table = [
            (at(200, 5, None), 5, (5, 200), true, Lineage::Whole),
            (at(200, 5, None), 6, (5, 250), true, Lineage::Whole),
            (at(200, 5, None), 6, (5, 150), true, cut(150, 5)),
            (at(200, 5, Some(120)), 6, (4, 100), true, cut(100, 4)),
            (at(200, 5, None), 6, (4, 300), true, Lineage::Whole),
            // An unclean election and back: our epoch 5 never was in this log.
            (at(200, 5, Some(120)), 6, (4, 300), true, cut(120, 4)),
            (at(200, 5, Some(120)), 6, (5, 300), true, Lineage::Whole),
            (at(200, 5, None), 5, (5, 150), true, Lineage::Unknown),
            (at(200, 5, None), 6, (-1, -1), true, Lineage::Unknown),
            (at(200, 5, None), UNKNOWN_EPOCH, (-1, -1), true, Lineage::Unknown),
            (at(200, 5, None), 4, (-1, -1), true, Lineage::Behind),
            (at(200, 5, None), 0, (-1, -1), false, cut(0, UNKNOWN_EPOCH)),
            (at(0, 5, None), 6, (5, 0), true, Lineage::Whole),
        ];
        for (position, current_leader_epoch, (leader_epoch, end_offset), same_topic, expected) in table {
            let asked = EpochQuestion { partition: 0, current_leader_epoch, leader_epoch: position.epoch };
            let answer = EpochEnd { error: 0, partition: 0, leader_epoch, end_offset };
            assert_eq!(lineage(&position, &asked, &answer, same_topic), expected, "{position:?} {answer:?}");
        }
    }

    #[test]
    fn a_position_is_checked_once_under_each_leader() {
        let mut position = Position::new(10, 3);
        assert!(position.is_unchecked(4));
        position.checked = 4;
        assert!(!position.is_unchecked(4) && position.is_unchecked(5) && !position.is_unchecked(UNKNOWN_EPOCH));
        position.read(20, Some(start(10, 4)));
        assert_eq!((position.offset, position.epoch, position.epoch_start), (20, 4, Some(10)));
        position.read(30, Some(start(25, 4)));
        assert_eq!(position.epoch_start, Some(10));
        position.read(40, None);
        assert_eq!((position.offset, position.epoch), (40, 4));
        assert!(!Position::new(10, UNKNOWN_EPOCH).is_unchecked(4));
    }
}
