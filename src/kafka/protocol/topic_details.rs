//! Metadata v7 and v8 once more, for one topic and with what [`super::metadata`] passes over: the controller, how often a
//! partition is replicated, and from v8 on what this user may do with the topic (KIP-430).

use super::wire::{Reader, WireError, put_array, put_i8, put_string};

/// Asks for one topic, which is not created by asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDetailsRequest<'a> {
    /// The topic.
    pub topic: &'a str,
}

impl TopicDetailsRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        put_array(out, [self.topic].into_iter(), put_string);
        put_i8(out, 0); // allow_auto_topic_creation
        if version >= 8 {
            put_i8(out, 0); // include_cluster_authorized_operations
            put_i8(out, 1); // include_topic_authorized_operations
        }
    }
}

/// What is known of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDetailsResponse {
    /// The node that topics are created at.
    pub controller: i32,
    /// The topic's error code; 3 = there is none of this name.
    pub error: i16,
    /// How many partitions it has.
    pub partitions: i32,
    /// The replicas of its first partition.
    pub replicas: i32,
    /// What this user may do with it, a bit for each operation; `None` when the broker does not tell.
    pub operations: Option<i32>,
}

/// `AclOperation.READ` as a bit.
pub const READ: i32 = 1 << 3;
/// `AclOperation.WRITE` as a bit.
pub const WRITE: i32 = 1 << 4;

impl TopicDetailsResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        reader.array(|reader| {
            reader.i32()?; // node
            reader.string()?; // host
            reader.i32()?; // port
            reader.nullable_string()?; // rack
            Ok(())
        })?;
        reader.nullable_string()?; // cluster id
        let controller = reader.i32()?;
        let topics = reader.array(|reader| {
            let error = reader.i16()?;
            reader.string()?;
            reader.bool()?; // is_internal
            let replicas = reader.array(|reader| {
                reader.i16()?; // error
                reader.i32()?; // index
                reader.i32()?; // leader
                reader.i32()?; // leader epoch
                let replicas = reader.array(Reader::i32)?.len();
                reader.array(Reader::i32)?; // in sync
                reader.array(Reader::i32)?; // offline
                Ok(replicas as i32)
            })?;
            let operations = if version >= 8 { Some(reader.i32()?) } else { None };
            Ok(Self {
                controller,
                error,
                partitions: replicas.len() as i32,
                replicas: replicas.first().copied().unwrap_or(-1),
                operations: operations.filter(|operations| *operations != NOT_TOLD),
            })
        })?;
        if version >= 8 {
            reader.i32()?; // cluster_authorized_operations
        }
        topics.into_iter().next().ok_or(WireError::Length { what: "topics", length: 0 })
    }
}

const NOT_TOLD: i32 = i32::MIN;

super::api!(TopicDetailsRequest<'_> => TopicDetailsResponse, Metadata, versions 7..=8, flexible from 9);
