//! One batch: open rows, the ranges of offsets they come from, and when it closes.
//!
//! A batch is a function of its ranges: whatever becomes of its bytes, reading the ranges again gives the same rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cityhash_rs::cityhash_110_128;
use tokio::time::Instant;

use crate::clickhouse::inserter::Insert;
use crate::clickhouse::schema::Schema;
use crate::config::Compression;
use crate::dead_letter::{Letter, Reason};
use crate::decode::{Origin, Place, Reject, Rows};
use crate::kafka::records::reader::Record;
use crate::ledger::Tallies;
use crate::offsets::{Range, Ranges};
use crate::part::Part;

/// Blocks of one insert: what the server needs for them (0.1 s at 27 columns) is not to grow with BATCH_SIZE.
const MAX_BLOCKS: usize = 500;

/// When a batch closes, and how its block is written.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Closes at so many rows.
    pub rows: usize,
    /// Closes at so many bytes in the columns and the rejected records together.
    pub bytes: usize,
    /// Closes so long after its first consumed offset.
    pub age: Duration,
    /// What is in the block's frames.
    pub compression: Compression,
}

/// Why a batch closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// BATCH_SIZE rows, or [`MAX_BLOCKS`] blocks.
    Rows,
    /// The byte bound.
    Bytes,
    /// BATCH_TIMEOUT_MS.
    Age,
    /// A partition goes on elsewhere.
    Moved,
    /// The program stops.
    Stopping,
}

impl Why {
    /// For log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "batch size",
            Self::Bytes => "memory",
            Self::Age => "batch timeout",
            Self::Moved => "a partition's log was cut",
            Self::Stopping => "stopping",
        }
    }
}

/// What became of a record.
#[derive(Debug)]
pub enum Taken {
    /// It is a row.
    Row,
    /// It has no value: nothing to store.
    Tombstone,
    /// It cannot be a row.
    Rejected(Reject),
}

/// A closed batch.
#[derive(Debug)]
pub struct Closed {
    /// What it covers.
    pub ranges: Ranges,
    /// What is to be inserted; `None` when no record of the ranges gave a row.
    pub insert: Option<Insert>,
    /// The records of the ranges that cannot be rows, where they are kept.
    pub letters: Vec<Letter>,
    /// What became of the records.
    pub tallies: Tallies,
    /// Why it closed.
    pub why: Why,
}

/// The open batch.
#[derive(Debug)]
pub struct Batch {
    rows: Rows,
    origin: Origin,
    ranges: Ranges,
    opened_at: Option<Instant>,
    shape: Shape,
    /// Whether rejected records are kept.
    keeps_letters: bool,
    /// Rejected records of this batch are counted only: there are too many bytes of them to wait for a verdict.
    counts_only: bool,
    letters: Vec<Letter>,
    letter_bytes: usize,
    /// The records that are no rows, by partition.
    others: Tallies,
}

impl Batch {
    /// An empty batch for a table and a topic. `keeps_letters`: rejected records are dead letters, else nothing.
    pub fn new(schema: &Arc<Schema>, origin: Origin, shape: Shape, keeps_letters: bool) -> Self {
        Self {
            // Columns grow by half: a batch that is full has that much more room, which the next one needs as well.
            rows: Rows::new(schema, origin.clone())
                .compressed(shape.compression)
                .keeping(shape.bytes.saturating_mul(2))
                .needing_a_column(),
            origin,
            ranges: Ranges::default(),
            opened_at: None,
            shape,
            keeps_letters,
            counts_only: false,
            letters: Vec::new(),
            letter_bytes: 0,
            others: Tallies::new(),
        }
    }

    /// Takes a record. Its offset counts as consumed whatever becomes of it.
    pub fn take(&mut self, record: &Record<'_>, now: Instant) -> Taken {
        self.opened_at.get_or_insert(now);
        self.ranges.record(record.partition, record.offset, record.timestamp);
        let Some(value) = record.value else {
            self.others.entry(record.partition).or_default().tombstones += 1;
            return Taken::Tombstone;
        };
        let place = Place { partition: record.partition, offset: record.offset, timestamp_ms: record.timestamp };
        match self.rows.push(&place, value) {
            Ok(()) => Taken::Row,
            Err(reject) => {
                self.others.entry(record.partition).or_default().rejected.add(reject.class.name(), 1);
                if self.keeps_letters && !self.counts_only {
                    let letter = Letter::of(record, Reason::from(&reject));
                    self.letter_bytes += letter.bytes();
                    self.letters.push(letter);
                }
                Taken::Rejected(reject)
            }
        }
    }

    /// A partition was read from `from` up to `next`, with or without records.
    pub fn passed(&mut self, partition: i32, from: i64, next: i64, now: Instant) {
        self.opened_at.get_or_insert(now);
        self.ranges.passed(partition, from, next);
    }

    /// Why it must close now, if it must.
    pub fn is_due(&self, now: Instant) -> Option<Why> {
        if self.rows.len() >= self.shape.rows || self.rows.blocks() >= MAX_BLOCKS {
            Some(Why::Rows)
        } else if self.bytes() >= self.shape.bytes {
            Some(Why::Bytes)
        } else {
            self.deadline().filter(|deadline| now >= *deadline).map(|_| Why::Age)
        }
    }

    /// When it closes by age.
    pub fn deadline(&self) -> Option<Instant> {
        self.opened_at.map(|at| at + self.shape.age)
    }

    /// When the first offset was consumed into it.
    pub fn opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    /// Records that cannot be rows.
    pub fn rejects(&self) -> u64 {
        self.others.values().map(|tally| tally.rejected.sum()).sum()
    }

