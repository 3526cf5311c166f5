//! ListOffsets v2 to v4 (KIP-98, KIP-320): where a partition's log starts and ends.
//! rskafka has this message too; ours keeps to one topic, so that asking and reading are one line each.

use super::wire::{Reader, WireError, put_array, put_i8, put_i32, put_i64, put_string};

/// The timestamp that stands for the end of the log (the last stable offset under read_committed).
pub const LATEST: i64 = -1;
/// The timestamp that stands for its start.
pub const EARLIEST: i64 = -2;
/// The isolation level read_uncommitted: offsets of all that the log holds.
pub const ALL: i8 = 0;

/// Asks a leader for offsets of partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsRequest<'a> {
    /// [`ALL`], or 1: read_committed.
    pub isolation: i8,
    /// The topic.
    pub topic: &'a str,
    /// The partitions, and the leader epoch that the metadata gave for each: from v4 on the broker compares it with its own,
    /// unless it is -1.
    pub partitions: &'a [(i32, i32)],
    /// [`LATEST`] or [`EARLIEST`].
    pub timestamp: i64,
}

impl ListOffsetsRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        put_i32(out, -1); // replica id: a consumer
        put_i8(out, self.isolation);
        put_array(out, [self.topic].into_iter(), |out, topic| {
            put_string(out, topic);
            put_array(out, self.partitions.iter(), |out, (partition, leader_epoch)| {
                put_i32(out, *partition);
                if version >= 4 {
                    put_i32(out, *leader_epoch);
                }
                put_i64(out, self.timestamp);
            });
        });
    }
}

/// The offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsResponse {
    /// The topics that it is about.
    pub topics: Vec<String>,
    /// Each partition's.
    pub partitions: Vec<ListedOffset>,
}

/// One partition's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedOffset {
    /// The partition.
    pub partition: i32,
    /// Error code.
    pub error: i16,
    /// The offset.
    pub offset: i64,
    /// The leader epoch there, -1 when the broker does not tell.
    pub leader_epoch: i32,
}

impl ListOffsetsResponse {
    /// A partition's offset, or its error code; -1 (unknown) when the answer does not have it.
    pub fn of(&self, partition: i32) -> Result<i64, i16> {
        match self.partitions.iter().find(|listed| listed.partition == partition) {
            Some(ListedOffset { error: 0, offset, .. }) => Ok(*offset),
            Some(listed) => Err(listed.error),
            None => Err(-1),
        }
    }

    /// The leader epoch at a partition's offset, -1 when the answer does not have it.
    pub fn epoch_of(&self, partition: i32) -> i32 {
        self.partitions.iter().find(|listed| listed.partition == partition).map_or(-1, |listed| listed.leader_epoch)
    }

    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        let (topics, partitions) = reader.of_topics(|reader| {
            let partition = reader.i32()?;
            let error = reader.i16()?;
            reader.i64()?; // timestamp
            let offset = reader.i64()?;
            let leader_epoch = if version >= 4 { reader.i32()? } else { -1 };
            Ok(ListedOffset { partition, error, offset, leader_epoch })
        })?;
        Ok(Self { topics, partitions })
    }
}

super::api!(ListOffsetsRequest<'_> => ListOffsetsResponse, ListOffsets, versions 2..=4, flexible from 6);
