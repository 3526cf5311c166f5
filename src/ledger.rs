//! What became of records, by partition: counted while they are read, booked once they are settled.
//!
//! Settled is what may be committed: every event is a row in the table, or was put aside for good. Records that are read
//! again (after a refusal, a change of the table, a rebalance) are settled once, and so the books add up: consumed events
//! are inserted or rejected, and the replicas' sum is what the topic holds.

use std::collections::BTreeMap;

use crate::progress::Classes;

/// What became of the records of one partition in one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that are rows.
    pub rows: u64,
    /// Records without a value.
    pub tombstones: u64,
    /// Events that cannot be rows, by class.
    pub rejected: Classes,
    /// Keys of events that no column has: each time that one came.
    pub unknown_keys: u64,
}

/// Tallies by partition.
pub type Tallies = BTreeMap<i32, Tally>;

impl Tally {
    /// Records with a value, good or bad.
    pub fn events(&self) -> u64 {
        self.rows + self.rejected.sum()
    }

    /// All records.
    pub fn records(&self) -> u64 {
        self.events() + self.tombstones
    }

    /// Counts what is in another one, too.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.tombstones += other.tombstones;
        self.unknown_keys += other.unknown_keys;
        for (class, count) in &other.rejected.0 {
            self.rejected.add(class, *count);
        }
    }
}

/// Counts what is in other tallies, too.
pub fn add_all(to: &mut Tallies, more: &Tallies) {
    for (partition, tally) in more {
        to.entry(*partition).or_default().add(tally);
    }
}
