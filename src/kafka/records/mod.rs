//! Record batches: reading them without copying what need not be copied, and refusing what cannot be read.
//!
//! Source: <https://kafka.apache.org/documentation/#recordbatch> (magic 2, KIP-98).

pub mod batch;
pub mod compression;
pub mod reader;
pub mod transactions;
pub mod write;

use thiserror::Error;

/// Why a record batch cannot be read. Nothing is skipped: the partition waits at the batch's first offset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordsError {
    /// The checksum does not fit the bytes.
    #[error("the record batch at offset {offset} is corrupt: CRC32C {actual:#010x} instead of {expected:#010x}")]
    Checksum {
        /// The batch's base offset.
        offset: i64,
        /// What the batch says.
        expected: u32,
        /// What its bytes give.
        actual: u32,
    },
    /// Magic 0 or 1, or one from the future.
    #[error(
        "the record batch at offset {offset} has message format v{magic}; only v2 (Kafka 0.11 and newer) can be read: \
         rewrite the topic with a current producer"
    )]
    Magic {
        /// The base offset.
        offset: i64,
        /// The magic byte.
        magic: i8,
    },
    /// A codec that is not built in.
    #[error("the record batch at offset {offset} is compressed with {codec}, which cannot be read")]
    Codec {
        /// The base offset.
        offset: i64,
        /// Its name or number.
        codec: String,
    },
    /// Compressed bytes that do not decompress.
    #[error("the {codec} data of the record batch at offset {offset} cannot be decompressed: {cause}")]
    Decompress {
        /// The base offset.
        offset: i64,
        /// The codec's name.
        codec: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// Larger than memory allows.
    #[error(
        "the record batch at offset {offset} needs more than {limit} bytes; raise MEMORY_BUDGET_BYTES (a batch may take \
         half of it)"
    )]
    TooLarge {
        /// The base offset.
        offset: i64,
        /// What it may take.
        limit: usize,
    },
    /// Lengths that contradict each other.
    #[error("the record batch at offset {offset} is malformed: {what}")]
    Malformed {
        /// The base offset, or the position if that is unknown.
        offset: i64,
        /// What is wrong.
        what: &'static str,
    },
}

impl RecordsError {
    /// Whether the same bytes fetched once more may be right: they may have been damaged on the way.
    pub fn may_be_transit_damage(&self) -> bool {
        matches!(self, Self::Checksum { .. } | Self::Malformed { .. } | Self::Decompress { .. })
    }
}
