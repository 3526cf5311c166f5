//! Tells poison from a fault of the table or of the topic: when nearly everything is bad, the events are not.

use std::collections::VecDeque;

use crate::decode::foreign::format_of;
use crate::decode::{Class, Reject};

/// What the events of a streak have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Common {
    /// They fail on this column.
    Column(String),
    /// They are no events of the table, but look like this.
    Format(&'static str),
}

/// Watches what becomes of rows.
#[derive(Debug)]
pub(super) struct Guard {
    /// Off: whatever cannot be a row is put aside, however much.
    on: bool,
    /// What the last events have in common that failed, without a good one between, and how many.
    streak: Option<(Common, u64)>,
    /// An event became a row: the topic has events of this table.
    good: bool,
    /// What the server did with the last rows: runs of refused (true) and stored ones.
    judged: VecDeque<(bool, u64)>,
}

/// Fewer rows prove nothing.
const WINDOW: u64 = 1000;
/// Fewer refusals are poison, however large their share.
const REFUSED: u64 = 100;
/// So many values in a row of one foreign format, with no good one before, are a topic of that format.
const FOREIGN: u64 = 100;
/// So many events in a row that fail on one column, where no other came while they were held back, are a fault of the table.
const ALONE: u64 = 100;

impl Guard {
    /// A guard that has seen nothing.
    pub(super) fn new(on: bool) -> Self {
        Self { on, streak: None, good: false, judged: VecDeque::new() }
    }

    /// An event became a row.
    pub(super) fn read(&mut self) {
        self.streak = None;
        self.good = true;
    }

    /// An event with this value failed.
    pub(super) fn failed(&mut self, reject: &Reject, value: &[u8]) {
        let common = match (&reject.column, reject.class) {
            (Some(column), _) => Some(Common::Column(column.clone())),
            (None, _) if self.good || !self.on => None,
            (None, Class::InvalidUtf8 | Class::InvalidJson | Class::NotAnObject | Class::NoColumn) => {
                Some(Common::Format(format_of(value, reject.class == Class::NoColumn)))
            }
            (None, _) => None,
        };
        match common {
            Some(common) if self.on => self.count(common),
            _ => self.streak = None,
        }
    }

    fn count(&mut self, common: Common) {
        match &mut self.streak {
            Some((last, count)) if *last == common => *count += 1,
            other => *other = Some((common, 1)),
        }
    }

    /// What every one of the last events had in common, when that is proof enough at once.
    pub(super) fn hopeless(&self) -> Option<&Common> {
        let enough = |common: &Common| match common {
            Common::Column(_) => WINDOW,
            Common::Format(_) => FOREIGN,
        };
        self.streak.as_ref().filter(|(common, count)| *count >= enough(common)).map(|(common, _)| common)
    }

    /// The same once the last events, so many of them, have waited for others, and none came.
    pub(super) fn hopeless_alone(&self, events: u64) -> Option<&Common> {
        self.streak.as_ref().filter(|_| events >= ALONE && self.is_undecided(events)).map(|(common, _)| common)
    }

    /// Whether the last events, so many of them, all failed for what may prove to be a common reason.
    pub(super) fn is_undecided(&self, events: u64) -> bool {
        events > 0 && self.streak.as_ref().is_some_and(|(_, count)| *count >= events)
    }

    /// The events of the streak are read once more, and judged anew.
    pub(super) fn again(&mut self) {
        self.streak = None;
    }

    /// Other partitions: nothing of what was seen before counts for them, but that the topic has good events.
    pub(super) fn begin(&mut self) {
        *self = Self { good: self.good, ..Self::new(self.on) };
    }

    /// The server stored rows, or refused them one by one.
    pub(super) fn judged(&mut self, refused: bool, rows: u64) {
        match self.judged.back_mut() {
            Some((last, count)) if *last == refused => *count += rows,
            _ => self.judged.push_back((refused, rows)),
        }
        let mut total: u64 = self.judged.iter().map(|(_, rows)| rows).sum();
        while let Some((_, oldest)) = self.judged.front_mut() {
            let beyond = total - WINDOW.min(total);
            if beyond >= *oldest {
                total -= *oldest;
                self.judged.pop_front();
            } else {
                *oldest -= beyond;
                break;
            }
        }
    }

