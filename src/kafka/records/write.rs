//! Writes record batches, format v2 ([KIP-98]), as a producer sends them: uncompressed or as one LZ4 frame.
//!
//! ```text
//! base_offset i64 @0 | batch_length i32 @8 (bytes after it) | partition_leader_epoch i32 @12 | magic i8 @16 (2)
//! crc u32 @17 (CRC-32C of all bytes from 21) | attributes i16 @21 (bits 0-2: codec) | last_offset_delta i32 @23
//! base_timestamp i64 @27 | max_timestamp i64 @35 | producer_id i64 @43 | producer_epoch i16 @51
//! base_sequence i32 @53 | record_count i32 @57 | records @61 (compressed as a whole, the header never)
//! record: length varint | attributes i8 | timestamp_delta varint | offset_delta varint | key | value
//!         | header_count varint | headers [key, value]     key, value: length varint (-1: null), bytes
//! ```
//!
//! [KIP-98]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use thiserror::Error;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// One LZ4 frame of independent 64 KiB blocks, as librdkafka writes it.
    Lz4,
}

/// One header of a record. Keys need not be unique, nor UTF-8; a null value differs from an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name.
    pub key: &'a [u8],
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// One record to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [Header<'a>],
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The batch would become longer than its 32-bit length field allows. The batch is unchanged.
    #[error("a record of {record} bytes does not fit into a batch that holds {held} bytes already")]
    Full {
        /// Bytes of the record's key, value and headers.
        record: usize,
        /// Bytes of the records in the batch, uncompressed.
        held: usize,
    },
}

/// Collects records and turns them into one batch. Its buffers are reused from batch to batch.
pub struct BatchWriter {
    codec: Codec,
    records: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    table: Option<CompressTable>,
}

impl std::fmt::Debug for BatchWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchWriter")
            .field("codec", &self.codec)
            .field("count", &self.count)
            .field("bytes", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl BatchWriter {
    /// An empty writer.
    pub fn new(codec: Codec) -> Self {
        let table = match codec {
            Codec::None => None,
            // Blocks are 64 KiB, one byte too long for the small table.
            Codec::Lz4 => Some(CompressTable::large()),
        };
        Self { codec, records: Vec::new(), count: 0, base_timestamp: 0, max_timestamp: 0, table }
    }

    /// Adds a record behind the others.
    ///
    /// # Errors
    /// [`WriteError::Full`] when the batch would pass the format's limit of 2 GiB; brokers refuse batches far below it
    /// (`max.message.bytes`, 1 MiB by default), so watch [`BatchWriter::bytes`].
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<(), WriteError> {
        let payload = payload_bytes(record);
        let headers_overhead = record.headers.len().saturating_mul(2 * MAX_VARINT);
        let worst = payload.saturating_add(headers_overhead).saturating_add(RECORD_OVERHEAD);
        if worst > MAX_RECORDS.saturating_sub(self.records.len()) {
            return Err(WriteError::Full { record: payload, held: self.records.len() });
        }
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let length = 1
            + varint_len(timestamp_delta)
            + varint_len(i64::from(self.count))
            + nullable_len(record.key)
            + nullable_len(record.value)
            + varint_len(record.headers.len() as i64)
            + record.headers.iter().map(|h| nullable_len(Some(h.key)) + nullable_len(h.value)).sum::<usize>();
        let out = &mut self.records;
        put_varint(out, length as i64);
        out.push(0);
        put_varint(out, timestamp_delta);
        put_varint(out, i64::from(self.count));
        put_nullable(out, record.key);
        put_nullable(out, record.value);
        put_varint(out, record.headers.len() as i64);
        for header in record.headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
        self.count += 1;
        Ok(())
    }

    /// Records in the open batch.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the open batch has no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the open batch's records before compression.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }

    /// The finished batch, ready for a Produce request; the writer is then empty again. Without records there is no
    /// batch, hence no bytes: brokers refuse an empty one.
    pub fn finish(&mut self) -> Vec<u8> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + self.records.len());
        out.extend_from_slice(&0_i64.to_be_bytes());
        out.extend_from_slice(&0_i32.to_be_bytes());
        out.extend_from_slice(&NO_LEADER_EPOCH.to_be_bytes());
        out.push(MAGIC);
        out.extend_from_slice(&0_u32.to_be_bytes());
        let codec_bits = match self.codec {
            Codec::None => 0_i16,
            Codec::Lz4 => 3,
        };
        out.extend_from_slice(&codec_bits.to_be_bytes());
        out.extend_from_slice(&(self.count - 1).to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&NO_PRODUCER_ID.to_be_bytes());
        out.extend_from_slice(&NO_PRODUCER_EPOCH.to_be_bytes());
        out.extend_from_slice(&NO_SEQUENCE.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        match &mut self.table {
            None => out.extend_from_slice(&self.records),
            Some(table) => put_lz4_frame(&mut out, &self.records, table),
        }
        let length = (out.len() - AFTER_LENGTH) as i32;
        out[8..AFTER_LENGTH].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&out[AFTER_CRC..]);
        out[17..AFTER_CRC].copy_from_slice(&crc.to_be_bytes());
        self.records.clear();
        self.count = 0;
        out
    }
}

