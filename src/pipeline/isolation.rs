//! Sends the ranges of a batch again, as parts that are read anew, until each is stored.
//!
//! A batch of unknown outcome goes out once more as it was: its token answers the question. What the server refuses for
//! certain goes on in halves, and halves of halves, until what is refused is one row. No sockets here; the pipeline
//! reads, sends and tells the outcomes.
//!
//! A part is a function of its offsets, so its token is too: read again, it is the same insert.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use crate::batch::{Batch, Taken};
use crate::clickhouse::inserter::Insert;
use crate::dead_letter::{Letter, Reason};
use crate::kafka::records::reader::Record;
use crate::ledger::{Tallies, add_all};
use crate::offsets::{Ranges, next_after};
use crate::part::{Part, Span};

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
    /// What becomes of its records once it is stored.
    tallies: Tallies,
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

impl Rest {
    /// The part.
    pub(super) fn part(&self) -> &Part {
        &self.part
    }
}

/// The search.
#[derive(Debug)]
pub(super) struct Isolation {
    /// The batch whose ranges these are.
    pub(super) batch: u64,
    /// Offsets of the largest part: so much is read at once.
    size: i64,
    todo: VecDeque<Part>,
    reading: Vec<Reading>,
    ready: VecDeque<Built>,
    /// Parts that are stored.
    done: Vec<Part>,
    /// Records that cannot be rows, of parts that are done.
    letters: Vec<Letter>,
    /// Rows that the server refuses, as letters.
    isolated: Vec<Letter>,
    /// What became of the records of parts that are done, without the rows in `isolated`.
    tallies: Tallies,
    /// Inserts of this round.
    inserts: u32,
    /// An insert from here may have stored what is in it, at the address that was asked then.
    in_doubt: bool,
}

#[derive(Debug)]
struct Reading {
    part: Part,
    batch: Batch,
    only: Option<Letter>,
}

/// The most parts that are read at once: each has columns of its own.
const READING: usize = 16;
/// Inserts before a pause.
const ROUND: u32 = 64;

impl Isolation {
    /// A search in the ranges of a batch that was refused as a whole.
    pub(super) fn halves_of(batch: u64, ranges: &Ranges) -> Self {
        let whole = Part::of(ranges);
        Self::of(batch, whole.halves().map_or_else(|| vec![whole], Vec::from))
    }

    /// Parts that may be stored already: each goes out once more as it is.
    pub(super) fn of(batch: u64, parts: Vec<Part>) -> Self {
        let whole = parts.iter().map(Part::offsets).max().unwrap_or(0);
        Self {
            batch,
            size: whole,
            todo: parts.into(),
            reading: Vec::new(),
            ready: VecDeque::new(),
            done: Vec::new(),
            letters: Vec::new(),
            isolated: Vec::new(),
            tallies: Tallies::new(),
            inserts: 0,
            in_doubt: false,
        }
    }

    /// A batch that may be stored: it goes out once more as it is, to the same address.
    pub(super) fn of_own(batch: u64, ranges: &Ranges) -> Self {
        Self { in_doubt: true, ..Self::of(batch, vec![Part::of(ranges)]) }
    }

