//! Consumer group membership over the classic protocol (KIP-62, KIP-345, KIP-394), which rskafka does not have.
//!
//! [`state`] decides and knows neither sockets nor clocks; [`coordinator`] sends what it asks for and publishes the
//! [`Membership`]. The consumer answers through [`Intent`]. Both ways are watch channels: what counts is the newest
//! word, so neither side can block the other or fill a queue.

mod answers;
pub mod coordinator;
mod held;
pub mod state;
pub mod subscription;
pub mod verdict;

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::kafka::error::GroupRefused;

/// What the group's driver says to the consumer.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Grows with each assignment and each loss of one; what was read in another epoch must not be committed.
    pub epoch: u64,
    /// Where the membership stands.
    pub phase: Phase,
}

/// Where the membership stands.
#[derive(Debug, Clone)]
pub enum Phase {
    /// No partitions, nothing may be sent or committed.
    Outside {
        /// Why.
        why: &'static str,
    },
    /// These partitions are ours.
    Assigned(Assignment),
    /// They still are, but the group is rebalancing: finish what is on the wire, then say so ([`Intent::drained`]).
    Revoking {
        /// When the driver goes on without waiting.
        deadline: Instant,
        /// Why.
        why: &'static str,
    },
    /// The group refuses this member for good.
    Refused(GroupRefused),
}

/// The partitions of one assignment and what the group knows of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The generation.
    pub generation: i32,
    /// The topic's id (KIP-516), 0 when the broker does not tell.
    pub topic_id: u128,
    /// How many partitions the topic has.
    pub partition_count: i32,
    /// The largest partition count of this topic that the group has known: noted in its commits, or 0 when the topic was
    /// created while this member was watching. Partitions from there on are new. `None` when nothing tells.
    pub known_partition_count: Option<i32>,
    /// The partitions of this member, with what was committed.
    pub partitions: BTreeMap<i32, Option<Committed>>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The note beside it, when it is one of ours.
    pub note: Option<CommitNote>,
}

/// What each commit carries beside the offset: how the topic looked then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitNote {
    /// How many partitions of the topic the group knows: each of them was there when it began, or has a commit.
    pub partition_count: i32,
    /// The topic's id, 0 when unknown.
    pub topic_id: u128,
}

impl CommitNote {
    /// The note as text, like `partitions=12;topic=0af3…`.
    pub fn to_text(self) -> String {
        format!("partitions={};topic={:032x}", self.partition_count, self.topic_id)
    }

    /// Reads a note back; `None` for the texts of other programs.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, id) = text.strip_prefix("partitions=")?.split_once(";topic=")?;
        Some(Self { partition_count: count.parse().ok()?, topic_id: u128::from_str_radix(id, 16).ok()? })
    }
}

/// What the consumer says to the group's driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// The epoch the rest speaks of.
    pub epoch: u64,
    /// Per partition the next offset to read: everything before it is stored.
    pub offsets: BTreeMap<i32, i64>,
    /// Nothing of this epoch is on the wire any more, and `offsets` is final.
    pub drained: bool,
    /// The topic is another one, a fetch says: look at it at once.
    pub look: bool,
    /// Commit, leave the group and end.
    pub leave: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_foreign_texts_do_not() {
        let note = CommitNote { partition_count: 12, topic_id: 0xabc };
        assert_eq!(CommitNote::parse(&note.to_text()), Some(note));
        for foreign in ["", "partitions=", "partitions=x;topic=1", "partitions=3;topic=zz", "hello"] {
            assert_eq!(CommitNote::parse(foreign), None, "{foreign}");
        }
    }
}
