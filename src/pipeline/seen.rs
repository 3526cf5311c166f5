//! What this process has read before: it is counted as read again, and a bad record is not logged again.

use std::collections::BTreeSet;

use crate::offsets::{Positions, next_after};

/// Places that were read, and those that were logged.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each partition the offset after the last one read.
    next: Positions,
    /// The topic that these are offsets of.
    topic_id: u128,
    /// Bad records that were logged and are not settled.
    logged: BTreeSet<(i32, i64)>,
}

/// The records of one slice: counted here, without a look at anything else while the partition is the same.
#[derive(Debug, Default)]
pub(super) struct Run {
    partition: i32,
    next: i64,
    /// Records read.
    pub(super) read: u64,
    /// Those among them that had been read before.
    pub(super) again: u64,
}

/// The most places whose log line is remembered; beyond that a line may come twice.
const MAX_LOGGED: usize = 1 << 16;

impl Seen {
    /// Counts a record in the run of the slice.
    pub(super) fn count(&mut self, run: &mut Run, partition: i32, offset: i64) {
        if run.partition != partition || run.read == 0 {
            self.end(run);
            (run.partition, run.next) = (partition, self.next.get(partition).unwrap_or(0));
        }
        run.read += 1;
        if offset < run.next {
            run.again += 1;
        } else {
            run.next = next_after(offset);
        }
    }

    /// The slice is over, or goes on with another partition.
    pub(super) fn end(&mut self, run: &Run) {
        if run.read > 0 {
            self.next.set(run.partition, run.next);
        }
    }

    /// Whether a bad record is to be logged now: it was not before.
    pub(super) fn is_new(&mut self, partition: i32, offset: i64) -> bool {
        if self.logged.len() >= MAX_LOGGED {
            return !self.logged.contains(&(partition, offset));
        }
        self.logged.insert((partition, offset))
    }

    /// A partition is settled up to `next`: nothing before comes again.
    pub(super) fn settled(&mut self, partition: i32, next: i64) {
        let before: Vec<_> = self.logged.range((partition, i64::MIN)..(partition, next)).copied().collect();
        before.iter().for_each(|place| {
            self.logged.remove(place);
        });
    }

    /// A partition's log was cut: from `next` on its records are other ones.
    pub(super) fn moved(&mut self, partition: i32, next: i64) {
        self.next.set(partition, next);
        self.logged.retain(|place| place.0 != partition);
    }

    /// An assignment begins. What was read of an earlier topic of the same name says nothing about this one.
    pub(super) fn of_topic(&mut self, topic_id: u128) {
        if self.topic_id != topic_id {
            *self = Self { topic_id, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(seen: &mut Seen, places: &[(i32, i64)]) -> (u64, u64) {
        let mut run = Run::default();
        for (partition, offset) in places {
            seen.count(&mut run, *partition, *offset);
        }
        seen.end(&run);
        (run.read, run.again)
    }

    #[test]
    fn what_was_read_before_is_read_again() {
        let mut seen = Seen::default();
        assert_eq!(read(&mut seen, &[(0, 0), (0, 1), (3, 7), (0, 4)]), (4, 0));
        assert_eq!(read(&mut seen, &[(0, 1), (0, 4), (0, 5), (3, 7), (3, 8), (0, 5)]), (6, 4));
        seen.moved(0, 2);
        assert_eq!(read(&mut seen, &[(0, 1), (0, 2), (3, 8)]), (3, 2));
        seen.of_topic(9);
        assert_eq!(read(&mut seen, &[(0, 0), (3, 8)]), (2, 0), "another topic of the same name");
        seen.of_topic(9);
        assert_eq!(read(&mut seen, &[(0, 0)]), (1, 1));
    }

    #[test]
    fn a_record_is_logged_once_until_it_is_settled() {
        let mut seen = Seen::default();
        assert!(seen.is_new(0, 5) && seen.is_new(0, 9) && seen.is_new(1, 5));
        assert!(!seen.is_new(0, 5));
        seen.settled(0, 9);
        assert!(!seen.is_new(0, 9) && !seen.is_new(1, 5));
        assert!(seen.is_new(0, 5), "settled, and read for another reason");
    }
}