    /// Whether another address must not be asked.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Takes up the next parts to be read, each into a batch that `open` makes. Gives the first offset of each partition
    /// that is to be read.
    pub(super) fn begin_reading(&mut self, open: impl Fn() -> Batch) -> BTreeMap<i32, i64> {
        let mut offsets = 0_i64;
        while let Some(part) = self.todo.pop_front_if(|part| {
            offsets = offsets.saturating_add(part.offsets());
            self.reading.is_empty() || (self.reading.len() < READING && offsets <= self.size)
        }) {
            self.reading.push(Reading { part, batch: open(), only: None });
        }
        let mut firsts = BTreeMap::new();
        for span in self.being_read() {
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
        self.being_read().any(|span| span.partition == partition)
    }

    /// Bytes of the parts being read.
    pub(super) fn bytes(&self) -> usize {
        self.reading.iter().map(|reading| reading.batch.bytes()).sum()
    }

    /// How many offsets are still to be read; `position` as for [`Isolation::end_reading`].
    pub(super) fn behind(&self, position: impl Fn(i32) -> Option<i64>) -> i64 {
        let left =
            |span: &Span| span.next - position(span.partition).unwrap_or(span.first).clamp(span.first, span.next);
        self.being_read().fold(0, |sum, span| sum.saturating_add(left(span)))
    }

    fn being_read(&self) -> impl Iterator<Item = &Span> {
        self.reading.iter().flat_map(|reading| reading.part.spans())
    }

    /// Takes a record into the parts that it belongs to, and says what became of it; others are passed over.
    pub(super) fn take(&mut self, record: &Record<'_>, now: Instant) -> Option<Taken> {
        let mut last = None;
        // More than one when partitions come together whose owners had got to different points of the same batch.
        for reading in self.reading.iter_mut().filter(|one| one.part.holds(record.partition, record.offset)) {
            let taken = reading.batch.take(record, now);
            match &taken {
                Taken::Row if reading.batch.rows() == 1 => reading.only = Some(Letter::of(record, placeholder())),
                Taken::Row => reading.only = None,
                Taken::Tombstone | Taken::Rejected(_) => {}
            }
            last = Some(taken);
        }
        last
    }

    /// Ends the reading once all of it was read; `position` tells the next offset that will be read of a partition.
    pub(super) fn end_reading(&mut self, position: impl Fn(i32) -> Option<i64>) {
        let behind = |span: &Span| position(span.partition).is_none_or(|at| at < span.next);
        if self.being_read().any(behind) {
            return;
        }
        for Reading { part, batch, only } in std::mem::take(&mut self.reading) {
            let (insert, letters, tallies) = batch.close_as(&part);
            match insert {
                Some(insert) => self.ready.push_back(Built { insert, rest: Rest { part, letters, tallies, only } }),
                None => {
                    self.letters.extend(letters);
                    add_all(&mut self.tallies, &tallies);
                    self.done.push(part);
                }
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
        add_all(&mut self.tallies, &rest.tallies);
        self.done.push(rest.part);
    }

    /// A part is refused, and nothing of it is stored.
    pub(super) fn refused(&mut self, rest: Rest, reason: Reason) -> Refused {
        if let Some(letter) = rest.only {
            self.letters.extend(rest.letters);
            add_all(&mut self.tallies, &rest.tallies);
            if let Some(tally) = self.tallies.get_mut(&letter.partition) {
                tally.rows = tally.rows.saturating_sub(1);
            }
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

    /// A part is to be tried once more as it is; it may be stored.
    pub(super) fn again(&mut self, rest: Rest, may_be_stored: bool) {
        self.in_doubt |= may_be_stored;
        self.todo.push_back(rest.part);
    }

    /// Too many rows are refused to be poison: what was isolated is tried again, in the end.
    pub(super) fn put_back(&mut self) {
        let mut spans: Vec<Span> = std::mem::take(&mut self.isolated).iter().map(span_of).collect();
        spans.sort_unstable();
        if !spans.is_empty() {
            self.todo.push_back(Part::new(spans));
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

    /// All parts but one that is on the wire: what has to go out again as it is if others go on with these ranges.
    pub(super) fn parts(&self) -> Vec<Part> {
        let read =
            self.reading.iter().map(|reading| &reading.part).chain(self.ready.iter().map(|built| &built.rest.part));
        let mut parts: Vec<Part> = self.done.iter().chain(read).chain(&self.todo).cloned().collect();
        parts.extend(self.isolated.iter().map(|letter| Part::new(vec![span_of(letter)])));
        parts
    }

    /// Rows found so far.
    pub(super) fn found(&self) -> usize {
        self.isolated.len()
    }

    /// The dead letters of the whole batch, and what became of its records.
    pub(super) fn into_outcome(mut self) -> (Vec<Letter>, Tallies) {
        for letter in &self.isolated {
            self.tallies.entry(letter.partition).or_default().rejected.add(letter.reason.class, 1);
        }
        self.letters.append(&mut self.isolated);
        (self.letters, self.tallies)
    }
}

fn span_of(letter: &Letter) -> Span {
    Span { partition: letter.partition, first: letter.offset, next: next_after(letter.offset) }
}

/// Replaced by what the server says, if it refuses the row.
fn placeholder() -> Reason {
    Reason { class: "", column: None, text: String::new(), code: None }
}

#[cfg(test)]
mod hands_tests;
#[cfg(test)]
mod tests;
