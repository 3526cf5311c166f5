//! Offsets: what a batch covers, and how far a partition may be committed.
//!
//! A committed offset is the next one to read. The step from "the last one read" to "the next one to read" is made in
//! [`next_after`] and nowhere else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ledger::{Tallies, Tally};

/// The next offset to read once this one was read.
pub fn next_after(offset: i64) -> i64 {
    offset.saturating_add(1)
}

/// What a batch covers of each partition. A batch is a function of its ranges: read again, they give the same rows.
#[derive(Debug, Clone, Default)]
pub struct Ranges {
    /// By partition.
    partitions: Vec<(i32, Range)>,
    /// Where the last record's partition is: the next one is mostly of the same.
    recent: usize,
}

/// A run of offsets of one partition, of which some may hold no record (compaction, transaction markers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first offset.
    pub first: i64,
    /// The next offset to read behind it.
    pub next: i64,
    /// The timestamp of the first record in ms, -1 without a record.
    pub first_timestamp: i64,
    /// The timestamp of the last record.
    pub last_timestamp: i64,
    /// How many records were read.
    pub records: u64,
}

impl Ranges {
    /// A record was read.
    pub fn record(&mut self, partition: i32, offset: i64, timestamp: i64) {
        let next = next_after(offset);
        let new = Range { first: offset, next, first_timestamp: timestamp, last_timestamp: timestamp, records: 0 };
        let Some(range) = self.range(partition, new) else { return };
        range.next = next;
        range.records += 1;
        range.last_timestamp = timestamp;
        if range.first_timestamp == -1 {
            range.first_timestamp = timestamp;
        }
    }

    /// The partition was read up to `next`, with or without records; `from` is where it stood before.
    pub fn passed(&mut self, partition: i32, from: i64, next: i64) {
        let new = Range { first: from, next, first_timestamp: -1, last_timestamp: -1, records: 0 };
        if let Some(range) = self.range(partition, new) {
            range.next = range.next.max(next);
        }
    }

    /// The range of a partition, `new` if it had none.
    fn range(&mut self, partition: i32, new: Range) -> Option<&mut Range> {
        entry(&mut self.partitions, &mut self.recent, partition, new)
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The partitions and their ranges, by index.
    pub fn iter(&self) -> impl Iterator<Item = (i32, Range)> + '_ {
        self.partitions.iter().copied()
    }
}

/// What a partition has in a list by index, `new` if it had nothing. `recent` is where the last one was: the next one is
/// mostly the same, and that of every record.
#[inline]
fn entry<'e, V>(entries: &'e mut Vec<(i32, V)>, recent: &mut usize, partition: i32, new: V) -> Option<&'e mut V> {
    if entries.get(*recent).is_none_or(|(index, _)| *index != partition) {
        *recent = match entries.binary_search_by_key(&partition, |(index, _)| *index) {
            Ok(at) => at,
            Err(at) => {
                entries.insert(at, (partition, new));
                at
            }
        };
    }
    entries.get_mut(*recent).map(|(_, value)| value)
}

/// The next offset to read of each partition.
#[derive(Debug, Default)]
pub struct Positions {
    /// By partition.
    partitions: Vec<(i32, i64)>,
    recent: usize,
}

impl Positions {
    /// A partition goes on at this offset.
    pub fn set(&mut self, partition: i32, next: i64) {
        if let Some(position) = entry(&mut self.partitions, &mut self.recent, partition, next) {
            *position = next;
        }
    }

    /// Where a partition goes on.
    pub fn get(&self, partition: i32) -> Option<i64> {
        let found = self.partitions.binary_search_by_key(&partition, |(index, _)| *index).ok();
        found.and_then(|at| self.partitions.get(at)).map(|(_, next)| *next)
    }

    /// No partition is read.
    pub fn clear(&mut self) {
        self.partitions.clear();
    }

    /// The partitions and where they go on, by index.
    pub fn iter(&self) -> impl Iterator<Item = (i32, i64)> + '_ {
        self.partitions.iter().copied()
    }
}

/// Which batches of an assignment are settled, and so how far each partition may be committed: never beyond the first
/// batch that is not.
#[derive(Debug, Default)]
pub struct Tracker {
    partitions: BTreeMap<i32, VecDeque<Open>>,
}

#[derive(Debug)]
struct Open {
    /// `None` for the place where the log goes on after a cut: settled as soon as what lies before it is.
    batch: Option<u64>,
    first: i64,
    next: i64,
    settled: bool,
    /// The log was cut under it and went on there.
    cut: Option<i64>,
    tally: Tally,
}

/// What came of batches that are settled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What may now be committed: the next offset to read of each partition that moved.
    pub offsets: BTreeMap<i32, i64>,
    /// What became of the records up to there.
    pub tallies: Tallies,
}

