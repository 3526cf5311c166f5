//! Fetch v11 (KIP-392) and v13 (KIP-516) with the records left as the bytes they are: the answer's buffer is taken over
//! whole.
//!
//! v11 names the topic: after a re-creation it serves the new log at the old position. v13 names the topic's id, and an id
//! that is gone is refused with [`UNKNOWN_TOPIC_ID`] or [`INCONSISTENT_TOPIC_ID`].
//!
//! rskafka's own Fetch decodes records while reading, fails on transaction markers and copies (kafka's control batches
//! carry their type in the record's key). Here the reply is kept and only its frame of partitions is read.

use std::io::Cursor;
use std::ops::Range;

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::Int16;

use super::wire::{Reader, WireError, put_array, put_i8, put_i32, put_i64, put_string, put_unsigned_varint};

/// The broker knows no topic of this id: deleted, or not yet there.
pub const UNKNOWN_TOPIC_ID: i16 = 100;
/// The log at the leader is of another topic id than asked for.
pub const INCONSISTENT_TOPIC_ID: i16 = 103;
/// By name.
const BY_NAME: i16 = 11;
/// By id.
const BY_ID: i16 = 13;

/// Asks one leader for records of partitions of one topic. No fetch session (KIP-227): session 0, epoch -1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest<'a> {
    /// The longest the broker waits for `min_bytes`.
    pub max_wait_ms: i32,
    /// What it waits for.
    pub min_bytes: i32,
    /// A soft limit of the answer; the first batch comes whole however large it is (KIP-74).
    pub max_bytes: i32,
    /// 0 read_uncommitted, 1 read_committed.
    pub isolation: i8,
    /// The topic.
    pub topic: &'a str,
    /// From where, in the order in which the broker fills the answer.
    pub partitions: &'a [FetchFrom],
    /// A soft limit for each partition.
    pub partition_max_bytes: i32,
}

/// From where one partition is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchFrom {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch that the metadata gave: a leader of another epoch refuses (KIP-320). -1 = it does not compare.
    pub leader_epoch: i32,
}

impl FetchRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        self.put_head(out);
        put_array(out, [self.topic].into_iter(), |out, topic| {
            put_string(out, topic);
            put_array(out, self.partitions.iter(), |out, from| {
                put_i32(out, from.partition);
                put_i32(out, from.leader_epoch);
                put_i64(out, from.offset);
                put_i64(out, -1); // log start offset: followers only
                put_i32(out, self.partition_max_bytes);
            });
        });
        put_i32(out, 0); // forgotten topics
        put_string(out, ""); // rack id: always the leader (not null)
    }

    fn put_head(&self, out: &mut Vec<u8>) {
        put_i32(out, -1); // replica id: a consumer
        put_i32(out, self.max_wait_ms);
        put_i32(out, self.min_bytes);
        put_i32(out, self.max_bytes);
        put_i8(out, self.isolation);
        put_i32(out, 0); // session id
        put_i32(out, -1); // session epoch
    }
}

/// The same by the topic's id: v13, from Kafka 3.1 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchByIdRequest<'a> {
    /// The topic's id, not 0.
    pub topic_id: u128,
    /// The rest; its topic's name is not sent.
    pub fetch: FetchRequest<'a>,
}

impl FetchByIdRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        self.fetch.put_head(out);
        put_unsigned_varint(out, 2); // one topic
        out.extend_from_slice(&self.topic_id.to_be_bytes());
        put_unsigned_varint(out, self.fetch.partitions.len() as u32 + 1);
        for from in self.fetch.partitions {
            put_i32(out, from.partition);
            put_i32(out, from.leader_epoch);
            put_i64(out, from.offset);
            put_i32(out, -1); // last fetched epoch: followers only
            put_i64(out, -1); // log start offset: followers only
            put_i32(out, self.fetch.partition_max_bytes);
            put_unsigned_varint(out, 0);
        }
        put_unsigned_varint(out, 0);
        put_unsigned_varint(out, 1); // forgotten topics: none
        put_unsigned_varint(out, 1); // rack id: "", always the leader (not null)
        put_unsigned_varint(out, 0);
    }
}

/// The answer's bytes, not looked into yet.
#[derive(Debug, PartialEq, Eq)]
pub struct FetchBuffer {
    bytes: Vec<u8>,
    start: usize,
    version: i16,
}

impl ReadVersionedType<Cursor<Vec<u8>>> for FetchBuffer {
    fn read_versioned(cursor: &mut Cursor<Vec<u8>>, version: ApiVersion) -> Result<Self, ReadVersionedError> {
        let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let bytes = std::mem::take(cursor.get_mut());
        // The Messenger compares the position with the length of what is left: both are 0 now, and the check that
        // everything was read becomes FetchAnswer::decode's.
        cursor.set_position(0);
        Ok(Self { bytes, start, version: version.0.0 })
    }
}

impl FetchBuffer {
    /// A buffer whose body, of this version, begins at `start`.
    pub fn new(bytes: Vec<u8>, start: usize, version: i16) -> Self {
        Self { bytes, start, version }
    }
}

