//! Parts: runs of offsets that are sent as one insert, and so have one token.
//!
//! A part that may be stored is noted beside the committed offsets of its partitions ([`to_text`], [`parse`]), so that
//! whoever owns one of them next sends exactly this part again: its token is a function of its runs, and the server
//! drops what it has. [`plan`] says what a new owner does with the notes that it finds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::offsets::{Range, Ranges};

/// Runs of offsets that are sent as one insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    spans: Vec<Span>,
    /// Rows of it may be stored under tokens that nobody knows any more: the table is asked for them before anything of it
    /// is sent.
    asks: bool,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub first: i64,
    /// The offset behind the last one: the same as `first` when the run is empty.
    pub next: i64,
}

impl Span {
    fn is_empty(self) -> bool {
        self.first >= self.next
    }
}

impl Part {
    /// These runs.
    pub fn new(spans: Vec<Span>) -> Self {
        Self { spans, asks: false }
    }

    /// A whole batch.
    pub fn of(ranges: &Ranges) -> Self {
        let span = |(partition, range): (i32, Range)| Span { partition, first: range.first, next: range.next };
        Self::new(ranges.iter().map(span).collect())
    }

    /// The same, of which the table is asked first.
    #[must_use]
    pub fn asking(&self) -> Self {
        Self { spans: self.spans.clone(), asks: true }
    }

    /// The same, which is sent as it is.
    #[must_use]
    pub fn sending(&self) -> Self {
        Self { spans: self.spans.clone(), asks: false }
    }

    /// Whether the table is to be asked which rows of it are there.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// Its runs.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How many offsets it covers.
    pub fn offsets(&self) -> i64 {
        self.spans.iter().fold(0, |sum, span| sum.saturating_add(span.next - span.first))
    }

    /// Two halves by offsets; `None` when there is only one.
    pub fn halves(&self) -> Option<[Self; 2]> {
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
        Some([Self::new(head), Self::new(tail)])
    }

    /// Whether this place lies in it.
    pub fn holds(&self, partition: i32, offset: i64) -> bool {
        self.spans.iter().any(|span| span.partition == partition && (span.first..span.next).contains(&offset))
    }

    /// Its runs as ranges, with the timestamps of what was read of each partition.
    pub fn ranges(&self, read: &Ranges) -> Vec<(i32, Range)> {
        let range = |span: &Span| {
            let read = read.iter().find(|(partition, _)| *partition == span.partition);
            let (first_timestamp, last_timestamp) =
                read.map_or((-1, -1), |(_, range)| (range.first_timestamp, range.last_timestamp));
            (span.partition, Range { first: span.first, next: span.next, first_timestamp, last_timestamp, records: 0 })
        };
        self.spans.iter().map(range).collect()
    }

    /// Whether it still lies before a partition that is committed up to `committed`. One that the offset has entered or
    /// passed was cut otherwise since, or is settled.
    pub fn is_open_at(&self, partition: i32, committed: i64) -> bool {
        let mut spans = self.spans.iter().filter(|span| span.partition == partition && !span.is_empty()).peekable();
        spans.peek().is_some() && spans.all(|span| committed <= span.first)
    }
}

/// Parts as text, like `0:5k+8c,1:0+a/?3:1+2`: parts between slashes, a question mark before one that the table is asked
/// for; of each run partition, first offset and length, in base 36.
pub fn to_text(parts: &[Part]) -> String {
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            text.push('/');
        }
        if part.asks {
            text.push('?');
        }
        for (at, span) in part.spans.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            // Writing to a String cannot fail, and none of these numbers is negative.
            let length = Base36(span.next - span.first);
            if write!(text, "{}:{}+{length}", Base36(span.partition.into()), Base36(span.first)).is_err() {
                text.push('!');
            }
        }
    }
    text
}

