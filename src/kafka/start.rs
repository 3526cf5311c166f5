//! Where a partition is read from: the one decision, without sockets.

use crate::config::OffsetReset;
use crate::kafka::epochs::Lineage;
use crate::kafka::group::{Assignment, Committed};

/// A decision and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Read from here.
    At {
        /// The next offset to read.
        offset: i64,
        /// Why.
        why: Why,
    },
    /// `KAFKA_AUTO_OFFSET_RESET=none` and there is nothing to go by: the partition waits for a person.
    Wait {
        /// Why, and what to do.
        why: String,
    },
}

/// Why a partition starts where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The group's committed offset.
    Committed,
    /// No committed offset: the log's start, by configuration.
    Earliest,
    /// No committed offset: the log's end, by configuration.
    Latest,
    /// A partition that the topic did not have when the group last committed.
    NewPartition,
    /// The committed offset was deleted from the log: this many offsets are lost.
    Deleted {
        /// The committed offset.
        committed: i64,
        /// How many offsets nobody read.
        lost: i64,
    },
    /// The log was cut below the place up to which it was read or committed, as the leader epochs tell: reading goes on
    /// there.
    Cut {
        /// The place up to which it was read.
        position: i64,
        /// The leader epoch of the record batch before that.
        epoch: i32,
        /// From there on the log holds other records, or none.
        end: i64,
        /// The epoch before the end.
        end_epoch: i32,
        /// How many offsets behind the end were deleted before anybody read them.
        lost: i64,
    },
    /// The committed offset lies behind the log's end: the log was cut, or is another one. No leader epoch tells where.
    BeyondEnd {
        /// The committed offset.
        committed: i64,
        /// The log's end.
        end: i64,
    },
    /// The topic was deleted and created anew since the offset was committed.
    Recreated {
        /// The committed offset.
        committed: i64,
    },
}

/// What a partition's leader says of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The first offset that is there.
    pub start: i64,
    /// The next offset after what may be read now: before an open transaction under read_committed.
    pub readable_end: i64,
    /// The next offset after all that the log holds (its high watermark).
    pub end: i64,
}

/// A committed offset, and what its leader epoch says of it.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The offset.
    pub committed: &'a Committed,
    /// Whether the log still holds what lies before.
    pub lineage: Lineage,
}

