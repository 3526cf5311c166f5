//! Walks over the records of one fetch answer, partition by partition and batch by batch, without copying values.

use super::RecordsError;
use super::batch::{self, BatchHeader, Front, HEADER_LENGTH, RecordSpan};
use super::compression::Decompressor;
use super::transactions::{AbortedFilter, is_abort_marker};
use crate::kafka::protocol::fetch::FetchedPartition;
use crate::offsets::next_after;

/// The partitions of one answer that brought records, and the buffer they lie in.
#[derive(Debug)]
pub struct Answer {
    /// The answer's bytes.
    pub bytes: Vec<u8>,
    /// Its partitions, and the offset that each was asked from.
    pub sections: Vec<Section>,
}

/// One partition of an answer.
#[derive(Debug)]
pub struct Section {
    /// The offset it was asked from: records before it are not wanted, as a batch always comes whole.
    pub fetch_offset: i64,
    /// What came.
    pub fetched: FetchedPartition,
}

/// What the walk comes upon.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record.
    Record(Record<'a>),
    /// A batch was passed to its end, whether it held records or not: the partition goes on at `next`.
    Passed {
        /// The partition.
        partition: i32,
        /// Where the walk stood before: nothing was handed out from there on.
        from: i64,
        /// Its next offset to read.
        next: i64,
    },
}

/// A record, borrowed from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in ms, -1 without one.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, encoded: a count and that many pairs.
    pub headers: &'a [u8],
}

/// The walk.
#[derive(Debug)]
pub struct AnswerReader {
    answer: Answer,
    /// Holds the decompressed records of the open batch; it goes from answer to answer.
    decompressor: Decompressor,
    limit: usize,
    section: usize,
    /// Where in the section's bytes the next batch begins.
    at: usize,
    filter: Option<AbortedFilter>,
    open: Option<OpenBatch>,
    /// The next offset to hand out, once something of the section was.
    position: Option<i64>,
    found: Option<Found>,
}

/// A batch whose records are being handed out.
#[derive(Debug)]
struct OpenBatch {
    header: BatchHeader,
    /// In the decompressor (true) or in the answer.
    decompressed: bool,
    /// Where the next record begins, in either.
    at: usize,
    end: usize,
    left: i32,
}

/// Where the walk stands.
#[derive(Debug)]
enum Found {
    Record { partition: i32, span: RecordSpan, decompressed: bool },
    Passed { partition: i32, from: i64, next: i64 },
}

impl AnswerReader {
    /// A walk from the beginning. A batch may decompress to `limit` bytes.
    pub fn new(answer: Answer, decompressor: Decompressor, limit: usize) -> Self {
        Self { answer, decompressor, limit, section: 0, at: 0, filter: None, open: None, position: None, found: None }
    }

    /// Gives the decompressor back for the next answer, and the buffer of this one.
    pub fn into_parts(self) -> (Decompressor, Vec<u8>) {
        (self.decompressor, self.answer.bytes)
    }

    /// Bytes held by the answer and by the decompressor.
    pub fn held(&self) -> (usize, usize) {
        (self.answer.bytes.capacity(), self.decompressor.held())
    }

    /// The partition that the walk is in.
    pub fn section(&self) -> Option<&Section> {
        self.answer.sections.get(self.section)
    }

    /// Leaves out the rest of the partition that the walk is in.
    pub fn skip_section(&mut self) {
        self.section += 1;
        self.at = 0;
        self.open = None;
        self.filter = None;
        self.position = None;
        self.found = None;
    }