    /// The server refuses most rows.
    pub(super) fn is_refused_by_the_server(&self) -> bool {
        let total: u64 = self.judged.iter().map(|(_, rows)| rows).sum();
        let refused: u64 = self.judged.iter().filter(|(refused, _)| *refused).map(|(_, rows)| rows).sum();
        self.on && total >= WINDOW && refused >= REFUSED && refused * 2 > total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Common {
        Common::Column(name.to_owned())
    }

    fn fail(guard: &mut Guard, common: Common) {
        let (class, column, value) = match common {
            Common::Column(column) => (Class::InvalidValue, Some(column), ""),
            Common::Format("XML") => (Class::InvalidJson, None, "<a/>"),
            Common::Format(_) => (Class::InvalidJson, None, "1;2;3"),
        };
        guard.failed(&Reject { class, column, reason: String::new() }, value.as_bytes());
    }

    #[test]
    fn one_column_and_nothing_else_for_a_thousand_events() {
        let mut guard = Guard::new(true);
        (0..999).for_each(|_| fail(&mut guard, column("a")));
        assert_eq!(guard.hopeless(), None);
        fail(&mut guard, column("b"));
        assert_eq!(guard.hopeless(), None, "another column");
        (0..999).for_each(|_| fail(&mut guard, column("b")));
        assert_eq!(guard.hopeless(), Some(&column("b")));
        fail(&mut guard, column("b"));
        assert_eq!(guard.hopeless(), Some(&column("b")), "and stays so");
        guard.read();
        assert_eq!(guard.hopeless(), None);
    }

    #[test]
    fn a_hundred_that_come_alone_and_fewer_are_poison() {
        let mut guard = Guard::new(true);
        (0..99).for_each(|_| fail(&mut guard, column("a")));
        assert!(guard.is_undecided(99) && !guard.is_undecided(100));
        assert_eq!(guard.hopeless_alone(99), None);
        fail(&mut guard, column("a"));
        assert_eq!((guard.hopeless_alone(100), guard.hopeless()), (Some(&column("a")), None));
        assert_eq!(guard.hopeless_alone(60), None, "the others came before, and slowly");
        guard.again();
        assert!(!guard.is_undecided(1));
    }

    #[test]
    fn a_hundred_of_one_format_with_no_good_event_before() {
        let mut guard = Guard::new(true);
        (0..99).for_each(|_| fail(&mut guard, Common::Format("XML")));
        fail(&mut guard, Common::Format("CSV"));
        assert_eq!(guard.hopeless(), None);
        (0..100).for_each(|_| fail(&mut guard, Common::Format("XML")));
        assert_eq!(guard.hopeless(), Some(&Common::Format("XML")));
        guard.begin();
        assert_eq!(guard.hopeless(), None);
        guard.read();
        guard.begin();
        (0..2000).for_each(|_| fail(&mut guard, Common::Format("XML")));
        assert_eq!((guard.hopeless(), guard.is_undecided(1)), (None, false), "the topic has good events, too");
    }

    #[test]
    fn off_it_stops_nothing() {
        let mut guard = Guard::new(false);
        (0..2000).for_each(|_| fail(&mut guard, column("a")));
        guard.judged(true, 2000);
        assert_eq!((guard.hopeless(), guard.hopeless_alone(100), guard.is_undecided(1)), (None, None, false));
        assert!(!guard.is_refused_by_the_server());
    }

    #[test]
    fn more_than_half_of_the_last_thousand_rows() {
        let mut guard = Guard::new(true);
        guard.judged(true, 900);
        assert!(!guard.is_refused_by_the_server(), "too few rows");
        guard.judged(false, 1_000_000);
        assert!(!guard.is_refused_by_the_server());
        guard.judged(true, 500);
        assert!(!guard.is_refused_by_the_server(), "half of the last thousand");
        guard.judged(true, 1);
        assert!(guard.is_refused_by_the_server());
        guard.judged(false, 500);
        assert!(!guard.is_refused_by_the_server(), "the oldest refusals fall out: {guard:?}");
    }
}
