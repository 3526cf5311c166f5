//! Fetch v11 (KIP-392) with the records left as the bytes they are: the answer's buffer is taken over whole.
//!
//! rskafka's own Fetch decodes records while reading, fails on transaction markers and copies (kafka's control batches
//! carry their type in the record's key). Here the reply is kept and only its frame of partitions is read.

use std::io::Cursor;
use std::ops::Range;

use rskafka::protocol::api_version::ApiVersion;
use rskafka::protocol::messages::{ReadVersionedError, ReadVersionedType};

use super::wire::{Reader, WireError, put_array, put_i8, put_i32, put_i64, put_string};

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
    /// Partition and next offset to read, in the order in which the broker fills the answer.
    pub partitions: &'a [(i32, i64)],
    /// A soft limit for each partition.
    pub partition_max_bytes: i32,
}

impl FetchRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_i32(out, -1); // replica id: a consumer
        put_i32(out, self.max_wait_ms);
        put_i32(out, self.min_bytes);
        put_i32(out, self.max_bytes);
        put_i8(out, self.isolation);
        put_i32(out, 0); // session id
        put_i32(out, -1); // session epoch
        put_array(out, [self.topic].into_iter(), |out, topic| {
            put_string(out, topic);
            put_array(out, self.partitions.iter(), |out, (partition, offset)| {
                put_i32(out, *partition);
                put_i32(out, -1); // current leader epoch: not checked
                put_i64(out, *offset);
                put_i64(out, -1); // log start offset: followers only
                put_i32(out, self.partition_max_bytes);
            });
        });
        put_i32(out, 0); // forgotten topics
        put_string(out, ""); // rack id: always the leader (not null)
    }
}

/// The answer's bytes, not looked into yet.
#[derive(Debug, PartialEq, Eq)]
pub struct FetchBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadVersionedType<Cursor<Vec<u8>>> for FetchBuffer {
    fn read_versioned(cursor: &mut Cursor<Vec<u8>>, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let bytes = std::mem::take(cursor.get_mut());
        // The Messenger compares the position with the length of what is left: both are 0 now, and the check that
        // everything was read becomes FetchAnswer::decode's.
        cursor.set_position(0);
        Ok(Self { bytes, start })
    }
}

impl FetchBuffer {
    /// A buffer whose body begins at `start`.
    pub fn new(bytes: Vec<u8>, start: usize) -> Self {
        Self { bytes, start }
    }
}

/// The answer: its buffer, and where in it each partition's records lie.
#[derive(Debug, PartialEq, Eq)]
pub struct FetchAnswer {
    /// The whole buffer.
    pub bytes: Vec<u8>,
    /// Error code of the whole.
    pub error: i16,
    /// The partitions, not in the order asked for.
    pub partitions: Vec<FetchedPartition>,
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
    pub fn decode(buffer: FetchBuffer) -> Result<Self, WireError> {
        let FetchBuffer { bytes, start } = buffer;
        let total = bytes.len();
        let mut reader = Reader::new(bytes.get(start..).unwrap_or(&[]));
        reader.i32()?; // throttle time: the broker mutes the connection itself, the answer is whole
        let error = reader.i16()?;
        reader.i32()?; // session id
        let topics = reader.array(|reader| {
            reader.string()?;
            reader.array(|reader| {
                let partition = reader.i32()?;
                let error = reader.i16()?;
                let high_watermark = reader.i64()?;
                let last_stable_offset = reader.i64()?;
                let log_start_offset = reader.i64()?;
                let aborted = reader.array(|reader| Ok((reader.i64()?, reader.i64()?)))?;
                reader.i32()?; // preferred read replica: none without a rack id
                let records = reader.nullable_bytes()?.unwrap_or(&[]);
                let end = total - reader.rest().len();
                Ok(FetchedPartition {
                    partition,
                    error,
                    high_watermark,
                    last_stable_offset,
                    log_start_offset,
                    aborted,
                    records: end - records.len()..end,
                })
            })
        })?;
        if !reader.rest().is_empty() {
            return Err(WireError::Length { what: "bytes behind the answer", length: reader.rest().len() as i64 });
        }
        Ok(Self { error, partitions: topics.into_iter().flatten().collect(), bytes })
    }
}

impl rskafka::protocol::messages::RequestBody for FetchRequest<'_> {
    type ResponseBody = FetchBuffer;
    const API_KEY: rskafka::protocol::api_key::ApiKey = rskafka::protocol::api_key::ApiKey::Fetch;
    const API_VERSION_RANGE: rskafka::protocol::api_version::ApiVersionRange =
        rskafka::protocol::api_version::ApiVersionRange::new(
            ApiVersion(rskafka::protocol::primitives::Int16(11)),
            ApiVersion(rskafka::protocol::primitives::Int16(11)),
        );
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(rskafka::protocol::primitives::Int16(12));
}

impl rskafka::protocol::messages::WriteVersionedType<Vec<u8>> for FetchRequest<'_> {
    fn write_versioned(
        &self,
        writer: &mut Vec<u8>,
        version: ApiVersion,
    ) -> Result<(), rskafka::protocol::messages::WriteVersionedError> {
        self.encode(writer, version.0.0);
        Ok(())
    }
}
