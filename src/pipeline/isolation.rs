//! Finds the rows that the server refuses: the batch's ranges are read again and sent in halves, halves of halves, until
//! what is refused is one row. No sockets here; the pipeline reads, sends and tells the outcomes.
//!
//! A part is a function of its offsets, so its token is too: read again, it is the same insert.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use crate::batch::{Batch, Taken, Why};
use crate::clickhouse::inserter::Insert;
use crate::dead_letter::{Letter, Reason};
use crate::kafka::records::reader::Record;
use crate::offsets::{Range, Ranges, next_after};

/// Runs of offsets that are sent as one insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    partition: i32,
    first: i64,
    next: i64,
}

impl Part {
    fn of(ranges: &Ranges) -> Self {
        let span = |(partition, range): (i32, Range)| Span { partition, first: range.first, next: range.next };
        Self { spans: ranges.iter().map(span).collect() }
    }

    fn offsets(&self) -> i64 {
        self.spans.iter().map(|span| span.next - span.first).sum()
    }

    /// Two halves by offsets; `None` when there is only one.
    fn halves(&self) -> Option<[Self; 2]> {
        let half = self.offsets() / 2;
        if half == 0 {
            return None;
        }
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let mut left = half;
        for span in &self.spans {
            let taken = left.min(span.next - span.first);
            let middle = span.first + taken;
            left -= taken;
            if taken > 0 {
                head.push(Span { next: middle, ..*span });
            }
            if middle < span.next {
                tail.push(Span { first: middle, ..*span });
            }
        }
        Some([Self { spans: head }, Self { spans: tail }])
    }

    fn holds(&self, partition: i32, offset: i64) -> bool {
        self.spans.iter().any(|span| span.partition == partition && (span.first..span.next).contains(&offset))
    }
}

/// A part that was read and is to be sent.
#[derive(Debug)]
pub(super) struct Built {
    /// What to send.
    pub(super) insert: Insert,
    /// What becomes of it when the outcome is known.
    pub(super) rest: Rest,
}

/// A part on the wire.
#[derive(Debug)]
pub(super) struct Rest {
    part: Part,
    letters: Vec<Letter>,
    /// The record of its only row.
    only: Option<Letter>,
}

/// What a refusal led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The part goes on in halves.
    Split,
    /// It was one row: that is the one.
    Isolated,
}

/// The search.
#[derive(Debug)]
pub(super) struct Isolation {
    /// The batch whose ranges these are.
    pub(super) batch: u64,
    todo: VecDeque<Part>,
    reading: Vec<Reading>,
    ready: VecDeque<Built>,
    /// Records that cannot be rows, of parts that are done.
    letters: Vec<Letter>,
    /// Rows that the server refuses, as letters.
    isolated: Vec<Letter>,
    /// Inserts of this round.
    inserts: u32,
}

#[derive(Debug)]
struct Reading {
    part: Part,
    batch: Batch,
    only: Option<Letter>,
}

/// Parts that are read at once: each has columns of its own.
const READING: usize = 16;
/// Inserts before a pause.
const ROUND: u32 = 64;

impl Isolation {
    /// A search in the ranges of a batch that was refused as a whole.
    pub(super) fn new(batch: u64, ranges: &Ranges) -> Self {
        let whole = Part::of(ranges);
        let todo = whole.halves().map_or_else(|| VecDeque::from([whole]), VecDeque::from);
        Self {
            batch,
            todo,
            reading: Vec::new(),
            ready: VecDeque::new(),
            letters: Vec::new(),
            isolated: Vec::new(),
            inserts: 0,
        }
    }

    /// Takes up the next parts to be read, each into a batch that `open` makes. Gives the first offset of each partition
    /// that is to be read.
    pub(super) fn begin_reading(&mut self, open: impl Fn() -> Batch) -> BTreeMap<i32, i64> {
        let count = self.todo.len().min(READING);
        let parts = self.todo.drain(..count);
        self.reading.extend(parts.map(|part| Reading { part, batch: open(), only: None }));
        let mut firsts = BTreeMap::new();
        for span in self.reading.iter().flat_map(|reading| &reading.part.spans) {
            firsts.entry(span.partition).and_modify(|at: &mut i64| *at = (*at).min(span.first)).or_insert(span.first);
        }
        firsts
    }

