//! What a member with an assignment has committed, and what it still has to.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::kafka::group::state::{Identity, Step};
use crate::kafka::group::{Assignment, CommitNote, Intent};
use crate::kafka::protocol::offset_commit::PartitionCommit;

/// What a member with an assignment has.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) assignment: Assignment,
    pub(super) committed: BTreeMap<i32, i64>,
    pub(super) commit_not_before: Instant,
    pub(super) parked: BTreeMap<i32, i64>,
    pub(super) notes: bool,
}

impl Held {
    /// Whether all that the consumer wants committed is (or cannot be, for now).
    pub(super) fn is_clean(&self, intent: &Intent, epoch: u64) -> bool {
        self.uncommitted(intent, epoch).next().is_none()
    }

    pub(super) fn next_try(&self, intent: &Intent, epoch: u64) -> Option<Instant> {
        (!self.is_clean(intent, epoch)).then_some(self.commit_not_before)
    }

    /// Commits are fenced by generation only: one of a partition that is not ours would move another member's offset.
    fn uncommitted<'a>(&'a self, intent: &'a Intent, epoch: u64) -> impl Iterator<Item = (i32, i64)> + 'a {
        let current = intent.epoch == epoch;
        intent.offsets.iter().map(|(partition, offset)| (*partition, *offset)).filter(move |(partition, offset)| {
            current
                && self.assignment.partitions.contains_key(partition)
                && self.committed.get(partition) != Some(offset)
                && self.parked.get(partition) != Some(offset)
        })
    }
}

/// The commit of what the consumer wants committed and is not yet, when one may be tried.
pub(super) fn commit_step(intent: &Intent, epoch: u64, identity: &Identity, held: &Held, now: Instant) -> Option<Step> {
    if now < held.commit_not_before {
        return None;
    }
    // New partitions are not known before each has a commit: whoever gets one without must see that it is new.
    let known = held.assignment.known_partition_count.unwrap_or(held.assignment.partition_count);
    let note = CommitNote { partition_count: known, topic_id: held.assignment.topic_id };
    let metadata = if held.notes { note.to_text() } else { String::new() };
    let partitions: Vec<PartitionCommit> = held
        .uncommitted(intent, epoch)
        .map(|(partition, offset)| PartitionCommit { partition, offset, metadata: metadata.clone() })
        .collect();
    (!partitions.is_empty()).then(|| Step::Commit { identity: identity.clone(), partitions })
}
