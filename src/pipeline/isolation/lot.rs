//! The rows of one part that was read, and which of them the server takes: held in memory, sent as one insert, and after a
//! refusal without the row that the server names, or in halves, until what is refused is one row.
//!
//! Only what certainly is not stored is cut. What may be stored is sent again as it was, or the table is asked first.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{LONE, Question, Refusal, Stand, placeholder, span_of};
use crate::batch::{Batch, Taken};
use crate::clickhouse::inserter::Insert;
use crate::dead_letter::{Letter, Reason};
use crate::ledger::Tallies;
use crate::offsets::next_after;
use crate::part::{Part, Span, to_text};

/// Rows that are sent as one insert.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Indexes of the lot's rows.
    rows: Vec<usize>,
    stand: Stand,
    /// They were sent with this token from here.
    sent: bool,
    /// Why they were refused, while the table is asked.
    refusal: Option<Refusal>,
    /// At least one of them is refused: known without sending them.
    bad: bool,
    /// The other half is the next on the stack; together they were refused.
    pair: bool,
    /// The server has named this row.
    named: bool,
    /// Rows that the server named and that were refused alone, since the last cut into halves.
    hits: u32,
    /// One row, refused before with this code while nothing spoke for the table.
    verifies: Option<Option<u32>>,
}

impl Node {
    fn of(rows: Vec<usize>) -> Self {
        Self {
            rows,
            stand: Stand::Sure,
            sent: false,
            refusal: None,
            bad: false,
            pair: false,
            named: false,
            hits: 0,
            verifies: None,
        }
    }

    pub(super) fn stand(&self) -> Stand {
        self.stand
    }

    /// The table cannot be asked: rows that were sent with this token go again as they were. Those that were not may be
    /// stored with others.
    pub(super) fn send_first(&mut self) {
        if let (Stand::Ask(at), true) = (self.stand, self.sent) {
            self.stand = Stand::Maybe(at);
            self.refusal = None;
        }
    }
}

/// A row that was refused alone, and may have been so because nothing is taken at the time.
#[derive(Debug)]
struct Suspect {
    row: usize,
    reason: Reason,
    since: Instant,
}

/// The rows of one part.
#[derive(Debug)]
pub(super) struct Lot {
    part: Part,
    /// All rows as one insert, until they are cut.
    whole: Option<Insert>,
    /// Partition and offset of each row.
    places: Vec<(i32, i64)>,
    /// Each row's number among those of its partition.
    ranks: Vec<usize>,
    /// The event_id of each row; empty where the table has none.
    ids: Vec<String>,
    /// The rows' records; `None` when they are too large to be held.
    records: Option<Vec<Letter>>,
    bad: Bad,
    stack: Vec<Node>,
    stored: Vec<Part>,
    suspects: Vec<Suspect>,
    refused: Vec<Letter>,
    /// Some rows of it were taken: the table takes rows.
    taken: bool,
    /// The server has named a row that it takes.
    misnamed: bool,
    /// The table is asked for some of the rows: what is stored can no longer be told by tokens.
    asked: bool,
    /// Its halves are read again, as its records are too large to be held.
    read_again: bool,
}

/// What else was read with the rows.
#[derive(Debug, Default)]
pub(super) struct Bad {
    /// Records that cannot be rows.
    pub(super) letters: Vec<Letter>,
    /// What becomes of all records once the rows are stored.
    pub(super) tallies: Tallies,
}

impl Bad {
    /// A record that was a row is none for the columns that the table has now.
    fn is_no_row(&mut self, record: &Letter, reason: Reason) {
        let same = |letter: &Letter| (letter.partition, letter.offset) == (record.partition, record.offset);
        if !self.letters.iter().any(same) {
            let tally = self.tallies.entry(record.partition).or_default();
            tally.rows = tally.rows.saturating_sub(1);
            tally.rejected.add(reason.class, 1);
            self.letters.push(record.clone().because(reason));
        }
    }

    /// These rows are not stored here.
    fn without(&mut self, partitions: impl Iterator<Item = i32>) {
        for partition in partitions {
            let tally = self.tallies.entry(partition).or_default();
            tally.rows = tally.rows.saturating_sub(1);
        }
    }
}