/// Reads parts back; `None` for what [`to_text`] does not write.
pub fn parse(text: &str) -> Option<Vec<Part>> {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
        i64::from_str_radix(text, 36).ok().filter(|_| plain)
    };
    let span = |text: &str| {
        let (partition, run) = text.split_once(':')?;
        let (first, length) = run.split_once('+')?;
        let (first, length) = (number(first)?, number(length)?);
        Some(Span { partition: i32::try_from(number(partition)?).ok()?, first, next: first.checked_add(length)? })
    };
    let part = |text: &str| {
        let (asks, text) = text.strip_prefix('?').map_or((false, text), |rest| (true, rest));
        Some(Part { spans: text.split(',').map(span).collect::<Option<_>>()?, asks })
    };
    text.split('/').map(part).collect()
}

struct Base36(i64);

impl std::fmt::Display for Base36 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut left = self.0.unsigned_abs();
        // An i64 has 13 digits at most.
        let mut text = [b'0'; 13];
        let mut at = text.len();
        while at == text.len() || left > 0 {
            at -= 1;
            if let (Some(place), Some(digit)) = (text.get_mut(at), DIGITS.get((left % 36) as usize)) {
                *place = *digit;
            }
            left /= 36;
        }
        f.write_str(std::str::from_utf8(text.get(at..).unwrap_or(&[])).unwrap_or("!"))
    }
}

/// What the group knows of one partition of an assignment.
#[derive(Debug, Clone, Copy)]
pub struct Noted<'a> {
    /// The partition.
    pub partition: i32,
    /// Its committed offset.
    pub committed: i64,
    /// The parts noted beside it.
    pub parts: &'a [Part],
}

/// What a new owner does before it reads on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is to be sent again, each part as one insert. Parts may have runs of partitions that are not the owner's.
    pub parts: Vec<Part>,
    /// Of each partition of the owner that the parts lie in: the committed offset, and where reading goes on once all
    /// of them are stored.
    pub own: BTreeMap<i32, (i64, i64)>,
}

