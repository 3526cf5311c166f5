//! Sends the ranges of a batch again, as parts that are read anew, until each is stored or refused row by row.
//!
//! A part of unknown outcome goes out once more as it was: its token answers the question. What the server refuses for
//! certain is cut until what is refused is one row ([`lot`]). What may be stored and is refused is asked for in the table
//! first. No sockets here; the pipeline reads, sends, asks, and tells the outcomes.
//!
//! A part is a function of its offsets, so its token is too: read again, it is the same insert.

mod lot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::{Batch, Taken};
use crate::clickhouse::inserter::Insert;
use crate::dead_letter::{Letter, Reason};
use crate::kafka::records::reader::Record;
use crate::ledger::{Tallies, add_all};
use crate::offsets::{Ranges, next_after};
use crate::part::{Part, Span};

use lot::{Bad, Cut, Lot, Next, Node, unnamed};

/// What is known of rows before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// They are not stored.
    Sure,
    /// An earlier insert may have stored them with the same token: they go again as they were. Should they be refused, the
    /// table can be asked from then on.
    Maybe(Instant),
    /// Some of them may be stored: the table is asked, from then on.
    Ask(Instant),
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Task {
    /// This is sent.
    Send(Built),
    /// The table is asked how many rows with these ids it holds.
    Ask(Question, Rest),
}

/// A part that was read and is to be sent.
#[derive(Debug)]
pub(super) struct Built {
    /// What to send.
    pub(super) insert: Insert,
    /// What becomes of it when the outcome is known.
    pub(super) rest: Rest,
}

/// What the table is asked for.
#[derive(Debug)]
pub(super) struct Question {
    /// The event_id of each row.
    pub(super) ids: Vec<String>,
}

/// Rows on the wire.
#[derive(Debug)]
pub(super) struct Rest {
    node: Node,
    note: Part,
}

impl Rest {
    /// The part, as it is noted for whoever goes on with it.
    pub(super) fn part(&self) -> &Part {
        &self.note
    }
}

/// What the server said against rows.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// For the dead-letter record.
    pub(super) reason: Reason,
    /// The row of the insert that it names.
    pub(super) named: Option<usize>,
    /// It speaks of a row, so that one row refused with it needs no further proof.
    pub(super) conclusive: bool,
    /// Some of the rows may be stored: the table can be asked from then on. `None` when none is.
    pub(super) ask_at: Option<Instant>,
}

/// The search.
#[derive(Debug)]
pub(super) struct Isolation {
    /// The batch whose ranges these are.
    pub(super) batch: u64,
    /// When it began.
    pub(super) since: Instant,
    /// Offsets of the largest part: so much is read at once.
    size: i64,
    /// Bytes of records that are held.
    budget: usize,
    todo: VecDeque<Piece>,
    reading: Vec<Reading>,
    /// What was read, each done before the next is begun.
    lots: VecDeque<Lot>,
    /// Parts that are stored.
    done: Vec<Part>,
    /// Records that cannot be rows, of parts that are done.
    letters: Vec<Letter>,
    /// Rows that the server refuses.
    isolated: Vec<Letter>,
    /// What became of the records of parts that are done, without the rows in `isolated`.
    tallies: Tallies,
    /// An insert from here may have stored what is in it, at the address that was asked then.
    in_doubt: bool,
    /// Rows refused one by one since the last that was stored.
    in_a_row: u64,
    /// Any row was stored.
    taken: bool,
}

/// A part that is to be read.
#[derive(Debug)]
struct Piece {
    part: Part,
    stand: Stand,
    /// It was sent from here.
    sent: bool,
}

#[derive(Debug)]
struct Reading {
    piece: Piece,
    batch: Batch,
    places: Vec<(i32, i64)>,
    /// `None` once they were too large.
    records: Option<Vec<Letter>>,
    bytes: usize,
}

