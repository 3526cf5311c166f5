//! OffsetCommit v7 (KIP-345, KIP-320): moves the group's offsets of one topic.

use super::wire::{Reader, WireError, put_array, put_i32, put_i64, put_nullable_string, put_string};

/// Commits offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitRequest<'a> {
    /// The group id.
    pub group_id: &'a str,
    /// The generation in which the offsets were read.
    pub generation: i32,
    /// The member id.
    pub member_id: &'a str,
    /// The instance id of a static member.
    pub instance_id: Option<&'a str>,
    /// The topic.
    pub topic: &'a str,
    /// The offsets.
    pub partitions: &'a [PartitionCommit],
}

/// One partition's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCommit {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the record batch before it, -1 when unknown.
    pub leader_epoch: i32,
    /// Free text beside it, at most 4,096 bytes by default.
    pub metadata: String,
}

impl OffsetCommitRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_string(out, self.group_id);
        put_i32(out, self.generation);
        put_string(out, self.member_id);
        put_nullable_string(out, self.instance_id);
        put_array(out, [self.topic].into_iter(), |out, topic| {
            put_string(out, topic);
            put_array(out, self.partitions.iter(), |out, commit| {
                put_i32(out, commit.partition);
                put_i64(out, commit.offset);
                put_i32(out, commit.leader_epoch);
                put_nullable_string(out, Some(&commit.metadata));
            });
        });
    }
}

/// The outcome of each partition: there is no error of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// Partition and error code; errors of the group come repeated on each.
    pub partitions: Vec<(i32, i16)>,
}

impl OffsetCommitResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        let partitions = reader.of_topic(|reader| Ok((reader.i32()?, reader.i16()?)))?;
        Ok(Self { partitions })
    }
}

super::api!(OffsetCommitRequest<'_> => OffsetCommitResponse, OffsetCommit, versions 7..=7, flexible from 8);