impl Open {
    /// Of a batch that is not stored, whether the log may still hold something.
    fn is_left(&self) -> bool {
        self.cut.is_none_or(|to| self.first < to)
    }
}

impl Tracker {
    /// A batch was closed, with what became of its records as far as that is known. Batches come in the order in which
    /// they were read.
    pub fn closed(&mut self, batch: u64, ranges: &Ranges, mut tallies: Tallies) {
        for (partition, range) in ranges.iter() {
            let Range { first, next, .. } = range;
            let tally = tallies.remove(&partition).unwrap_or_default();
            let open = Open { batch: Some(batch), first, next, settled: false, cut: None, tally };
            self.partitions.entry(partition).or_default().push_back(open);
        }
    }

    /// What became of the records of a closed batch is now known otherwise.
    pub fn recount(&mut self, batch: u64, mut tallies: Tallies) {
        for (partition, open) in &mut self.partitions {
            for entry in open.iter_mut().filter(|entry| entry.batch == Some(batch)) {
                entry.tally = tallies.remove(partition).unwrap_or_default();
            }
        }
    }

    /// Events of closed batches that are not settled.
    pub fn open_events(&self) -> u64 {
        self.partitions.values().flatten().map(|open| open.tally.events()).sum()
    }

    /// A batch is settled: every event of it is stored or was put aside for good. Gives what may now be committed.
    pub fn settled(&mut self, batch: u64) -> Settled {
        self.settled_but(batch, &BTreeSet::new())
    }

    /// A batch is settled but for some partitions, whose events still have to be put aside.
    pub fn settled_but(&mut self, batch: u64, open_ones: &BTreeSet<i32>) -> Settled {
        for (partition, open) in &mut self.partitions {
            for entry in open.iter_mut().filter(|entry| entry.batch == Some(batch) && !open_ones.contains(partition)) {
                entry.settled = true;
            }
        }
        self.committable()
    }

    /// Takes out what is settled and has nothing unsettled before it.
    fn committable(&mut self) -> Settled {
        let mut settled = Settled::default();
        for (partition, open) in &mut self.partitions {
            while let Some(entry) = open.pop_front_if(|entry| entry.settled) {
                settled.offsets.insert(*partition, entry.next);
                settled.tallies.entry(*partition).or_default().add(&entry.tally);
            }
        }
        settled
    }

    /// Whether a partition of this batch is not committed yet, be it for a batch before it.
    pub fn is_open(&self, batch: u64) -> bool {
        self.partitions.values().flatten().any(|entry| entry.batch == Some(batch))
    }

    /// A closed batch will not be settled: its ranges are read again, and with them all that came after. Gives what may
    /// now be committed: where a log goes on, if nothing of the batch is left to read before that.
    pub fn forgotten(&mut self, batch: u64) -> Settled {
        for open in self.partitions.values_mut() {
            let Some(at) = open.iter().position(|entry| entry.batch == Some(batch)) else { continue };
            let left = open.remove(at).is_some_and(|entry| entry.is_left());
            if left {
                // Reading goes back to before the cut, and comes upon it once more.
                let mut place = 0;
                open.retain(|entry| {
                    place += 1;
                    place <= at || entry.batch.is_some()
                });
            }
        }
        self.committable()
    }

    /// The partition's log was cut and goes on at `to`. What was closed of it before counts for less: its offsets may mean
    /// other records now, so it is committed no further than `to`, and neither noted nor sent again as it was. `to` itself
    /// is committed when nothing before it is open any more, at once if nothing is: a commit past events that are neither
    /// stored nor in the log would hide that they are lost.
    pub fn moved(&mut self, partition: i32, to: i64) -> Settled {
        let open = self.partitions.entry(partition).or_default();
        for entry in open.iter_mut() {
            entry.next = entry.next.min(to);
            entry.cut = Some(entry.cut.map_or(to, |cut| cut.min(to)));
        }
        let tally = Tally::default();
        open.push_back(Open { batch: None, first: to, next: to, settled: true, cut: None, tally });
        self.committable()
    }

    /// Whether a closed batch that is not settled still stands for its range of this partition, as it was read.
    pub fn counts(&self, batch: u64, partition: i32) -> bool {
        self.entry(batch, partition).is_some_and(|entry| entry.cut.is_none())
    }

    /// Whether the log may still hold something of a closed batch's range of this partition.
    pub fn is_left(&self, batch: u64, partition: i32) -> bool {
        self.entry(batch, partition).is_some_and(Open::is_left)
    }

