//! OffsetForLeaderEpoch v2 and v3 ([KIP-320]): where the records of a leader epoch end in the leader's log.
//!
//! A reader whose last record batch is of an epoch that ends before the reader's position has read records that the log
//! no longer holds.
//!
//! [KIP-320]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-320%3A+Allow+fetchers+to+detect+and+handle+log+truncation

use super::wire::{Reader, WireError, put_array, put_i32, put_string};

/// The broker lists the request and does not do it.
pub const UNSUPPORTED_VERSION: i16 = 35;
/// The leader has not heard of the epoch yet that it was asked with.
pub const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// Asks a leader about partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetForLeaderEpochRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The questions.
    pub partitions: &'a [EpochQuestion],
}

/// The question about one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochQuestion {
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the metadata gave, -1 = the broker does not compare it with its own.
    pub current_leader_epoch: i32,
    /// The epoch whose end is wanted.
    pub leader_epoch: i32,
}

impl OffsetForLeaderEpochRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        if version >= 3 {
            put_i32(out, -1); // replica id: a consumer
        }
        put_array(out, [self.topic].into_iter(), |out, topic| {
            put_string(out, topic);
            put_array(out, self.partitions.iter(), |out, question| {
                put_i32(out, question.partition);
                put_i32(out, question.current_leader_epoch);
                put_i32(out, question.leader_epoch);
            });
        });
    }
}

/// The ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetForLeaderEpochResponse {
    /// Each partition's.
    pub partitions: Vec<EpochEnd>,
}

/// Where an epoch ends in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// Error code; 74 = the current leader epoch asked with is older than the leader's, 75 = it is newer.
    pub error: i16,
    /// The partition.
    pub partition: i32,
    /// The largest epoch of the log that is not above the one asked for, -1 when the log knows none.
    pub leader_epoch: i32,
    /// The offset after its last record, -1 when unknown.
    pub end_offset: i64,
}

impl OffsetForLeaderEpochResponse {
    /// What was asked of a partition, or its error code; -1 (unknown) when the answer lacks it, has it twice, or is about a
    /// later epoch.
    pub fn of(&self, question: &EpochQuestion) -> Result<EpochEnd, i16> {
        let mut ends = self.partitions.iter().filter(|end| end.partition == question.partition);
        match (ends.next(), ends.next()) {
            (Some(end), None) if end.error != 0 => Err(end.error),
            (Some(end), None) if end.leader_epoch <= question.leader_epoch => Ok(*end),
            _ => Err(-1),
        }
    }

    /// Reads the body: the same in both versions.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        let partitions = reader.of_topic(|reader| {
            let error = reader.i16()?;
            let partition = reader.i32()?;
            let leader_epoch = reader.i32()?;
            Ok(EpochEnd { error, partition, leader_epoch, end_offset: reader.i64()? })
        })?;
        Ok(Self { partitions })
    }
}

super::api!(OffsetForLeaderEpochRequest<'_> => OffsetForLeaderEpochResponse, OffsetForLeaderEpoch, versions 2..=3, flexible from 4);