/// The most parts that are read at once: each has columns of its own.
const READING: usize = 16;
/// How long a row that is refused while nothing else is stored waits for its second try: a fault of the service that no
/// list of codes knows may pass meanwhile.
const LONE: Duration = Duration::from_secs(5);

impl Isolation {
    /// A search in these parts, of each of which is known what its stand says.
    pub(super) fn of(batch: u64, parts: impl IntoIterator<Item = (Part, Stand)>, budget: usize, now: Instant) -> Self {
        let todo: VecDeque<Piece> = parts.into_iter().map(|(part, stand)| Piece { part, stand, sent: false }).collect();
        Self {
            batch,
            since: now,
            size: todo.iter().map(|piece| piece.part.offsets()).max().unwrap_or(0),
            budget,
            todo,
            reading: Vec::new(),
            lots: VecDeque::new(),
            done: Vec::new(),
            letters: Vec::new(),
            isolated: Vec::new(),
            tallies: Tallies::new(),
            in_doubt: false,
            in_a_row: 0,
            taken: false,
        }
    }

    /// A search in a whole batch of this process, which may be stored at the address that was asked.
    pub(super) fn of_own(batch: u64, ranges: &Ranges, stand: Stand, budget: usize, now: Instant) -> Self {
        let in_doubt = stand != Stand::Sure;
        let todo = VecDeque::from([Piece { part: Part::of(ranges), stand, sent: true }]);
        let size = Part::of(ranges).offsets();
        Self { in_doubt, todo, size, ..Self::of(batch, [], budget, now) }
    }