    fn entry(&self, batch: u64, partition: i32) -> Option<&Open> {
        self.partitions.get(&partition)?.iter().find(|entry| entry.batch == Some(batch))
    }

    /// The offset to commit of each partition that a closed batch still stands for.
    pub fn nexts(&self, batch: u64) -> BTreeMap<i32, i64> {
        let entries =
            self.partitions.iter().flat_map(|(partition, open)| open.iter().map(move |entry| (partition, entry)));
        entries
            .filter(|(_, entry)| entry.batch == Some(batch))
            .map(|(partition, entry)| (*partition, entry.next))
            .collect()
    }

    /// Whether every closed batch is settled.
    pub fn is_clean(&self) -> bool {
        self.partitions.values().all(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(of: &[(i32, i64, i64)]) -> Ranges {
        let mut ranges = Ranges::default();
        for (partition, first, next) in of {
            ranges.passed(*partition, *first, *next);
        }
        ranges
    }

    #[test]
    fn positions_are_those_set_last() {
        let mut positions = Positions::default();
        assert_eq!(positions.get(0), None);
        for (partition, next) in [(3, 10), (3, 11), (1, 5), (3, 12), (7, 0), (1, 6), (0, 2)] {
            positions.set(partition, next);
            assert_eq!(positions.get(partition), Some(next));
        }
        assert_eq!(positions.iter().collect::<Vec<_>>(), [(0, 2), (1, 6), (3, 12), (7, 0)]);
        assert_eq!(positions.get(2), None);
        positions.clear();
        assert_eq!(positions.get(3), None);
        positions.set(7, 1);
        assert_eq!(positions.iter().collect::<Vec<_>>(), [(7, 1)]);
    }

    #[test]
    fn ranges_grow_over_records_and_gaps() {
        let mut ranges = Ranges::default();
        assert!(ranges.is_empty());
        ranges.passed(1, 5, 7);
        ranges.record(1, 9, 100);
        ranges.record(1, 12, 200);
        ranges.passed(1, 5, 20);
        ranges.record(2, 0, 50);
        let expected = [
            (1, Range { first: 5, next: 20, first_timestamp: 100, last_timestamp: 200, records: 2 }),
            (2, Range { first: 0, next: 1, first_timestamp: 50, last_timestamp: 50, records: 1 }),
        ];
        assert_eq!(ranges.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_later_batch_waits_for_an_earlier_one_of_its_partition_only() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 0, 10), (1, 0, 5)]), Tallies::new());
        tracker.closed(2, &ranges(&[(0, 10, 20), (2, 7, 8)]), Tallies::new());
        assert_eq!(tracker.settled(2).offsets, BTreeMap::from([(2, 8)]));
        assert!(!tracker.is_clean());
        assert_eq!(tracker.settled(1).offsets, BTreeMap::from([(0, 20), (1, 5)]));
        assert!(tracker.is_clean());
        assert_eq!(tracker.settled(1).offsets, BTreeMap::new());
    }

    #[test]
    fn what_is_forgotten_holds_nothing_up_once_it_is_closed_again() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 0, 10)]), Tallies::new());
        tracker.closed(2, &ranges(&[(0, 10, 20), (1, 0, 5)]), Tallies::new());
        tracker.forgotten(2);
        tracker.closed(3, &ranges(&[(0, 10, 30)]), Tallies::new());
        assert_eq!(tracker.settled(3).offsets, BTreeMap::new(), "the first is still open");
        assert_eq!(tracker.settled(1).offsets, BTreeMap::from([(0, 30)]));
        assert!(tracker.is_clean());
    }

    #[test]
    fn after_a_cut_the_new_start_is_committed_once_all_before_it_is_settled() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 100, 200), (1, 0, 5)]), Tallies::new());
        tracker.closed(2, &ranges(&[(0, 200, 250)]), Tallies::new());
        // Retention has passed the position.
        assert_eq!(tracker.moved(0, 400).offsets, BTreeMap::new(), "100 to 250 are not stored yet");
        let all = [(1, 0), (1, 1), (2, 0)];
        assert_eq!(all.map(|(batch, partition)| tracker.counts(batch, partition)), [false, true, false]);
        tracker.closed(3, &ranges(&[(0, 400, 430)]), Tallies::new());
        assert_eq!(tracker.settled(1).offsets, BTreeMap::from([(0, 200), (1, 5)]));
        assert_eq!(tracker.settled(3).offsets, BTreeMap::new());
        assert_eq!(tracker.settled(2).offsets, BTreeMap::from([(0, 430)]));
        assert!(tracker.is_clean());
        assert_eq!(tracker.moved(0, 500).offsets, BTreeMap::from([(0, 500)]), "nothing is open");
    }

    #[test]
    fn what_was_read_behind_the_place_of_a_cut_is_committed_up_to_there() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 100, 200)]), Tallies::new());
        tracker.closed(2, &ranges(&[(0, 200, 250)]), Tallies::new());
        assert_eq!(tracker.moved(0, 150).offsets, BTreeMap::new());
        assert_eq!([1, 2].map(|batch| tracker.is_left(batch, 0)), [true, false]);
        assert_eq!(tracker.settled(1).offsets, BTreeMap::from([(0, 150)]));
        assert_eq!(tracker.settled(2).offsets, BTreeMap::from([(0, 150)]));
        assert!(tracker.is_clean());
    }

    #[test]
    fn a_batch_forgotten_after_a_cut_takes_the_new_start_along_if_it_is_read_again() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 100, 200), (1, 300, 350)]), Tallies::new());
        assert_eq!(tracker.moved(0, 400).offsets, BTreeMap::new());
        assert_eq!(tracker.moved(1, 0).offsets, BTreeMap::new());
        assert_eq!([0, 1].map(|partition| tracker.is_left(1, partition)), [true, false]);
        // Of partition 1 nothing is left to read: its log is another one.
        assert_eq!(tracker.forgotten(1).offsets, BTreeMap::from([(1, 0)]));
        assert!(tracker.is_clean());
    }

    #[test]
    fn partitions_that_wait_hold_up_no_others_of_their_batch() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 0, 10), (1, 0, 5)]), Tallies::new());
        tracker.closed(2, &ranges(&[(0, 10, 20), (1, 5, 8)]), Tallies::new());
        assert_eq!(tracker.settled_but(1, &BTreeSet::from([1])).offsets, BTreeMap::from([(0, 10)]));
        assert_eq!(tracker.settled(2).offsets, BTreeMap::from([(0, 20)]));
        assert_eq!(tracker.settled(1).offsets, BTreeMap::from([(1, 8)]));
        assert!(tracker.is_clean());
    }

    fn tallies(of: &[(i32, u64)]) -> Tallies {
        of.iter().map(|(partition, rows)| (*partition, Tally { rows: *rows, ..Tally::default() })).collect()
    }

    #[test]
    fn records_count_once_with_the_offsets_that_pass_them() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 0, 10), (1, 0, 5)]), tallies(&[(0, 10), (1, 4)]));
        tracker.closed(2, &ranges(&[(0, 10, 20)]), tallies(&[(0, 7)]));
        assert_eq!(tracker.open_events(), 21);
        assert_eq!(tracker.settled(2), Settled::default(), "the first is still open");
        tracker.recount(1, tallies(&[(0, 9), (1, 4)]));
        let first = tracker.settled_but(1, &BTreeSet::from([0]));
        assert_eq!((first.offsets, first.tallies), (BTreeMap::from([(1, 5)]), tallies(&[(1, 4)])));
        let rest = tracker.settled(1);
        assert_eq!((rest.offsets, rest.tallies), (BTreeMap::from([(0, 20)]), tallies(&[(0, 16)])));
        assert_eq!((tracker.open_events(), tracker.settled(1)), (0, Settled::default()));
    }

    #[test]
    fn what_is_stored_of_a_log_that_was_cut_counts_and_what_is_forgotten_does_not() {
        let mut tracker = Tracker::default();
        tracker.closed(1, &ranges(&[(0, 0, 10)]), tallies(&[(0, 10)]));
        tracker.closed(2, &ranges(&[(0, 10, 20)]), tallies(&[(0, 7)]));
        tracker.closed(3, &ranges(&[(0, 20, 30)]), tallies(&[(0, 3)]));
        tracker.settled(2);
        assert_eq!(tracker.moved(0, 5), Settled::default());
        tracker.forgotten(3);
        assert_eq!(tracker.settled(1).tallies, tallies(&[(0, 17)]));
        assert_eq!(tracker.open_events(), 0);
    }

    proptest! {
        #[test]
        fn never_beyond_an_unsettled_batch(order in Just((0..20u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut tracker = Tracker::default();
            for batch in 0..20 {
                let at = i64::try_from(batch).unwrap();
                tracker.closed(batch, &ranges(&[(0, at, at + 1)]), Tallies::new());
            }
            let mut settled = [false; 20];
            let mut committed = 0;
            for batch in order {
                settled[usize::try_from(batch).unwrap()] = true;
                if let Some(next) = tracker.settled(batch).offsets.get(&0) {
                    prop_assert!(*next > committed);
                    committed = *next;
                }
                let prefix = settled.iter().take_while(|done| **done).count();
                prop_assert_eq!(committed, i64::try_from(prefix).unwrap());
            }
            prop_assert!(tracker.is_clean());
        }
    }
}