    /// What the last successful [`AnswerReader::advance`] came upon.
    pub fn item(&self) -> Option<Item<'_>> {
        Some(match self.found.as_ref()? {
            Found::Passed { partition, from, next } => Item::Passed { partition: *partition, from: *from, next: *next },
            Found::Record { partition, span, decompressed } => {
                let source = self.source(*decompressed);
                let slice = |range: &std::ops::Range<usize>| source.get(range.clone()).unwrap_or(&[]);
                Item::Record(Record {
                    partition: *partition,
                    offset: span.offset,
                    timestamp: span.timestamp,
                    key: span.key.as_ref().map(slice),
                    value: span.value.as_ref().map(slice),
                    headers: slice(&span.headers),
                })
            }
        })
    }

    /// The partition of what [`AnswerReader::item`] gives, and the next offset to read behind it.
    pub fn place(&self) -> Option<(i32, i64)> {
        Some(match self.found.as_ref()? {
            Found::Passed { partition, next, .. } => (*partition, *next),
            Found::Record { partition, span, .. } => (*partition, next_after(span.offset)),
        })
    }

    /// Goes on to the next item; false at the end of the answer. After an error the rest of the partition must be
    /// skipped.
    pub fn advance(&mut self) -> Result<bool, RecordsError> {
        self.found = None;
        while let Some(section) = self.answer.sections.get(self.section) {
            let partition = section.fetched.partition;
            let fetch_offset = section.fetch_offset;
            let Some(open) = &self.open else {
                if !self.open_next()? {
                    self.skip_section();
                }
                continue;
            };
            if open.left == 0 {
                if open.at != open.end {
                    // More records than the batch says: they would be skipped.
                    let what = "bytes behind its last record";
                    return Err(RecordsError::Malformed { offset: open.header.base_offset, what });
                }
                let next = next_after(open.header.last_offset);
                self.open = None;
                // A batch that lies wholly before what was asked for passes nothing.
                if next > fetch_offset {
                    let from = self.position.replace(next).unwrap_or(fetch_offset);
                    self.found = Some(Found::Passed { partition, from, next });
                    return Ok(true);
                }
                continue;
            }
            let bytes = self.source(open.decompressed).get(..open.end).unwrap_or(&[]);
            let span = batch::record(bytes, open.at, &open.header)?;
            let decompressed = open.decompressed;
            if let Some(open) = &mut self.open {
                open.at = span.headers.end;
                open.left -= 1;
            }
            // A batch always comes whole: its first records may lie before what was asked for.
            if span.offset >= fetch_offset {
                self.position = Some(next_after(span.offset));
                self.found = Some(Found::Record { partition, span, decompressed });
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn source(&self, decompressed: bool) -> &[u8] {
        if decompressed { self.decompressor.bytes() } else { &self.answer.bytes }
    }

    /// Opens the next batch of the section; false at its end.
    fn open_next(&mut self) -> Result<bool, RecordsError> {
        let Some(section) = self.answer.sections.get(self.section) else { return Ok(false) };
        let records = section.fetched.records.clone();
        let bytes = self.answer.bytes.get(..records.end).unwrap_or(&[]);
        let start = records.start + self.at;
        let rest = bytes.get(start..).unwrap_or(&[]);
        let header = match batch::front(rest)? {
            Front::Batch(header) => header,
            Front::Partial => return Ok(false),
        };
        let end = start + header.length;
        batch::verify(rest.get(..header.length).unwrap_or(&[]), header.base_offset)?;
        let filter = self.filter.get_or_insert_with(|| AbortedFilter::new(&section.fetched.aborted));
        let aborted = filter.drops(&header);
        let body = start + HEADER_LENGTH;
        if header.control && header.record_count > 0 {
            let marker = batch::record(bytes.get(..end).unwrap_or(&[]), body, &header)?;
            if is_abort_marker(marker.key.and_then(|key| bytes.get(key))) {
                filter.aborted(header.producer_id);
            }
        }
        let skipped = header.control || aborted || header.last_offset < section.fetch_offset;
        let left = if skipped { 0 } else { header.record_count };
        let decompressed = header.codec != 0 && left > 0;
        let (record_at, record_end) = if decompressed {
            let compressed = bytes.get(body..end).unwrap_or(&[]);
            self.decompressor.decompress(&header, compressed, self.limit)?;
            (0, self.decompressor.bytes().len())
        } else {
            (if left > 0 { body } else { end }, end)
        };
        self.at += header.length;
        self.open = Some(OpenBatch { header, decompressed, at: record_at, end: record_end, left });
        Ok(true)
    }
}

/// The offset behind the last whole batch of a section, or `None` when there is none or its bytes are no batches: then
/// the walk will say so. `each` sees the batches on the way.
pub fn end_of(bytes: &[u8], mut each: impl FnMut(&BatchHeader)) -> Option<i64> {
    let mut rest = bytes;
    let mut end = None;
    while let Ok(Front::Batch(header)) = batch::front(rest) {
        end = Some(next_after(header.last_offset));
        each(&header);
        rest = rest.get(header.length..).unwrap_or(&[]);
    }
    end
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