/// Decides for one partition of an assignment.
pub fn decide(
    assignment: &Assignment,
    topic: &str,
    partition: i32,
    known: Option<Known<'_>>,
    log: Log,
    reset: OffsetReset,
) -> Start {
    let Some(Known { committed, lineage }) = known else {
        let known = assignment.known_partition_count;
        return match reset {
            // Its records were all written after the group began: none of them is old.
            _ if known.is_some_and(|known| partition >= known) => {
                Start::At { offset: log.start, why: Why::NewPartition }
            }
            OffsetReset::Earliest => Start::At { offset: log.start, why: Why::Earliest },
            OffsetReset::Latest => Start::At { offset: log.readable_end, why: Why::Latest },
            OffsetReset::None => Start::Wait {
                why: format!(
                    "partition {partition} of {topic} has no committed offset and KAFKA_AUTO_OFFSET_RESET is none; commit \
                     one (kafka-consumer-groups --reset-offsets) or set it to earliest or latest"
                ),
            },
        };
    };
    let offset = committed.offset;
    if !committed.is_of(assignment.topic_id) {
        return Start::At { offset: log.start, why: Why::Recreated { committed: offset } };
    }
    if let Lineage::Cut { end, epoch: end_epoch } = lineage {
        let (epoch, lost) = (committed.leader_epoch, (log.start - end).max(0));
        let why = Why::Cut { position: offset, epoch, end, end_epoch, lost };
        return Start::At { offset: end.max(log.start), why };
    }
    if offset < log.start {
        let why = Why::Deleted { committed: offset, lost: log.start - offset };
        return Start::At { offset: log.start, why };
    }
    // Between the two ends it is no fault: it was committed by a reader of open transactions, or by hand.
    // Where the epochs say that the log holds it, its end is only not known to be replicated yet.
    if offset > log.end && lineage != Lineage::Whole {
        return Start::At { offset: log.start, why: Why::BeyondEnd { committed: offset, end: log.end } };
    }
    Start::At { offset, why: Why::Committed }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kafka::group::CommitNote;

    fn assignment(known_partition_count: Option<i32>) -> Assignment {
        Assignment {
            generation: 1,
            topic_id: 7,
            partition_count: 12,
            known_partition_count,
            partitions: BTreeMap::new(),
        }
    }

    fn committed(offset: i64, topic_id: u128) -> Committed {
        Committed {
            offset,
            leader_epoch: 3,
            note: Some(CommitNote { partition_count: 12, topic_id, parts: Some(Vec::new()) }),
        }
    }

    #[test]
    fn the_table() {
        use OffsetReset::{Earliest, Latest, None as Nothing};
        let at = |offset, why| Start::At { offset, why };
        let foreign = Committed { offset: 50, leader_epoch: -1, note: None };
        // known count, partition, committed, reset, expected; the log goes from 10 to 120, a transaction is open at 100
        let log = Log { start: 10, readable_end: 100, end: 120 };
        let table = [
            (None, 3, None, Earliest, at(10, Why::Earliest)),
            (None, 3, None, Latest, at(100, Why::Latest)),
            (Some(0), 3, None, Latest, at(10, Why::NewPartition)),
            (Some(12), 3, None, Latest, at(100, Why::Latest)),
            (Some(12), 12, None, Latest, at(10, Why::NewPartition)),
            (Some(12), 12, None, Nothing, at(10, Why::NewPartition)),
            (Some(12), 3, Some(committed(50, 7)), Nothing, at(50, Why::Committed)),
            (Some(12), 3, Some(committed(100, 7)), Latest, at(100, Why::Committed)),
            (Some(12), 3, Some(foreign), Latest, at(50, Why::Committed)),
            (Some(12), 3, Some(committed(4, 7)), Latest, at(10, Why::Deleted { committed: 4, lost: 6 })),
            (Some(12), 3, Some(committed(101, 7)), Latest, at(101, Why::Committed)),
            (Some(12), 3, Some(committed(120, 7)), Latest, at(120, Why::Committed)),
            (Some(12), 3, Some(committed(121, 7)), Latest, at(10, Why::BeyondEnd { committed: 121, end: 120 })),
            (Some(12), 3, Some(committed(50, 8)), Latest, at(10, Why::Recreated { committed: 50 })),
            (Some(12), 3, Some(committed(50, 0)), Latest, at(50, Why::Committed)),
        ];
        for (known, partition, committed, reset, expected) in table {
            let start = decide(&assignment(known), "t", partition, of(&committed, Lineage::Unknown), log, reset);
            assert_eq!(start, expected, "{known:?} {partition} {committed:?} {reset:?}");
        }
        let Start::Wait { why } = decide(&assignment(None), "t", 3, None, log, Nothing) else { panic!("must wait") };
        assert!(why.contains("KAFKA_AUTO_OFFSET_RESET"), "{why}");
    }

    fn of(committed: &Option<Committed>, lineage: Lineage) -> Option<Known<'_>> {
        committed.as_ref().map(|committed| Known { committed, lineage })
    }

    #[test]
    fn where_epochs_tell() {
        let log = Log { start: 10, readable_end: 100, end: 120 };
        let cut = |end| Lineage::Cut { end, epoch: 2 };
        let why = |end, lost| Why::Cut { position: 110, epoch: 3, end, end_epoch: 2, lost };
        let table = [
            (110, 7, Lineage::Whole, 110, Why::Committed),
            (130, 7, Lineage::Whole, 130, Why::Committed),
            (4, 7, Lineage::Whole, 10, Why::Deleted { committed: 4, lost: 6 }),
            (110, 7, cut(60), 60, why(60, 0)),
            (110, 7, cut(4), 10, why(4, 6)),
            (110, 8, cut(60), 10, Why::Recreated { committed: 110 }),
        ];
        for (offset, topic_id, lineage, start, why) in table {
            let committed = Some(committed(offset, topic_id));
            let decided = decide(&assignment(None), "t", 3, of(&committed, lineage), log, OffsetReset::Latest);
            assert_eq!(decided, Start::At { offset: start, why }, "{committed:?} {lineage:?}");
        }
    }
}