/// Appends `content` as an LZ4 frame: independent blocks of at most 64 KiB, no content size, no content checksum.
/// A block that would grow is stored as it is.
fn put_lz4_frame(out: &mut Vec<u8>, content: &[u8], table: &mut CompressTable) {
    out.extend_from_slice(&LZ4_FRAME_HEADER);
    for block in content.chunks(LZ4_BLOCK_BYTES) {
        let size_at = out.len();
        let data_at = size_at + 4;
        out.resize(data_at + get_maximum_output_size(block.len()), 0);
        match compress_into_with_table(block, &mut out[data_at..], table) {
            Ok(written) if written < block.len() => {
                out[size_at..data_at].copy_from_slice(&(written as u32).to_le_bytes());
                out.truncate(data_at + written);
            }
            // An error would mean that the output is too small, which its size excludes: storing is right as well.
            Ok(_) | Err(_) => {
                out[size_at..data_at].copy_from_slice(&(block.len() as u32 | LZ4_STORED).to_le_bytes());
                out.truncate(data_at);
                out.extend_from_slice(block);
            }
        }
    }
    out.extend_from_slice(&LZ4_END_MARK);
}

fn payload_bytes(record: &NewRecord<'_>) -> usize {
    let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    record
        .headers
        .iter()
        .map(|header| header.key.len().saturating_add(of(header.value)))
        .fold(of(record.key).saturating_add(of(record.value)), usize::saturating_add)
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(bytes.len() as i64) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// Zigzag, then seven bits a byte, low ones first. The same bytes for a value as 32-bit and as 64-bit integer.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const HEADER_BYTES: usize = 61;
const AFTER_LENGTH: usize = 12;
const AFTER_CRC: usize = 21;
const MAGIC: u8 = 2;
const NO_LEADER_EPOCH: i32 = -1;
const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;
const NO_SEQUENCE: i32 = -1;
const MAX_VARINT: usize = 10;
/// Length, attributes, two deltas, the lengths of key and value, the header count: all at their longest.
const RECORD_OVERHEAD: usize = 1 + 6 * MAX_VARINT;
/// Leaves room for the batch header and for the sizes of stored LZ4 blocks below the 31 bits of `batch_length`.
const MAX_RECORDS: usize = i32::MAX as usize - (1 << 20);
/// Magic number, FLG 0x60 (version 1, independent blocks), BD 0x40 (64 KiB), and the second byte of
/// xxh32(FLG, BD): constant because the two are ([frame format]).
///
/// [frame format]: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md
const LZ4_FRAME_HEADER: [u8; 7] = [0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82];
const LZ4_END_MARK: [u8; 4] = [0; 4];
const LZ4_BLOCK_BYTES: usize = 64 * 1024;
const LZ4_STORED: u32 = 1 << 31;

#[cfg(test)]
mod tests;