/// Makes the plan for the partitions of an assignment; `None` when no part is open.
pub fn plan(noted: &[Noted<'_>]) -> Option<Plan> {
    let mut parts: Vec<Part> = Vec::new();
    for Noted { partition, committed, parts: of_it } in noted {
        for part in of_it.iter().filter(|part| part.is_open_at(*partition, *committed)) {
            // Each partition of a part carries the whole of it.
            if !parts.contains(part) {
                parts.push(part.clone());
            }
        }
    }
    // Where the table is asked for some, tokens tell nothing of what overlaps them: rows may be stored with either.
    if parts.iter().any(Part::asks) {
        parts.iter_mut().for_each(|part| part.asks = true);
    }
    let mut own = BTreeMap::new();
    let mut gaps = Vec::new();
    for Noted { partition, committed, .. } in noted {
        let all = parts.iter().flat_map(|part| &part.spans).filter(|span| span.partition == *partition);
        let mut spans: Vec<Span> = all.copied().collect();
        spans.sort_unstable();
        let mut at = *committed;
        for span in spans {
            if span.first > at {
                // Nothing is passed over, whatever the notes say.
                gaps.push(Span { partition: *partition, first: at, next: span.first });
            }
            at = at.max(span.next);
        }
        if at > *committed {
            own.insert(*partition, (*committed, at));
        }
    }
    if !gaps.is_empty() {
        parts.push(Part::new(gaps));
    }
    (!parts.is_empty()).then_some(Plan { parts, own })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(spans: &[(i32, i64, i64)]) -> Part {
        Part::new(
            spans
                .iter()
                .map(|(partition, first, next)| Span { partition: *partition, first: *first, next: *next })
                .collect(),
        )
    }

    #[test]
    fn texts_come_back_and_others_do_not() {
        let parts = [part(&[(0, 200, 500), (11, 0, 0)]), part(&[(35, i64::MAX - 1, i64::MAX)])];
        assert_eq!(to_text(&parts), "0:5k+8c,b:0+0/z:1y2p0ij32e8e6+1");
        assert_eq!(parse(&to_text(&parts)).as_deref(), Some(parts.as_slice()));
        for foreign in ["", "0", "0:1", "0:1+", ":1+1", "0:1+1,", "0:1+1/", "0:-1+1", "0:+1+1", "A:1+1", "zzzzzzzz:1+1"]
        {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
        assert_eq!(parse("0:1y2p0ij32e8e7+1"), None, "its end is no offset");
    }

    #[test]
    fn a_batch_of_250_partitions_fits_into_a_note() {
        let spans = (0..250).map(|partition| (partition, 2_000_000_000, 2_000_000_040)).collect::<Vec<_>>();
        let text = to_text(&[part(&spans)]);
        assert!(text.len() < 3_500, "{}", text.len());
    }

    #[test]
    fn a_part_is_open_until_an_offset_enters_it() {
        let one = part(&[(0, 10, 20), (1, 5, 5)]);
        for (partition, committed, open) in
            [(0, 0, true), (0, 10, true), (0, 11, false), (0, 20, false), (1, 0, false), (1, 5, false), (2, 0, false)]
        {
            assert_eq!(one.is_open_at(partition, committed), open, "{partition} {committed}");
        }
    }

    #[test]
    fn the_table_of_plans() {
        let (a, b) = (part(&[(0, 10, 20), (1, 5, 9)]), part(&[(0, 20, 30), (2, 0, 4)]));
        let both = [a.clone(), b.clone()];
        let at = |partition, committed, parts| Noted { partition, committed, parts };
        let own = |own: &[(i32, i64, i64)]| own.iter().map(|(index, from, to)| (*index, (*from, *to))).collect();
        assert_eq!(plan(&[at(0, 10, &[]), at(1, 5, &[])]), None, "no notes");
        assert_eq!(plan(&[at(0, 30, &both), at(1, 9, &both)]), None, "all is settled");
        assert_eq!(plan(&[at(0, 15, &both[..1])]), None, "cut otherwise since");
        let whole = Plan { parts: both.to_vec(), own: own(&[(0, 10, 30), (1, 5, 9)]) };
        assert_eq!(plan(&[at(0, 10, &both), at(1, 5, &both)]), Some(whole), "once each");
        // Another owner was faster with one of the partitions, or it went to somebody who knows no notes.
        let late = Plan { parts: vec![a.clone()], own: own(&[(0, 10, 20)]) };
        assert_eq!(plan(&[at(0, 10, &both[..1]), at(1, 9, &[])]), Some(late));
        let only = Plan { parts: vec![a.clone()], own: own(&[(1, 5, 9)]) };
        assert_eq!(plan(&[at(1, 5, &both[..1]), at(3, 7, &[])]), Some(only), "with runs of partitions of others");
        let gap = part(&[(0, 7, 10)]);
        let early = Plan { parts: vec![a.clone(), gap], own: own(&[(0, 7, 20)]) };
        assert_eq!(plan(&[at(0, 7, &both[..1])]), Some(early), "what lies before is not passed over");
    }

    #[test]
    fn halves_are_whole() {
        let ends = [(0, 10, 110), (1, 1000, 1150)];
        let [head, tail] = part(&ends).halves().unwrap();
        assert_eq!((head.offsets(), tail.offsets()), (125, 125));
        assert_eq!(head.spans.len(), 2);
        assert_eq!(part(&[(0, 5, 6)]).halves(), None);
        for (partition, first, next) in ends {
            for offset in first..next {
                assert!(head.holds(partition, offset) ^ tail.holds(partition, offset));
            }
        }
    }

    proptest! {
        #[test]
        fn any_part_comes_back(spans in prop::collection::vec((0..i32::MAX, 0..i64::MAX / 2, 0..i64::MAX / 2), 1..20)) {
            let spans = spans.into_iter().map(|(partition, first, length)| Span { partition, first, next: first + length });
            let sent = Part::new(spans.collect());
            let parts = vec![sent.asking(), sent];
            prop_assert_eq!(parse(&to_text(&parts)), Some(parts));
        }

        #[test]
        fn any_text_is_taken_or_not(text in ".{0,60}") {
            if let Some(parts) = parse(&text) {
                prop_assert_eq!(parse(&to_text(&parts)), Some(parts));
            }
        }
    }
}
