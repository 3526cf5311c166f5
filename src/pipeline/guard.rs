//! Tells poison from a fault of the schema or the configuration: when nearly everything is bad, the events are not.

use std::collections::VecDeque;

/// Watches what becomes of rows.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The column that the last events failed on without a good one between, and how many.
    streak: Option<(String, u64)>,
    /// What the server did with the last rows: runs of refused (true) and stored ones.
    judged: VecDeque<(bool, u64)>,
}

/// Fewer rows prove nothing.
const WINDOW: u64 = 1000;
/// Fewer refusals are poison, however large their share.
const REFUSED: u64 = 100;

impl Guard {
    /// An event became a row.
    pub(super) fn read(&mut self) {
        self.streak = None;
    }

    /// An event failed on a column.
    pub(super) fn failed_on(&mut self, column: &str) {
        match &mut self.streak {
            Some((last, count)) if last == column => *count += 1,
            other => *other = Some((column.to_owned(), 1)),
        }
    }

    /// The column that every one of the last events failed on.
    pub(super) fn hopeless_column(&self) -> Option<&str> {
        self.streak.as_ref().filter(|(_, count)| *count >= WINDOW).map(|(column, _)| column.as_str())
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
        total >= WINDOW && refused >= REFUSED && refused * 2 > total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_column_and_nothing_else_for_a_thousand_events() {
        let mut guard = Guard::default();
        (0..999).for_each(|_| guard.failed_on("a"));
        assert_eq!(guard.hopeless_column(), None);
        guard.failed_on("b");
        assert_eq!(guard.hopeless_column(), None, "another column");
        (0..999).for_each(|_| guard.failed_on("b"));
        assert_eq!(guard.hopeless_column(), Some("b"));
        guard.failed_on("b");
        assert_eq!(guard.hopeless_column(), Some("b"), "and stays so");
        guard.read();
        assert_eq!(guard.hopeless_column(), None);
    }

    #[test]
    fn more_than_half_of_the_last_thousand_rows() {
        let mut guard = Guard::default();
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