/// What a lot does next.
#[derive(Debug)]
pub(super) enum Next {
    /// These rows are sent.
    Send(Node),
    /// The table is asked for these rows.
    Ask(Node),
    /// Nothing before this moment.
    Wait(Instant),
    /// It is done with.
    Over,
}

/// What becomes of a refusal.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// These parts are to be read again: the records are not held.
    pub(super) read: Vec<Part>,
    /// One row is refused for good.
    pub(super) isolated: bool,
}

/// Refused rows found by their names before the rest is cut into halves: where there are many, smaller inserts cost less.
const HITS: u32 = 4;
/// Rows that are not worth that.
const SMALL: usize = 100;
/// Bytes of notes for the pieces of one lot; longer ones are noted as one part to be asked for.
const NOTES: usize = 1024;

impl Lot {
    /// A part that was read. `records` are those of its rows, in the order of the rows.
    pub(super) fn new(
        part: Part,
        stand: Stand,
        whole: Option<Insert>,
        places: Vec<(i32, i64)>,
        ids: Vec<String>,
        records: Option<Vec<Letter>>,
        bad: Bad,
    ) -> Self {
        let mut count: BTreeMap<i32, usize> = BTreeMap::new();
        let rank = |(partition, _): &(i32, i64)| {
            let next = count.entry(*partition).or_default();
            *next += 1;
            *next
        };
        let ranks = places.iter().map(rank).collect();
        let mut stack = Vec::new();
        if whole.is_some() {
            stack.push(Node { stand, ..Node::of((0..places.len()).collect()) });
        }
        Self {
            part: part.sending(),
            whole,
            places,
            ranks,
            ids,
            records,
            bad,
            stack,
            stored: Vec::new(),
            suspects: Vec::new(),
            refused: Vec::new(),
            taken: false,
            misnamed: false,
            asked: matches!(stand, Stand::Ask(_)),
            read_again: false,
        }
    }

    /// All its rows were sent from here before, with the token of the whole.
    pub(super) fn was_sent(&mut self) {
        self.stack.iter_mut().for_each(|node| node.sent = true);
    }

    /// `taken`: the table has taken rows of other lots of this search.
    pub(super) fn next(&mut self, now: Instant, taken: bool) -> Next {
        if self.stack.is_empty() && !self.suspects.is_empty() {
            let since = self.suspects.iter().map(|suspect| suspect.since).max().unwrap_or(now);
            if !taken && !self.taken && now < since + LONE {
                return Next::Wait(since + LONE);
            }
            for Suspect { row, reason, .. } in self.suspects.drain(..) {
                self.stack.push(Node { verifies: Some(reason.code), ..Node::of(vec![row]) });
            }
        }
        loop {
            let Some(node) = self.stack.pop() else { return Next::Over };
            match node.stand {
                Stand::Ask(at) if now < at => {
                    self.stack.push(node);
                    return Next::Wait(at);
                }
                Stand::Ask(_) => return Next::Ask(node),
                Stand::Sure if node.bad && node.rows.len() > 1 && self.records.is_some() => self.halve(&node),
                Stand::Sure | Stand::Maybe(_) => return Next::Send(node),
            }
        }
    }

    /// The insert of a node; `None` when none of its records is a row any more.
    pub(super) fn build(&mut self, node: &Node, open: impl Fn() -> Batch, now: Instant) -> Option<Insert> {
        if node.rows.len() == self.places.len() {
            return self.whole.clone();
        }
        let mut batch = open();
        for record in self.records.iter().flat_map(|records| node.rows.iter().filter_map(|row| records.get(*row))) {
            if let Taken::Rejected(reject) = batch.take(&record.record(), now) {
                self.bad.is_no_row(record, Reason::from(&reject));
            }
        }
        // What else the batch knows is known already.
        batch.close_as(&self.part_of(node)).0
    }

    /// What the table is asked for.
    pub(super) fn question(&self, node: &Node) -> Question {
        Question { ids: node.rows.iter().map(|row| self.ids.get(*row).cloned().unwrap_or_default()).collect() }
    }

    /// What is noted of a node that is on the wire.
    pub(super) fn note(&self, node: &Node) -> Part {
        if self.asked { self.part.asking() } else { self.part_of(node) }
    }

