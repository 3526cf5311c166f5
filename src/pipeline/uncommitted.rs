//! Batches that are stored and whose offsets the coordinator has not acknowledged: what a crash would store twice.
//!
//! Their number has a bound. Commits that are slow or refused hold up the inserts, not only the offsets: without that a
//! replica would store batch after batch, and whoever reads its partitions next would store all of them again.

use std::collections::{BTreeMap, BTreeSet};

/// The most batches that are stored and not acknowledged, the one whose insert is under way among them.
pub(super) const MAX_UNCOMMITTED: usize = 2;

/// The stored batches of one assignment that are not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    /// By batch the offset to be acknowledged of each of its partitions.
    batches: BTreeMap<u64, BTreeMap<i32, i64>>,
    /// Partitions whose log was cut, with what was acknowledged of them before: that speaks of other records.
    void: BTreeMap<i32, i64>,
}

impl Uncommitted {
    /// A batch is stored (or has dead-letter records); `next` is the offset to commit of each of its partitions.
    pub(super) fn stored(&mut self, batch: u64, next: BTreeMap<i32, i64>) {
        if !next.is_empty() {
            self.batches.insert(batch, next);
        }
    }

    /// Takes note of what the coordinator has acknowledged, by partition.
    pub(super) fn acknowledged(&mut self, offset: impl Fn(i32) -> Option<i64>) {
        let Self { batches, void } = self;
        void.retain(|partition, before| offset(*partition) == Some(*before));
        batches.retain(|_, next| {
            next.retain(|partition, next| {
                void.contains_key(partition) || offset(*partition).is_none_or(|offset| offset < *next)
            });
            !next.is_empty()
        });
    }

    /// The log of a partition was cut and goes on at `to`: what was stored of it before is committed no further. `void`
    /// is what the coordinator has of it now, where that is beyond `to`: it acknowledges nothing of what comes after.
    pub(super) fn moved(&mut self, partition: i32, to: i64, void: Option<i64>) {
        for next in self.batches.values_mut() {
            if void.is_some() {
                next.remove(&partition);
            } else if let Some(next) = next.get_mut(&partition) {
                *next = to.min(*next);
            }
        }
        self.batches.retain(|_, next| !next.is_empty());
        self.void.extend(void.map(|offset| (partition, offset)));
    }

    /// An assignment is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many batches there are.
    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    /// The same, without those that only wait for partitions in `held`, which are not read because their dead-letter
    /// records are late: the other partitions do not wait for them.
    pub(super) fn of_others(&self, held: &BTreeSet<i32>) -> usize {
        let waiting = |next: &BTreeMap<i32, i64>| next.keys().any(|partition| !held.contains(partition));
        self.batches.values().filter(|next| waiting(next)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(of: &[(i32, i64)]) -> BTreeMap<i32, i64> {
        of.iter().copied().collect()
    }

    #[test]
    fn a_batch_is_uncommitted_until_every_partition_is_acknowledged() {
        let (mut uncommitted, nobody) = (Uncommitted::default(), BTreeSet::new());
        uncommitted.stored(1, next(&[(0, 10), (1, 5)]));
        uncommitted.stored(2, next(&[(0, 20)]));
        assert_eq!(uncommitted.of_others(&nobody), 2);
        uncommitted.acknowledged(|partition| (partition == 0).then_some(10));
        assert_eq!(uncommitted.of_others(&nobody), 2, "partition 1 of the first is open");
        uncommitted.acknowledged(|_| Some(9));
        assert_eq!(uncommitted.of_others(&nobody), 1);
        uncommitted.acknowledged(|_| Some(25));
        assert_eq!(uncommitted.len(), 0);
        uncommitted.stored(3, BTreeMap::new());
        assert_eq!(uncommitted.len(), 0, "nothing to commit");
    }

    #[test]
    fn partitions_that_wait_for_dead_letters_keep_no_other_waiting() {
        let mut uncommitted = Uncommitted::default();
        uncommitted.stored(1, next(&[(3, 10)]));
        uncommitted.stored(2, next(&[(3, 20), (4, 1)]));
        assert_eq!(uncommitted.of_others(&BTreeSet::new()), 2);
        assert_eq!(uncommitted.of_others(&BTreeSet::from([3])), 1);
        assert_eq!(uncommitted.len(), 2, "they are uncommitted all the same");
    }

    #[test]
    fn a_log_that_was_cut_is_acknowledged_where_it_goes_on() {
        let mut uncommitted = Uncommitted::default();
        uncommitted.stored(1, next(&[(0, 200)]));
        uncommitted.moved(0, 150, None);
        uncommitted.acknowledged(|_| Some(100));
        assert_eq!(uncommitted.len(), 1);
        uncommitted.acknowledged(|_| Some(150));
        assert_eq!(uncommitted.len(), 0);
    }

    #[test]
    fn what_was_acknowledged_before_a_log_was_cut_acknowledges_nothing_after() {
        let mut uncommitted = Uncommitted::default();
        uncommitted.stored(1, next(&[(0, 200), (1, 5)]));
        uncommitted.moved(0, 20, Some(150));
        uncommitted.stored(2, next(&[(0, 30)]));
        uncommitted.acknowledged(|partition| (partition == 0).then_some(150));
        assert_eq!(uncommitted.len(), 2);
        uncommitted.acknowledged(|partition| Some([0, 5][partition as usize]));
        assert_eq!(uncommitted.len(), 1, "acknowledged where reading went on, not yet what came after");
        uncommitted.acknowledged(|_| Some(30));
        assert_eq!(uncommitted.len(), 0);
    }
}