    /// Whether another address must not be asked.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Takes up the next parts to be read, each into a batch that `open` makes. Gives the first offset of each partition
    /// that is to be read.
    pub(super) fn begin_reading(&mut self, open: impl Fn() -> Batch) -> BTreeMap<i32, i64> {
        let mut offsets = 0_i64;
        while let Some(piece) = self.todo.pop_front_if(|piece| {
            offsets = offsets.saturating_add(piece.part.offsets());
            self.reading.is_empty() || (self.reading.len() < READING && offsets <= self.size)
        }) {
            let (places, records) = (Vec::new(), Some(Vec::new()));
            self.reading.push(Reading { piece, batch: open(), places, records, bytes: 0 });
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

    /// Bytes of records held beside them.
    pub(super) fn held(&self) -> usize {
        let reading: usize = self.reading.iter().map(|reading| reading.bytes).sum();
        reading + self.lots.iter().map(Lot::bytes).sum::<usize>()
    }

    /// How many offsets are still to be read; `position` as for [`Isolation::end_reading`].
    pub(super) fn behind(&self, position: impl Fn(i32) -> Option<i64>) -> i64 {
        let left =
            |span: &Span| span.next - position(span.partition).unwrap_or(span.first).clamp(span.first, span.next);
        self.being_read().fold(0, |sum, span| sum.saturating_add(left(span)))
    }

    fn being_read(&self) -> impl Iterator<Item = &Span> {
        self.reading.iter().flat_map(|reading| reading.piece.part.spans())
    }

    /// Takes a record into the parts that it belongs to, and says what became of it; others are passed over.
    pub(super) fn take(&mut self, record: &Record<'_>, now: Instant) -> Option<Taken> {
        let mut last = None;
        let mut room = self.budget.saturating_sub(self.held());
        // More than one when partitions come together whose owners had got to different points of the same batch.
        let of_it = |one: &&mut Reading| one.piece.part.holds(record.partition, record.offset);
        for reading in self.reading.iter_mut().filter(of_it) {
            let taken = reading.batch.take(record, now);
            if let Taken::Row = taken {
                reading.places.push((record.partition, record.offset));
                if let Some(records) = &mut reading.records {
                    let letter = unnamed(record);
                    // One row is held however large it is: it may be the one.
                    if letter.bytes() <= room || records.is_empty() {
                        room = room.saturating_sub(letter.bytes());
                        reading.bytes += letter.bytes();
                        records.push(letter);
                    } else {
                        reading.records = None;
                        reading.bytes = 0;
                    }
                }
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
        for Reading { piece, batch, places, records, .. } in std::mem::take(&mut self.reading) {
            let Piece { part, stand, sent } = piece;
            let ids = batch.event_ids();
            let (insert, letters, tallies) = batch.close_as(&part);
            let bad = Bad { letters, tallies };
            let mut lot = Lot::new(part, stand, insert, places, ids, records, bad);
            if sent {
                lot.was_sent();
            }
            self.lots.push_back(lot);
        }
    }

    /// What is to be done next, if anything can be.
    pub(super) fn next(&mut self, now: Instant, open: impl Fn() -> Batch) -> Option<Task> {
        loop {
            let lot = self.lots.front_mut()?;
            match lot.next(now, self.taken) {
                Next::Send(node) => match lot.build(&node, &open, now) {
                    Some(insert) => {
                        let note = lot.note(&node);
                        return Some(Task::Send(Built { insert, rest: Rest { node, note } }));
                    }
                    None => lot.stored(&node),
                },
                Next::Ask(node) => {
                    let (question, note) = (lot.question(&node), lot.note(&node).asking());
                    return Some(Task::Ask(question, Rest { node, note }));
                }
                Next::Wait(_) => return None,
                Next::Over => self.end_lot(),
            }
        }
    }

    /// Until when nothing is to be done.
    pub(super) fn waits_until(&mut self, now: Instant) -> Option<Instant> {
        let lot = self.lots.front_mut()?;
        match lot.next(now, self.taken) {
            Next::Wait(until) => Some(until),
            Next::Send(node) | Next::Ask(node) => {
                lot.again(node, None);
                None
            }
            Next::Over => None,
        }
    }

    fn end_lot(&mut self) {
        let Some(lot) = self.lots.pop_front() else { return };
        let (parts, mut bad, mut refused) = lot.into_end();
        self.done.extend(parts);
        self.letters.append(&mut bad.letters);
        add_all(&mut self.tallies, &bad.tallies);
        self.isolated.append(&mut refused);
    }

    /// Rows are stored.
    pub(super) fn stored(&mut self, rest: &Rest) {
        self.in_a_row = 0;
        self.taken = true;
        if let Some(lot) = self.lots.front_mut() {
            lot.stored(&rest.node);
        }
    }

    /// Rows are refused; true when it is one row, and for good.
    pub(super) fn refused(&mut self, rest: Rest, refusal: Refusal, now: Instant) -> bool {
        let cut = match self.lots.front_mut() {
            Some(lot) => lot.refused(rest.node, refusal, now),
            None => Cut::default(),
        };
        self.take_cut(cut)
    }

    /// The table has answered; how many of the rows it holds, and whether one row is refused for good.
    pub(super) fn answered(&mut self, rest: Rest, held: &BTreeMap<String, u64>, now: Instant) -> (usize, bool) {
        let (there, cut) = match self.lots.front_mut() {
            Some(lot) => lot.answered(rest.node, held, now),
            None => (0, Cut::default()),
        };
        if there > 0 {
            self.in_a_row = 0;
            self.taken = true;
        }
        (there, self.take_cut(cut))
    }

    /// The table could not be asked. `send`: the rows are sent again as they were, which doubles nothing, as the table may
    /// take them by now.
    pub(super) fn not_answered(&mut self, mut rest: Rest, send: bool) {
        if let Some(lot) = self.lots.front_mut() {
            if send {
                rest.node.send_first();
            }
            lot.again(rest.node, None);
        }
    }

    fn take_cut(&mut self, cut: Cut) -> bool {
        let piece = |part: Part| {
            let stand = if part.asks() { Stand::Ask(self.since) } else { Stand::Sure };
            Piece { part: part.sending(), stand, sent: false }
        };
        let pieces: Vec<Piece> = cut.read.into_iter().map(piece).collect();
        self.todo.extend(pieces);
        self.in_a_row += u64::from(cut.isolated);
        cut.isolated
    }

    /// Rows are to be tried once more as they are. `maybe`: they may be stored, and the table can be asked from then on.
    pub(super) fn again(&mut self, rest: Rest, maybe: Option<Instant>) {
        self.in_doubt |= maybe.is_some();
        if let Some(lot) = self.lots.front_mut() {
            lot.again(rest.node, maybe);
        }
    }

    /// The same, and what was encoded for other columns is read anew.
    pub(super) fn again_anew(&mut self, rest: Rest, maybe: Option<Instant>) {
        let whole = self.lots.front().is_some_and(|lot| lot.is_whole(&rest.node));
        if !whole {
            return self.again(rest, maybe);
        }
        self.in_doubt |= maybe.is_some();
        self.lots.pop_front();
        let stand = match (rest.node.stand(), maybe) {
            (Stand::Sure, Some(at)) => Stand::Maybe(at),
            (stand, _) => stand,
        };
        self.todo.push_back(Piece { part: rest.note.sending(), stand, sent: true });
    }

    /// Too many rows are refused to be poison: what was isolated is tried again, in the end.
    pub(super) fn put_back(&mut self) {
        let mut spans: Vec<Span> = std::mem::take(&mut self.isolated).iter().map(span_of).collect();
        spans.sort_unstable();
        if !spans.is_empty() {
            self.todo.push_back(Piece { part: Part::new(spans), stand: Stand::Sure, sent: false });
        }
        self.lots.iter_mut().for_each(Lot::put_back);
    }

    /// Whether there is nothing left to read or to send.
    pub(super) fn is_over(&mut self) -> bool {
        while self.lots.front().is_some_and(Lot::is_over) {
            self.end_lot();
        }
        self.todo.is_empty() && self.reading.is_empty() && self.lots.is_empty()
    }

    /// Whether the next parts may be taken up.
    pub(super) fn may_read(&self) -> bool {
        self.reading.is_empty() && self.lots.is_empty() && !self.todo.is_empty()
    }

    /// All parts but one that is on the wire: what has to go out again as it is if others go on with these ranges.
    pub(super) fn parts(&self) -> Vec<Part> {
        let noted = |piece: &Piece| match piece.stand {
            Stand::Ask(_) => piece.part.asking(),
            Stand::Sure | Stand::Maybe(_) => piece.part.clone(),
        };
        let read = self.reading.iter().map(|reading| &reading.piece).chain(&self.todo).map(noted);
        let mut parts: Vec<Part> = self.done.iter().cloned().chain(read).collect();
        parts.extend(self.lots.iter().flat_map(Lot::parts));
        parts.extend(self.isolated.iter().map(|letter| Part::new(vec![span_of(letter)])));
        parts
    }

    /// Rows found so far.
    pub(super) fn found(&self) -> usize {
        self.isolated.len() + self.lots.iter().map(Lot::found).sum::<usize>()
    }

    /// Rows refused one by one since the last that was stored.
    pub(super) fn in_a_row(&self) -> u64 {
        self.in_a_row
    }

    /// Whether any row was stored.
    pub(super) fn has_taken(&self) -> bool {
        self.taken
    }

    #[cfg(test)]
    fn places(&self, rest: &Rest) -> Vec<(i32, i64)> {
        self.lots.front().map(|lot| lot.places_of(&rest.node)).unwrap_or_default()
    }

    /// The dead letters of the whole batch, each once, as parts of different owners may overlap; and what became of its
    /// records.
    pub(super) fn into_outcome(mut self) -> (Vec<Letter>, Tallies) {
        for letter in &self.isolated {
            self.tallies.entry(letter.partition).or_default().rejected.add(letter.reason.class, 1);
        }
        self.letters.append(&mut self.isolated);
        let mut seen = BTreeSet::new();
        self.letters.retain(|letter| seen.insert((letter.partition, letter.offset)));
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