    /// The runs of a node's rows. A run ends at a row that is not of the node, so that no two nodes have the same runs.
    fn part_of(&self, node: &Node) -> Part {
        if node.rows.len() == self.places.len() {
            return self.part.clone();
        }
        let mut runs: BTreeMap<i32, Vec<(usize, Span)>> = BTreeMap::new();
        for row in &node.rows {
            let (Some((partition, offset)), Some(rank)) = (self.places.get(*row), self.ranks.get(*row)) else {
                continue;
            };
            let of_it = runs.entry(*partition).or_default();
            let next = next_after(*offset);
            match of_it.last_mut() {
                Some((last, span)) if *last + 1 == *rank => (*last, span.next) = (*rank, next),
                _ => of_it.push((*rank, Span { partition: *partition, first: *offset, next })),
            }
        }
        Part::new(runs.into_values().flatten().map(|(_, span)| span).collect())
    }

    /// A node is stored, or has nothing to be stored.
    pub(super) fn stored(&mut self, node: &Node) {
        self.taken = true;
        self.misnamed |= node.named;
        if node.pair
            && let Some(other) = self.stack.last_mut()
        {
            other.bad = true;
        }
        self.stored.push(self.part_of(node));
    }

    /// A node is to be sent once more as it is.
    pub(super) fn again(&mut self, mut node: Node, maybe: Option<Instant>) {
        if let (Stand::Sure | Stand::Maybe(_), Some(at)) = (node.stand, maybe) {
            node.stand = Stand::Maybe(at);
        }
        self.stack.push(node);
    }

    /// A node is refused.
    pub(super) fn refused(&mut self, mut node: Node, refusal: Refusal, now: Instant) -> Cut {
        let earlier = match node.stand {
            Stand::Sure => None,
            Stand::Maybe(at) | Stand::Ask(at) => Some(at),
        };
        if let Some(at) = earlier.max(refusal.ask_at) {
            node.stand = Stand::Ask(at);
            node.refusal = Some(refusal);
            node.sent = true;
            // Others who know of the part may cut it in another way: from now on only the table tells what is stored.
            self.asked = true;
            self.stack.push(node);
            return Cut::default();
        }
        self.cut(node, refusal, now)
    }

    /// The table has answered how many rows with each id it holds; how many of the node's rows that are.
    pub(super) fn answered(&mut self, node: Node, held: &BTreeMap<String, u64>, now: Instant) -> (usize, Cut) {
        let mut held: BTreeMap<&str, u64> = held.iter().map(|(id, count)| (id.as_str(), *count)).collect();
        let is_there = |row: &usize| {
            let left = self.ids.get(*row).and_then(|id| held.get_mut(id.as_str()));
            left.is_some_and(|left| {
                let any = *left > 0;
                *left = left.saturating_sub(1);
                any
            })
        };
        let (there, missing): (Vec<usize>, Vec<usize>) = node.rows.iter().copied().partition(is_there);
        if !there.is_empty() {
            self.taken = true;
            self.stored.push(self.part_of(&Node::of(there.clone())));
        }
        if missing.is_empty() {
            return (there.len(), Cut::default());
        }
        let sent = node.sent && there.is_empty();
        let mut left = Node { stand: Stand::Sure, rows: missing, pair: false, sent, ..node };
        let cut = match left.refusal.take() {
            Some(refusal) if there.is_empty() => self.cut(left, refusal, now),
            // What was refused may be a row that is there, if the table has changed since. So the others are tried.
            _ if self.records.is_some() || there.is_empty() => {
                self.stack.push(Node { bad: false, ..left });
                Cut::default()
            }
            _ => {
                let rows: Vec<(i32, i64)> = left.rows.iter().filter_map(|row| self.places.get(*row).copied()).collect();
                self.bad.without(rows.iter().map(|(partition, _)| *partition));
                // Row by row, so that nothing between them is read and counted twice.
                let mut spans: Vec<Span> = rows
                    .into_iter()
                    .map(|(partition, first)| Span { partition, first, next: next_after(first) })
                    .collect();
                spans.sort_unstable();
                Cut { read: vec![Part::new(spans).asking()], isolated: false }
            }
        };
        (there.len(), cut)
    }

