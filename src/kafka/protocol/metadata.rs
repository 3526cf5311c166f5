//! Metadata v7 to v10: brokers, leaders, partition counts, and from v10 the topic's id (KIP-516), which tells a
//! re-created topic from the old one. rskafka's own message ends at v4.

use super::wire::{Reader, WireError, put_array, put_i8, put_string, put_unsigned_varint};

/// Asks for topics by name; an empty list asks for brokers only. Topics are never created by asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRequest<'a> {
    /// The topics.
    pub topics: &'a [&'a str],
}

impl MetadataRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, version: i16) {
        if version >= 9 {
            put_unsigned_varint(out, self.topics.len() as u32 + 1);
            for topic in self.topics {
                if version >= 10 {
                    out.extend_from_slice(&[0; 16]); // topic id: by name
                }
                put_unsigned_varint(out, topic.len() as u32 + 1);
                out.extend_from_slice(topic.as_bytes());
                put_unsigned_varint(out, 0);
            }
        } else {
            put_array(out, self.topics.iter(), |out, topic| put_string(out, topic));
        }
        put_i8(out, 0); // allow_auto_topic_creation
        if version >= 8 {
            put_i8(out, 0); // include_cluster_authorized_operations
            put_i8(out, 0); // include_topic_authorized_operations
        }
        if version >= 9 {
            put_unsigned_varint(out, 0);
        }
    }
}

/// The cluster as one broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataResponse {
    /// Brokers that are alive: node id, advertised host, port.
    pub brokers: Vec<(i32, String, i32)>,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The topics asked for.
    pub topics: Vec<TopicMetadata>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Error code; 3 = there is none of this name.
    pub error: i16,
    /// Its name.
    pub name: String,
    /// Its id, 0 when the broker does not tell.
    pub id: u128,
    /// Its partitions.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Error code.
    pub error: i16,
    /// Its index.
    pub index: i32,
    /// The leader's node id, -1 when there is none.
    pub leader: i32,
    /// Its epoch (KIP-320): grows with each election. -1 when the broker does not know.
    pub leader_epoch: i32,
}

impl MetadataResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, WireError> {
        let form = Form { flexible: version >= 9, version };
        reader.i32()?; // throttle time
        let brokers = form.array(reader, |reader| {
            let node_id = reader.i32()?;
            let host = form.string(reader)?.unwrap_or("").to_owned();
            let port = reader.i32()?;
            form.string(reader)?; // rack
            form.tags(reader)?;
            Ok((node_id, host, port))
        })?;
        let cluster_id = form.string(reader)?.map(str::to_owned);
        reader.i32()?; // controller id
        let topics = form.array(reader, |reader| form.topic(reader))?;
        if version >= 8 {
            reader.i32()?; // cluster_authorized_operations
        }
        form.tags(reader)?;
        Ok(Self { brokers, cluster_id, topics })
    }
}

/// How a version spells strings and arrays.
#[derive(Clone, Copy)]
struct Form {
    flexible: bool,
    version: i16,
}

impl Form {
    fn string<'a>(self, reader: &mut Reader<'a>) -> Result<Option<&'a str>, WireError> {
        if self.flexible { reader.compact_nullable_string() } else { reader.nullable_string() }
    }

    fn array<'a, T>(
        self,
        reader: &mut Reader<'a>,
        element: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        if self.flexible { reader.compact_array(element) } else { reader.array(element) }
    }

    fn tags(self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        if self.flexible { reader.tagged_fields() } else { Ok(()) }
    }

    fn topic(self, reader: &mut Reader<'_>) -> Result<TopicMetadata, WireError> {
        let error = reader.i16()?;
        let name = self.string(reader)?.unwrap_or("").to_owned();
        let id = if self.version >= 10 { reader.uuid()? } else { 0 };
        reader.bool()?; // is_internal
        let partitions = self.array(reader, |reader| {
            let error = reader.i16()?;
            let index = reader.i32()?;
            let leader = reader.i32()?;
            let leader_epoch = reader.i32()?;
            for _ in 0..3 {
                self.array(reader, Reader::i32)?; // replicas, in sync, offline
            }
            self.tags(reader)?;
            Ok(PartitionMetadata { error, index, leader, leader_epoch })
        })?;
        if self.version >= 8 {
            reader.i32()?; // topic_authorized_operations
        }
        self.tags(reader)?;
        Ok(TopicMetadata { error, name, id, partitions })
    }
}

super::api!(MetadataRequest<'_> => MetadataResponse, Metadata, versions 7..=10, flexible from 9);