/// The answer: its buffer, and where in it each partition's records lie.
#[derive(Debug, PartialEq, Eq)]
pub struct FetchAnswer {
    /// The whole buffer.
    pub bytes: Vec<u8>,
    /// Error code of the whole.
    pub error: i16,
    /// The topics that it is about.
    pub topics: Vec<TopicKey>,
    /// The partitions, not in the order asked for.
    pub partitions: Vec<FetchedPartition>,
}

/// What an answer names a topic by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicKey {
    /// Its name, before v13.
    Name(String),
    /// Its id.
    Id(u128),
}

impl std::fmt::Display for TopicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Id(id) => write!(f, "with the id {id:032x}"),
        }
    }
}

/// One partition of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// Error code.
    pub error: i16,
    /// The end of the log.
    pub high_watermark: i64,
    /// Its last stable offset: what read_committed may read up to.
    pub last_stable_offset: i64,
    /// Its start.
    pub log_start_offset: i64,
    /// The broker to read from instead (KIP-392), -1 without a hint: then no records come.
    pub preferred_replica: i32,
    /// Aborted transactions: producer id, first offset.
    pub aborted: Vec<(i64, i64)>,
    /// Where its records lie in the answer's buffer.
    pub records: Range<usize>,
}

impl FetchedPartition {
    /// The end of what may be read at this isolation: 1 reads up to the last stable offset.
    pub fn readable_end(&self, isolation: i8) -> i64 {
        if isolation == 1 { self.last_stable_offset } else { self.high_watermark }
    }
}

impl FetchAnswer {
    /// Reads the frame of partitions. The buffer stays as it is.
    ///
    /// # Errors
    /// When the bytes are not an answer of the buffer's version, or more than one.
    pub fn decode(buffer: FetchBuffer) -> Result<Self, WireError> {
        let FetchBuffer { bytes, start, version } = buffer;
        let form = Form { flexible: version >= 12, by_id: version >= BY_ID, total: bytes.len() };
        let mut reader = Reader::new(bytes.get(start..).unwrap_or(&[]));
        reader.i32()?; // throttle time: the broker mutes the connection itself, the answer is whole
        let error = reader.i16()?;
        reader.i32()?; // session id
        let topics = form.array(&mut reader, |reader| form.topic(reader))?;
        form.tags(&mut reader)?;
        if !reader.rest().is_empty() {
            return Err(WireError::Length { what: "bytes behind the answer", length: reader.rest().len() as i64 });
        }
        let (topics, partitions): (Vec<_>, Vec<_>) = topics.into_iter().unzip();
        Ok(Self { error, topics, partitions: partitions.into_iter().flatten().collect(), bytes })
    }
}

/// How a version spells things, and how long the whole buffer is.
#[derive(Clone, Copy)]
struct Form {
    flexible: bool,
    by_id: bool,
    total: usize,
}

impl Form {
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

    fn topic(self, reader: &mut Reader<'_>) -> Result<(TopicKey, Vec<FetchedPartition>), WireError> {
        let topic = if self.by_id {
            TopicKey::Id(reader.uuid()?)
        } else if self.flexible {
            TopicKey::Name(reader.compact_nullable_string()?.unwrap_or("").to_owned())
        } else {
            TopicKey::Name(reader.string()?.to_owned())
        };
        let partitions = self.array(reader, |reader| self.partition(reader))?;
        self.tags(reader)?;
        Ok((topic, partitions))
    }

    fn partition(self, reader: &mut Reader<'_>) -> Result<FetchedPartition, WireError> {
        let partition = reader.i32()?;
        let error = reader.i16()?;
        let high_watermark = reader.i64()?;
        let last_stable_offset = reader.i64()?;
        let log_start_offset = reader.i64()?;
        let aborted = self.array(reader, |reader| {
            let aborted = (reader.i64()?, reader.i64()?);
            self.tags(reader)?;
            Ok(aborted)
        })?;
        let preferred_replica = reader.i32()?;
        let records = if self.flexible { reader.compact_nullable_bytes()? } else { reader.nullable_bytes()? };
        let records = records.unwrap_or(&[]);
        let end = self.total - reader.rest().len();
        self.tags(reader)?; // diverging epoch, current leader, snapshot id: for followers
        Ok(FetchedPartition {
            partition,
            error,
            high_watermark,
            last_stable_offset,
            log_start_offset,
            preferred_replica,
            aborted,
            records: end - records.len()..end,
        })
    }
}

/// The requests' side of rskafka's traits. The answer is taken over and not decoded, so `api!` does not fit.
macro_rules! fetch {
    ($request:ty, $version:expr) => {
        impl RequestBody for $request {
            type ResponseBody = FetchBuffer;
            const API_KEY: ApiKey = ApiKey::Fetch;
            const API_VERSION_RANGE: ApiVersionRange =
                ApiVersionRange::new(ApiVersion(Int16($version)), ApiVersion(Int16($version)));
            const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(12));
        }

        impl WriteVersionedType<Vec<u8>> for $request {
            fn write_versioned(&self, out: &mut Vec<u8>, version: ApiVersion) -> Result<(), WriteVersionedError> {
                self.encode(out, version.0.0);
                Ok(())
            }
        }
    };
}

fetch!(FetchRequest<'_>, BY_NAME);
fetch!(FetchByIdRequest<'_>, BY_ID);
