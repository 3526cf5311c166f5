//! What a member with an assignment has committed, and what it still has to.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tracing::warn;

use crate::kafka::epochs::UNKNOWN_EPOCH;
use crate::kafka::group::state::{Identity, RETRY_PAUSE, Step};
use crate::kafka::group::{Assignment, CommitNote, Intent, PARTS};
use crate::kafka::protocol::offset_commit::PartitionCommit;
use crate::part::Part;

/// What a member with an assignment has.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) assignment: Assignment,
    pub(super) committed: BTreeMap<i32, Commit>,
    pub(super) commit_not_before: Instant,
    /// Commits in a row that were refused or not answered.
    pub(super) commit_tries: u32,
    /// Offsets whose commit was refused: tried again when metadata shows the topic, and before the partitions go.
    pub(super) parked: BTreeMap<i32, i64>,
    pub(super) notes: Notes,
}

/// What a partition's commit says: the offset, and the parts that may be stored behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) offset: i64,
    pub(super) parts: Vec<Part>,
}

/// How much of a note the broker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notes {
    /// All of it.
    Whole,
    /// Only how the topic looked.
    Short,
    /// None.
    Off,
}

/// The longest note: offset.metadata.max.bytes of brokers that were not told otherwise.
const NOTE_LIMIT: usize = 4096;

impl Held {
    /// At the beginning of an assignment.
    pub(super) fn new(assignment: Assignment, now: Instant) -> Self {
        let commit = |noted: &crate::part::Noted<'_>| {
            let open = noted.parts.iter().filter(|part| part.is_open_at(noted.partition, noted.committed));
            (noted.partition, Commit { offset: noted.committed, parts: open.cloned().collect() })
        };
        let committed = assignment.noted().iter().map(commit).collect();
        Self {
            assignment,
            committed,
            commit_not_before: now,
            commit_tries: 0,
            parked: BTreeMap::new(),
            notes: Notes::Whole,
        }
    }

    /// Whether all that the consumer wants committed is (or cannot be, for now).
    pub(super) fn is_clean(&self, intent: &Intent, epoch: u64) -> bool {
        self.uncommitted(intent, epoch).next().is_none()
    }

    pub(super) fn next_try(&self, intent: &Intent, epoch: u64) -> Option<Instant> {
        (!self.is_clean(intent, epoch)).then_some(self.commit_not_before)
    }

    /// A commit was refused or not answered: the next try comes after a pause, which doubles up to 4 s.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.commit_not_before = now + RETRY_PAUSE * (1 << self.commit_tries.min(4));
        self.commit_tries += 1;
    }

    /// A commit of this partition was taken.
    pub(super) fn took(&mut self, intent: &Intent, epoch: u64, partition: i32, offset: i64) {
        let wanted = self.wanted(intent, epoch, partition).filter(|commit| commit.offset == offset);
        self.committed.insert(partition, wanted.unwrap_or(Commit { offset, parts: Vec::new() }));
    }

    /// The broker does not take a partition's note: the parts go first, then the whole.
    pub(super) fn shorten_notes(&mut self, sent: &[PartitionCommit]) {
        let with_parts = self.notes == Notes::Whole && sent.iter().any(|commit| commit.metadata.contains(PARTS));
        self.notes = if with_parts { Notes::Short } else { Notes::Off };
        if with_parts {
            warn!("the broker refuses a note of what may be stored already; whoever reads it again may store it twice");
        }
    }

    /// Commits are fenced by generation only: one of a partition that is not ours would move another member's offset.
    fn uncommitted<'a>(&'a self, intent: &'a Intent, epoch: u64) -> impl Iterator<Item = (i32, Commit)> + 'a {
        let current = intent.epoch == epoch;
        let own = self.assignment.partitions.keys().filter(move |_| current);
        own.filter_map(move |partition| Some((*partition, self.wanted(intent, epoch, *partition)?))).filter(
            move |(partition, commit)| {
                self.committed.get(partition) != Some(commit) && self.parked.get(partition) != Some(&commit.offset)
            },
        )
    }

    /// What a partition's commit is to say. A note stays until the offset has passed what it speaks of.
    fn wanted(&self, intent: &Intent, epoch: u64, partition: i32) -> Option<Commit> {
        let before = self.committed.get(&partition);
        let told = Some(intent).filter(|intent| intent.epoch == epoch);
        let moved = told.and_then(|intent| intent.offsets.get(&partition)).copied();
        let offset = moved.or_else(|| before.map(|commit| commit.offset))?;
        let parts = told.and_then(|intent| intent.parts.as_ref()).or_else(|| before.map(|commit| &commit.parts));
        let open = parts.into_iter().flatten().filter(|part| part.is_open_at(partition, offset));
        Some(Commit { offset, parts: open.cloned().collect() })
    }

    /// The leader epoch of what lies before an offset that is committed: as the consumer read it, or as it was found.
    fn epoch(&self, intent: &Intent, partition: i32, offset: i64) -> i32 {
        if intent.offsets.get(&partition) == Some(&offset) {
            return intent.epochs.get(&partition).copied().unwrap_or(UNKNOWN_EPOCH);
        }
        let found = self.assignment.partitions.get(&partition).and_then(Option::as_ref);
        found.filter(|found| found.offset == offset).map_or(UNKNOWN_EPOCH, |found| found.leader_epoch)
    }

    fn note(&self, parts: Vec<Part>) -> String {
        // New partitions are not known before each has a commit: whoever gets one without must see that it is new.
        let partition_count = self.assignment.known_partition_count.unwrap_or(self.assignment.partition_count);
        let mut note = CommitNote { partition_count, topic_id: self.assignment.topic_id, parts: Some(parts) };
        if self.notes == Notes::Whole {
            let text = note.to_text();
            if text.len() <= NOTE_LIMIT {
                return text;
            }
            warn!(
                bytes = text.len(),
                limit = NOTE_LIMIT,
                "a note of what may be stored already is too long; whoever reads it again may store it twice"
            );
        }
        note.parts = None;
        if self.notes == Notes::Off { String::new() } else { note.to_text() }
    }
}

/// The commit of what the consumer wants committed and is not yet, when one may be tried.
pub(super) fn commit_step(intent: &Intent, epoch: u64, identity: &Identity, held: &Held, now: Instant) -> Option<Step> {
    if now < held.commit_not_before {
        return None;
    }
    let partitions: Vec<PartitionCommit> = held
        .uncommitted(intent, epoch)
        .map(|(partition, Commit { offset, parts })| PartitionCommit {
            partition,
            offset,
            leader_epoch: held.epoch(intent, partition, offset),
            metadata: held.note(parts),
        })
        .collect();
    (!partitions.is_empty()).then(|| Step::Commit { identity: identity.clone(), partitions })
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