    fn cut(&mut self, node: Node, refusal: Refusal, now: Instant) -> Cut {
        if let [row] = *node.rows {
            let sure = refusal.conclusive || node.verifies.is_some_and(|code| code == refusal.reason.code);
            if !sure {
                self.suspects.push(Suspect { row, reason: refusal.reason, since: now });
            } else if let Some(record) = self.records.as_ref().and_then(|records| records.get(row)) {
                self.refused.push(record.clone().because(refusal.reason));
            }
            return Cut { isolated: sure, read: Vec::new() };
        }
        if self.records.is_none() {
            // What cannot be rows is read again with them.
            self.bad = Bad::default();
            self.read_again = true;
            let part = self.part_of(&node);
            let halves = part.halves().map_or_else(|| vec![part], Vec::from);
            let noted = |half: Part| if self.asked { half.asking() } else { half };
            return Cut { read: halves.into_iter().map(noted).collect(), isolated: false };
        }
        let named = refusal.named.filter(|at| !self.misnamed && *at < node.rows.len());
        match named {
            Some(at) => {
                let mut rest = node;
                let row = rest.rows.remove(at);
                rest.hits += 1;
                rest.pair = false;
                if rest.hits >= HITS && rest.rows.len() >= SMALL {
                    self.halve(&rest);
                    if let Some(first) = self.stack.last_mut() {
                        // The row that is known to be bad is in neither.
                        first.pair = false;
                    }
                } else {
                    self.stack.push(rest);
                }
                self.stack.push(Node { named: true, ..Node::of(vec![row]) });
            }
            None => self.halve(&node),
        }
        Cut::default()
    }

    fn halve(&mut self, node: &Node) {
        let (first, second) = node.rows.split_at(node.rows.len() / 2);
        self.stack.push(Node::of(second.to_vec()));
        self.stack.push(Node { pair: true, ..Node::of(first.to_vec()) });
    }

    /// Everything that was refused is tried once more, in the end.
    pub(super) fn put_back(&mut self) {
        let refused: Vec<(i32, i64)> = self.refused.drain(..).map(|letter| (letter.partition, letter.offset)).collect();
        let mut rows: Vec<usize> = self.suspects.drain(..).map(|suspect| suspect.row).collect();
        rows.extend((0..self.places.len()).filter(|row| self.places.get(*row).is_some_and(|at| refused.contains(at))));
        rows.sort_unstable();
        if !rows.is_empty() {
            self.stack.insert(0, Node::of(rows));
        }
    }

    #[cfg(test)]
    pub(super) fn places_of(&self, node: &Node) -> Vec<(i32, i64)> {
        node.rows.iter().map(|row| self.places[*row]).collect()
    }

    /// The parts that have to be sent again if others go on with these rows; that on the wire is not among them.
    pub(super) fn parts(&self) -> Vec<Part> {
        if self.asked {
            return vec![self.part.asking()];
        }
        let mut parts = self.stored.clone();
        parts.extend(self.stack.iter().map(|node| self.part_of(node)));
        let suspects = self.suspects.iter().filter_map(|suspect| self.places.get(suspect.row));
        parts.extend(suspects.map(|(partition, offset)| {
            Part::new(vec![Span { partition: *partition, first: *offset, next: next_after(*offset) }])
        }));
        parts.extend(self.refused.iter().map(|letter| Part::new(vec![span_of(letter)])));
        if to_text(&parts).len() > NOTES && !self.ids.is_empty() { vec![self.part.asking()] } else { parts }
    }

    /// Whether nothing is left to be sent or asked for.
    pub(super) fn is_over(&self) -> bool {
        self.stack.is_empty() && self.suspects.is_empty()
    }

    /// Rows refused so far.
    pub(super) fn found(&self) -> usize {
        self.refused.len()
    }

    /// Bytes of the records held.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().flatten().map(Letter::bytes).sum()
    }

    /// The whole part is to be read anew, as the table has other columns: true when it was not cut yet.
    pub(super) fn is_whole(&self, node: &Node) -> bool {
        node.rows.len() == self.places.len()
    }

    /// Its parts; what else was read, without the refused rows; and those.
    pub(super) fn into_end(mut self) -> (Vec<Part>, Bad, Vec<Letter>) {
        let parts = self.parts();
        let parts = if parts.is_empty() && !self.read_again { vec![self.part] } else { parts };
        self.bad.without(self.refused.iter().map(|letter| letter.partition));
        (parts, self.bad, self.refused)
    }
}

/// Replaced by what the server says, if it refuses the row.
pub(super) fn unnamed(record: &crate::kafka::records::reader::Record<'_>) -> Letter {
    Letter::of(record, placeholder())
}
