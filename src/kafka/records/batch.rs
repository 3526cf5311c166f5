//! One record batch of magic 2: its header, and a walk over its records.
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | base offset i64 | |
//! | 8 | length i32 | of what follows |
//! | 12 | partition leader epoch i32 | |
//! | 16 | magic i8 | 2 |
//! | 17 | CRC-32C u32 | over 21.. |
//! | 21 | attributes i16 | 0–2 codec, 3 log append time, 4 transactional, 5 control |
//! | 23 | last offset delta i32 | |
//! | 27 | base timestamp i64 | |
//! | 35 | max timestamp i64 | |
//! | 43 | producer id i64 | |
//! | 51 | producer epoch i16 | |
//! | 53 | base sequence i32 | |
//! | 57 | record count i32 | |
//! | 61 | records | compressed as a whole |

use std::ops::Range;

use super::RecordsError;
use super::write::Header;
use crate::kafka::protocol::wire::Reader;

/// Bytes before the records.
pub const HEADER_LENGTH: usize = 61;
/// Bytes before what the length field counts.
const LENGTH_END: usize = 12;

/// A batch's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record as it was written; compaction may have removed that record.
    pub base_offset: i64,
    /// The offset of the last record as it was written. The next batch begins behind it.
    pub last_offset: i64,
    /// The epoch of the leader that took it (KIP-320), -1 when unknown. Not covered by the checksum.
    pub leader_epoch: i32,
    /// Codec 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub codec: i16,
    /// Every record's time is `max_timestamp`.
    pub log_append_time: bool,
    /// Part of a transaction.
    pub transactional: bool,
    /// A transaction marker, not data.
    pub control: bool,
    /// Base of the records' timestamps, in ms.
    pub base_timestamp: i64,
    /// The latest timestamp.
    pub max_timestamp: i64,
    /// The producer, -1 without idempotence.
    pub producer_id: i64,
    /// How many records there are.
    pub record_count: i32,
    /// The bytes of the whole batch.
    pub length: usize,
}

/// What stands at the front of a partition's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front {
    /// A whole batch.
    Batch(BatchHeader),
    /// Nothing, or a batch of which the end was cut off: the next fetch brings it.
    Partial,
}

/// Looks at the next batch. Only lengths and the magic are checked here: see [`verify`] for the checksum.
pub fn front(bytes: &[u8]) -> Result<Front, RecordsError> {
    let mut reader = Reader::new(bytes);
    let (Ok(base_offset), Ok(length)) = (reader.i64(), reader.i32()) else { return Ok(Front::Partial) };
    let malformed = |what| RecordsError::Malformed { offset: base_offset, what };
    let length = usize::try_from(length).map_err(|_| malformed("negative length"))?;
    // The magic byte is where it is in all formats; older ones have shorter headers.
    if let Some(&magic) = bytes.get(16) {
        let magic = magic.cast_signed();
        if magic != 2 {
            return Err(RecordsError::Magic { offset: base_offset, magic });
        }
    }
    if length < HEADER_LENGTH - LENGTH_END {
        return Err(malformed("length below that of a header"));
    }
    if bytes.len() - LENGTH_END < length {
        return Ok(Front::Partial);
    }
    let header = header(&mut reader, base_offset, length).map_err(|_| malformed("header cut off"))?;
    if header.last_offset < base_offset {
        return Err(malformed("last offset before the first"));
    }
    if header.record_count < 0 {
        return Err(malformed("negative record count"));
    }
    Ok(Front::Batch(header))
}

/// Checks the CRC-32C of a whole batch.
pub fn verify(batch: &[u8], offset: i64) -> Result<(), RecordsError> {
    let (Some(stated), Some(covered)) = (batch.get(17..21), batch.get(21..)) else {
        return Err(RecordsError::Malformed { offset, what: "header cut off" });
    };
    let expected = u32::from_be_bytes([stated[0], stated[1], stated[2], stated[3]]);
    let actual = crc32c::crc32c(covered);
    if actual == expected { Ok(()) } else { Err(RecordsError::Checksum { offset, expected, actual }) }
}