    /// Forgets the rejected records and keeps no more of them, until it is forgotten itself.
    pub fn count_only(&mut self) {
        self.counts_only = true;
        self.letters = Vec::new();
        self.letter_bytes = 0;
    }

    /// Whether rejected records are counted only: then it must be read again before it is closed.
    pub fn counts_only(&self) -> bool {
        self.counts_only
    }

    /// Whether nothing was consumed into it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Bytes held: in the columns and in rejected records.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.letter_bytes
    }

    /// Rows held.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The event_id of each row, empty where it has none; nothing where the table has no such column.
    pub fn event_ids(&self) -> Vec<String> {
        self.rows.event_ids()
    }

    /// Closes it: what it held goes out as one block, and it is empty again.
    pub fn close(&mut self, why: Why) -> Closed {
        let ranges = std::mem::take(&mut self.ranges);
        self.opened_at = None;
        let insert = self.encode(ranges.iter());
        let tallies = self.tallies(&ranges);
        self.letter_bytes = 0;
        Closed { ranges, insert, letters: std::mem::take(&mut self.letters), tallies, why }
    }

    /// Closes it as this part, whose runs were read to their ends: the part names the rows, not what was read last. A
    /// whole batch read again has the token that it had.
    pub fn close_as(mut self, part: &Part) -> (Option<Insert>, Vec<Letter>, Tallies) {
        let read = std::mem::take(&mut self.ranges);
        let tallies = self.tallies(&read);
        (self.encode(part.ranges(&read).into_iter()), self.letters, tallies)
    }

    /// What became of the records of these ranges, which are all that was taken. Unknown keys count with the first.
    fn tallies(&mut self, ranges: &Ranges) -> Tallies {
        let mut others = std::mem::take(&mut self.others);
        let mut unknown_keys = self.rows.unknown_keys().take_seen();
        let tally = |(partition, range): (i32, Range)| {
            let mut tally = others.remove(&partition).unwrap_or_default();
            tally.rows = range.records.saturating_sub(tally.records());
            tally.unknown_keys = std::mem::take(&mut unknown_keys);
            (partition, tally)
        };
        ranges.iter().map(tally).collect()
    }

    /// Events taken.
    pub fn events(&self) -> u64 {
        let tombstones: u64 = self.others.values().map(|tally| tally.tombstones).sum();
        self.ranges.iter().map(|(_, range)| range.records).sum::<u64>().saturating_sub(tombstones)
    }

    fn encode(&mut self, ranges: impl Iterator<Item = (i32, Range)>) -> Option<Insert> {
        let block = (!self.rows.is_empty()).then(|| self.rows.encode(SystemTime::now()))?;
        Some(Insert { block, token: token(&self.origin, ranges) })
    }

    /// Forgets what it held; the offsets to read again from.
    pub fn forget(&mut self) -> BTreeMap<i32, i64> {
        self.rows.clear();
        self.letters.clear();
        self.letter_bytes = 0;
        self.others.clear();
        self.counts_only = false;
        self.rows.unknown_keys().take_seen();
        self.opened_at = None;
        std::mem::take(&mut self.ranges).iter().map(|(partition, range)| (partition, range.first)).collect()
    }

    /// Bytes held: of the open columns, and of the records that cannot be rows.
    pub fn held(&self) -> (usize, usize) {
        (self.rows.bytes(), self.letter_bytes)
    }

    /// Names of unknown keys that were not told of yet.
    pub fn new_unknown_keys(&mut self) -> Vec<String> {
        self.rows.unknown_keys().take_new()
    }
}

/// The deduplication token: 128 bits over where the rows come from and how they are bounded, in hex.
///
/// The cluster id and the timestamps are in it because two sites may have the same topic name, and a topic may be created
/// anew: the same offsets would then name other rows, and the server would drop them and say 200. The schema is not: the
/// same rows keep their token when the table changes.
fn token(origin: &Origin, ranges: impl Iterator<Item = (i32, Range)>) -> String {
    let mut text = String::new();
    for part in [&origin.cluster_id, &origin.topic] {
        put(&mut text, format_args!("{}:{part};", part.len()));
    }
    for (partition, range) in ranges {
        let (first, next) = (range.first, range.next);
        put(&mut text, format_args!("{partition}:{first}-{next}@{}-{};", range.first_timestamp, range.last_timestamp));
    }
    format!("{:032x}", cityhash_110_128(text.as_bytes()))
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if text.write_fmt(arguments).is_err() {
        text.push('!');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(cluster: &str, topic: &str) -> Origin {
        Origin { cluster_id: cluster.into(), topic: topic.into() }
    }

    fn ranges(partition: i32, offsets: std::ops::Range<i64>, timestamp: i64) -> Ranges {
        let mut ranges = Ranges::default();
        for offset in offsets {
            ranges.record(partition, offset, timestamp);
        }
        ranges
    }

    #[test]
    fn the_token_names_the_rows_and_nothing_else() {
        let base = token(&origin("c", "t"), ranges(0, 0..10, 5).iter());
        assert_eq!(base, token(&origin("c", "t"), ranges(0, 0..10, 5).iter()));
        assert_eq!(base.len(), 32);
        for other in [
            token(&origin("d", "t"), ranges(0, 0..10, 5).iter()),
            token(&origin("c", "u"), ranges(0, 0..10, 5).iter()),
            token(&origin("c;1:t", ""), ranges(0, 0..10, 5).iter()),
            token(&origin("c", "t"), ranges(1, 0..10, 5).iter()),
            token(&origin("c", "t"), ranges(0, 1..10, 5).iter()),
            token(&origin("c", "t"), ranges(0, 0..11, 5).iter()),
            token(&origin("c", "t"), ranges(0, 0..10, 6).iter()),
        ] {
            assert_ne!(base, other);
        }
    }
}