    /// Whether records are wanted.
    pub(super) fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Whether this is a partition that the parts being read lie in.
    pub(super) fn reads(&self, partition: i32) -> bool {
        self.reading.iter().flat_map(|reading| &reading.part.spans).any(|span| span.partition == partition)
    }

    /// Takes a record into the part that it belongs to; others are passed over.
    pub(super) fn take(&mut self, record: &Record<'_>, now: Instant) {
        let found = self.reading.iter_mut().find(|one| one.part.holds(record.partition, record.offset));
        let Some(reading) = found else { return };
        match reading.batch.take(record, now) {
            Taken::Row if reading.batch.rows() == 1 => reading.only = Some(Letter::of(record, placeholder())),
            Taken::Row => reading.only = None,
            Taken::Tombstone | Taken::Rejected(_) => {}
        }
    }

    /// Ends the reading once all of it was read; `position` tells the next offset that will be read of a partition.
    pub(super) fn end_reading(&mut self, position: impl Fn(i32) -> Option<i64>) {
        let behind = |span: &Span| position(span.partition).is_none_or(|at| at < span.next);
        if self.reading.iter().flat_map(|reading| &reading.part.spans).any(behind) {
            return;
        }
        for Reading { part, mut batch, only } in std::mem::take(&mut self.reading) {
            let closed = batch.close(Why::Isolating);
            match closed.insert {
                Some(insert) => {
                    self.ready.push_back(Built { insert, rest: Rest { part, letters: closed.letters, only } });
                }
                None => self.letters.extend(closed.letters),
            }
        }
    }

    /// The next part to send.
    pub(super) fn next_insert(&mut self) -> Option<Built> {
        let built = self.ready.pop_front()?;
        self.inserts += 1;
        Some(built)
    }

    /// Whether the round is over and a pause is due; then the next round begins.
    pub(super) fn ends_round(&mut self) -> bool {
        let over = self.inserts >= ROUND;
        if over {
            self.inserts = 0;
        }
        over
    }

    /// A part is stored.
    pub(super) fn stored(&mut self, rest: Rest) {
        self.letters.extend(rest.letters);
    }

    /// A part is refused, and nothing of it is stored.
    pub(super) fn refused(&mut self, rest: Rest, reason: Reason) -> Refused {
        if let Some(letter) = rest.only {
            self.letters.extend(rest.letters);
            self.isolated.push(letter.because(reason));
            return Refused::Isolated;
        }
        self.split(rest);
        Refused::Split
    }

    /// A part is to go on in smaller ones.
    pub(super) fn split(&mut self, rest: Rest) {
        match rest.part.halves() {
            Some(halves) => self.todo.extend(halves),
            None => self.todo.push_back(rest.part),
        }
    }

    /// A part is to be tried once more as it is.
    pub(super) fn again(&mut self, rest: Rest) {
        self.todo.push_back(rest.part);
    }

    /// Too many rows are refused to be poison: what was isolated is tried again, in the end.
    pub(super) fn put_back(&mut self) {
        let span = |letter: Letter| Span {
            partition: letter.partition,
            first: letter.offset,
            next: next_after(letter.offset),
        };
        let mut spans: Vec<Span> = std::mem::take(&mut self.isolated).into_iter().map(span).collect();
        spans.sort_unstable_by_key(|span| (span.partition, span.first));
        if !spans.is_empty() {
            self.todo.push_back(Part { spans });
        }
    }

    /// Whether there is nothing left to read or to send.
    pub(super) fn is_over(&self) -> bool {
        self.todo.is_empty() && self.reading.is_empty() && self.ready.is_empty()
    }

    /// Whether the next parts may be taken up.
    pub(super) fn may_read(&self) -> bool {
        self.reading.is_empty() && self.ready.is_empty() && !self.todo.is_empty()
    }

    /// Rows found so far.
    pub(super) fn found(&self) -> usize {
        self.isolated.len()
    }

    /// The dead letters of the whole batch.
    pub(super) fn into_letters(mut self) -> Vec<Letter> {
        self.letters.append(&mut self.isolated);
        self.letters
    }
}

/// Replaced by what the server says, if it refuses the row.
fn placeholder() -> Reason {
    Reason { class: "", column: None, text: String::new(), code: None }
}

#[cfg(test)]
mod tests;