fn header(
    reader: &mut Reader<'_>,
    base_offset: i64,
    length: usize,
) -> Result<BatchHeader, crate::kafka::protocol::wire::WireError> {
    let leader_epoch = reader.i32()?;
    reader.i8()?; // magic
    reader.u32()?; // CRC
    let attributes = reader.i16()?;
    let last_offset_delta = reader.i32()?;
    let base_timestamp = reader.i64()?;
    let max_timestamp = reader.i64()?;
    let producer_id = reader.i64()?;
    reader.i16()?; // producer epoch
    reader.i32()?; // base sequence
    let record_count = reader.i32()?;
    Ok(BatchHeader {
        base_offset,
        last_offset: base_offset.saturating_add(last_offset_delta.into()),
        leader_epoch,
        codec: attributes & 0b111,
        log_append_time: attributes & 0b1000 != 0,
        transactional: attributes & 0b1_0000 != 0,
        control: attributes & 0b10_0000 != 0,
        base_timestamp,
        max_timestamp,
        producer_id,
        record_count,
        length: LENGTH_END + length,
    })
}

/// A record, as places in the bytes of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpan {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in ms, -1 without one.
    pub timestamp: i64,
    /// Where its key is.
    pub key: Option<Range<usize>>,
    /// Where its value is; `None` is a tombstone.
    pub value: Option<Range<usize>>,
    /// Where its headers are, encoded: a count and that many pairs.
    pub headers: Range<usize>,
}

/// Reads the record that begins at `at` in a batch's (decompressed) records, of which `bytes` is the whole up to their
/// end. The next record begins where its headers end.
pub fn record(bytes: &[u8], at: usize, header: &BatchHeader) -> Result<RecordSpan, RecordsError> {
    let malformed = |what| RecordsError::Malformed { offset: header.base_offset, what };
    let mut walk = Walk { bytes, at };
    let length = walk.length().flatten().ok_or_else(|| malformed("a record's length"))?;
    let end = walk.at.checked_add(length).filter(|end| *end <= bytes.len());
    let end = end.ok_or_else(|| malformed("a record cut off"))?;
    walk.bytes = bytes.get(..end).unwrap_or(bytes);
    walk.at += 1; // attributes: unused
    let timestamp_delta = walk.varint().ok_or_else(|| malformed("a record's timestamp"))?;
    let offset_delta = walk.varint().ok_or_else(|| malformed("a record's offset"))?;
    let key = walk.field().ok_or_else(|| malformed("a record's key"))?;
    let value = walk.field().ok_or_else(|| malformed("a record's value"))?;
    let offset = header.base_offset.saturating_add(offset_delta);
    if offset < header.base_offset || offset > header.last_offset {
        return Err(malformed("a record's offset is outside its batch"));
    }
    let timestamp = if header.log_append_time {
        header.max_timestamp
    } else {
        header.base_timestamp.saturating_add(timestamp_delta)
    };
    Ok(RecordSpan { offset, timestamp, key, value, headers: walk.at..end })
}

/// The headers of a record: keys, and values that may be null, as they stand. `None` when the bytes are no headers.
pub fn headers(bytes: &[u8]) -> Option<Vec<Header<'_>>> {
    let mut walk = Walk { bytes, at: 0 };
    let mut headers = Vec::new();
    // Each turn takes at least two bytes or ends, so the count does not size anything.
    for _ in 0..walk.varint()? {
        let key = walk.field()??;
        let value = walk.field()?;
        headers.push(Header { key: bytes.get(key)?, value: value.and_then(|value| bytes.get(value)) });
    }
    (walk.at == bytes.len()).then_some(headers)
}

/// A walk over zigzag varints and length-prefixed fields.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// Most have one byte or two.
    #[inline(always)]
    fn varint(&mut self) -> Option<i64> {
        let zigzag = |value: u64| (value >> 1).cast_signed() ^ -((value & 1).cast_signed());
        match *self.bytes.get(self.at..)? {
            [low @ ..0x80, ..] => {
                self.at += 1;
                Some(zigzag(u64::from(low)))
            }
            [low, high @ ..0x80, ..] => {
                self.at += 2;
                Some(zigzag(u64::from(low & 0x7F) | u64::from(high) << 7))
            }
            _ => self.long_varint().map(zigzag),
        }
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// `Some(None)` for -1.
    fn length(&mut self) -> Option<Option<usize>> {
        match self.varint()? {
            -1 => Some(None),
            length => usize::try_from(length).ok().map(Some),
        }
    }

    fn field(&mut self) -> Option<Option<Range<usize>>> {
        let Some(length) = self.length()? else { return Some(None) };
        let start = self.at;
        self.at = start.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        Some(Some(start..self.at))
    }
}
