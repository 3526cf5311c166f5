//! OffsetFetch v5: the group's committed offsets of one topic.

use super::wire::{Reader, WireError, put_array, put_i32, put_string};

/// Asks for committed offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchRequest<'a> {
    /// The group id.
    pub group_id: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The partitions.
    pub partitions: &'a [i32],
}

impl OffsetFetchRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_string(out, self.group_id);
        put_array(out, [self.topic].into_iter(), |out, topic| {
            put_string(out, topic);
            put_array(out, self.partitions.iter(), |out, partition| put_i32(out, *partition));
        });
    }
}

/// What was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// Error code of the whole.
    pub error: i16,
    /// Each partition's.
    pub partitions: Vec<FetchedOffset>,
}

/// One partition's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: i32,
    /// The next offset to read, -1 when none was committed.
    pub offset: i64,
    /// The leader epoch committed beside it: that of the record batch before the offset. -1 when unknown.
    pub leader_epoch: i32,
    /// The text committed beside it.
    pub metadata: String,
    /// Error code of this partition.
    pub error: i16,
}

impl OffsetFetchResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        let partitions = reader.of_topic(|reader| {
            let partition = reader.i32()?;
            let offset = reader.i64()?;
            let leader_epoch = reader.i32()?;
            let metadata = reader.nullable_string()?.unwrap_or("").to_owned();
            Ok(FetchedOffset { partition, offset, leader_epoch, metadata, error: reader.i16()? })
        })?;
        Ok(Self { partitions, error: reader.i16()? })
    }
}

super::api!(OffsetFetchRequest<'_> => OffsetFetchResponse, OffsetFetch, versions 5..=5, flexible from 6);
