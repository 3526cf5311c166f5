//! Produce (key 0), v3 to v7, whose record batches are bytes as they stand.
//!
//! rskafka's own request takes records as values, of which it cannot write null header values or header keys that are
//! not UTF-8. The layout ([protocol guide]) is the same in all these versions: transactional_id nullable string, acks
//! i16, timeout_ms i32, topics [name string, partitions [index i32, records bytes]].
//!
//! [protocol guide]: https://kafka.apache.org/protocol.html#The_Messages_Produce

use std::io::Write;

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::messages::{ProduceResponse, RequestBody, WriteVersionedError, WriteVersionedType};
use rskafka::protocol::primitives::{Int16, Int32, NullableString, String_};
use rskafka::protocol::traits::{WriteError, WriteType};

/// One topic's record batches, at most one a partition.
#[derive(Debug, Clone)]
pub struct RawProduceRequest {
    /// -1: answered when all in-sync replicas have it.
    pub acks: i16,
    /// How long the broker waits for them, in milliseconds.
    pub timeout_ms: i32,
    /// The topic.
    pub topic: String,
    /// Partition index and one finished record batch.
    pub batches: Vec<(i32, Vec<u8>)>,
}

impl<W: Write> WriteVersionedType<W> for RawProduceRequest {
    fn write_versioned(&self, writer: &mut W, _version: ApiVersion) -> Result<(), WriteVersionedError> {
        NullableString(None).write(writer)?;
        Int16(self.acks).write(writer)?;
        Int32(self.timeout_ms).write(writer)?;
        write_length(writer, 1)?;
        String_(self.topic.clone()).write(writer)?;
        write_length(writer, self.batches.len())?;
        for (partition, batch) in &self.batches {
            Int32(*partition).write(writer)?;
            write_length(writer, batch.len())?;
            writer.write_all(batch).map_err(WriteError::from)?;
        }
        Ok(())
    }
}

impl RequestBody for RawProduceRequest {
    type ResponseBody = ProduceResponse;
    const API_KEY: ApiKey = ApiKey::Produce;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(3)), ApiVersion(Int16(7)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(9));
}

fn write_length<W: Write>(writer: &mut W, length: usize) -> Result<(), WriteError> {
    Int32(i32::try_from(length).map_err(WriteError::from)?).write(writer)
}
