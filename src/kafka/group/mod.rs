//! Consumer group membership over the classic protocol (KIP-62, KIP-345, KIP-394), which rskafka does not have.
//!
//! [`state`] decides and knows neither sockets nor clocks; [`coordinator`] sends what it asks for and publishes the
//! [`Membership`]. The consumer answers through [`Intent`]. Both ways are watch channels: what counts is the newest
//! word, so neither side can block the other or fill a queue.

mod answers;
mod checks;
mod contact;
pub mod coordinator;
mod held;
pub mod state;
pub mod subscription;
pub mod verdict;

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::kafka::error::GroupRefused;
use crate::part::{self, Noted, Part};

/// What the group's driver says to the consumer.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Grows with each assignment and each loss of one; what was read in another epoch must not be committed.
    pub epoch: u64,
    /// Where the membership stands.
    pub phase: Phase,
}

/// The offsets that the coordinator holds for the partitions of one assignment: those found when it began, and each commit
/// since that was acknowledged with code 0. An intent is no proof; this is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// The epoch of the assignment.
    pub epoch: u64,
    /// Per partition the committed offset (the next to read); partitions without a commit are absent.
    pub offsets: BTreeMap<i32, i64>,
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

impl Assignment {
    /// What the notes beside the committed offsets say of parts that may be stored already.
    pub fn noted(&self) -> Vec<Noted<'_>> {
        let noted = self.partitions.iter().filter_map(|(index, at)| {
            let committed = at.as_ref()?;
            Some(Noted { partition: *index, committed: committed.offset, parts: committed.parts(self.topic_id) })
        });
        noted.collect()
    }

    /// The partitions whose note speaks of parts and is of no use: it cannot be read, or is of another topic.
    pub fn useless_notes(&self) -> Vec<i32> {
        let useless = |note: &CommitNote| match &note.parts {
            Some(parts) => !parts.is_empty() && !note.is_of(self.topic_id),
            None => true,
        };
        let at = self
            .partitions
            .iter()
            .filter(|(_, at)| at.as_ref().and_then(|committed| committed.note.as_ref()).is_some_and(useless));
        at.map(|(index, _)| *index).collect()
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the record batch before it, -1 when unknown.
    pub leader_epoch: i32,
    /// The note beside it, when it is one of ours.
    pub note: Option<CommitNote>,
}

impl Committed {
    /// Whether it may be of the topic with this id.
    pub fn is_of(&self, topic_id: u128) -> bool {
        self.note.as_ref().is_none_or(|note| note.is_of(topic_id))
    }

    /// The parts noted beside it, if this is the topic that they were read from.
    pub fn parts(&self, topic_id: u128) -> &[Part] {
        let note = self.note.as_ref().filter(|note| note.is_of(topic_id));
        note.and_then(|note| note.parts.as_deref()).unwrap_or(&[])
    }
}

/// What each commit carries beside the offset: how the topic looked then, and what may be stored behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitNote {
    /// How many partitions of the topic the group knows: each of them was there when it began, or has a commit.
    pub partition_count: i32,
    /// The topic's id, 0 when unknown.
    pub topic_id: u128,
    /// Parts behind the offset that were sent and may be stored: whoever reads on sends them again as they are. `None`
    /// when what stands there cannot be read.
    pub parts: Option<Vec<Part>>,
}

/// What stands before the parts in a note.
const PARTS: &str = "parts=";

impl CommitNote {
    /// The note as text, like `partitions=12;topic=0af3…;parts=0:5k+8c,1:0+a`.
    pub fn to_text(&self) -> String {
        let text = format!("partitions={};topic={:032x}", self.partition_count, self.topic_id);
        match self.parts.as_deref() {
            None | Some([]) => text,
            Some(parts) => format!("{text};{PARTS}{}", part::to_text(parts)),
        }
    }

    /// Reads a note back; `None` for the texts of other programs. What a later version adds is passed over.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(';');
        let partition_count = fields.next()?.strip_prefix("partitions=")?.parse().ok()?;
        let topic_id = u128::from_str_radix(fields.next()?.strip_prefix("topic=")?, 16).ok()?;
        let parts = match fields.find_map(|field| field.strip_prefix(PARTS)) {
            Some(parts) => part::parse(parts),
            None => Some(Vec::new()),
        };
        Some(Self { partition_count, topic_id, parts })
    }

    /// Whether it may be of the topic with this id: old brokers tell none.
    pub fn is_of(&self, topic_id: u128) -> bool {
        self.topic_id == topic_id || self.topic_id == 0 || topic_id == 0
    }
}

/// What the consumer says to the group's driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// The epoch the rest speaks of.
    pub epoch: u64,
    /// Per partition the next offset to read: everything before it is stored.
    pub offsets: BTreeMap<i32, i64>,
    /// The leader epoch of the record batch before each of `offsets`, where known.
    pub epochs: BTreeMap<i32, i32>,
    /// Parts that were sent, may be stored and are not in `offsets`: noted beside the commits of their partitions.
    /// `None` leaves the notes that were found as long as their parts are open.
    pub parts: Option<Vec<Part>>,
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
        let mut note = CommitNote { partition_count: 12, topic_id: 0xabc, parts: Some(Vec::new()) };
        assert_eq!(note.to_text(), "partitions=12;topic=00000000000000000000000000000abc");
        assert_eq!(CommitNote::parse(&note.to_text()), Some(note.clone()));
        note.parts = part::parse("0:5k+8c,1:0+a/0:dw+1");
        assert_eq!(CommitNote::parse(&note.to_text()), Some(note.clone()));
        assert_eq!(CommitNote::parse(&format!("{};later=1", note.to_text())), Some(note.clone()));
        note.parts = None;
        assert_eq!(CommitNote::parse(&format!("{};parts=0:?", note.to_text())), Some(note));
        for foreign in ["", "partitions=", "partitions=x;topic=1", "partitions=3;topic=zz", "hello"] {
            assert_eq!(CommitNote::parse(foreign), None, "{foreign}");
        }
    }
}
