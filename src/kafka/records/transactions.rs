//! Which batches of a fetched partition belong to aborted transactions (KIP-98).
//!
//! Source: the consumer side of Kafka's CompletedFetch: a producer's batches are dropped from the first offset of one of
//! its aborted transactions on, until its abort marker.

use std::collections::{BTreeSet, VecDeque};

use super::batch::BatchHeader;

/// The filter for one partition of one answer: built anew from the aborted list that came with it.
#[derive(Debug, Default)]
pub struct AbortedFilter {
    /// Producer id and first offset, by first offset.
    pending: VecDeque<(i64, i64)>,
    active: BTreeSet<i64>,
}

impl AbortedFilter {
    /// A filter of an answer's list; its order does not matter.
    pub fn new(aborted: &[(i64, i64)]) -> Self {
        let mut pending: Vec<(i64, i64)> = aborted.to_vec();
        pending.sort_unstable_by_key(|(_, first_offset)| *first_offset);
        Self { pending: pending.into(), active: BTreeSet::new() }
    }

    /// Whether a data batch belongs to an aborted transaction. Batches must be shown in order, control batches too.
    pub fn drops(&mut self, header: &BatchHeader) -> bool {
        while let Some(&(producer_id, first_offset)) = self.pending.front() {
            if first_offset > header.last_offset {
                break;
            }
            self.active.insert(producer_id);
            self.pending.pop_front();
        }
        header.transactional && self.active.contains(&header.producer_id)
    }

    /// A producer's abort marker was passed. One that is not known of is legal: the fetch began inside its transaction.
    pub fn aborted(&mut self, producer_id: i64) {
        self.active.remove(&producer_id);
    }
}

/// Whether a control record's key is that of an abort marker: version i16, type i16 (0 abort, 1 commit).
pub fn is_abort_marker(key: Option<&[u8]>) -> bool {
    matches!(key, Some([_, _, 0, 0, ..]))
}
