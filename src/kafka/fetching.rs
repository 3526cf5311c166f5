//! What goes between the consumer, the fetcher and its leaders: settings, answers with their places, rewinds.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::config::OffsetReset;
use crate::kafka::epochs::{EpochStart, Position};
use crate::kafka::group::Committed;
use crate::kafka::records::reader::Answer;

/// How partitions are fetched.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// The topic.
    pub topic: String,
    /// 0 read_uncommitted, 1 read_committed.
    pub isolation: i8,
    /// What the broker collects before it answers, in bytes.
    pub min_bytes: i32,
    /// The longest it waits for that.
    pub max_wait: Duration,
    /// Bytes of all answers together that may lie here unread.
    pub buffer_bytes: usize,
    /// Where to start without a committed offset.
    pub reset: OffsetReset,
}

/// What comes out.
#[derive(Debug)]
pub enum Fetched {
    /// Where a partition is read from. Comes before its first records, and again when its log was cut.
    Start {
        /// The partition.
        partition: i32,
        /// The next offset to read.
        offset: i64,
        /// The leader epoch of what lies before, -1 when unknown.
        epoch: i32,
        /// It is not what was committed: nothing is fetched before a [`Rewind`] says that it is.
        held: bool,
    },
    /// A broker shows the topic with another id than the assignment's.
    Recreated,
    /// And another one, or the same later, with the assignment's after all.
    SameTopic,
    /// Records, and where in them the leader epochs begin. The next fetch of the same leader begins when the slot's permit
    /// is dropped.
    Records(Answer, Vec<EpochStart>, Slot),
}

/// Reads a partition again from an offset, after a pause: what came could not be read.
#[derive(Debug, Clone)]
pub struct Rewind {
    /// The partition.
    pub partition: i32,
    /// The place.
    pub position: Position,
    /// The pause.
    pub pause: Duration,
    /// Why it waits, for people; `None` when nobody needs to know yet.
    pub blocked: Option<String>,
}

/// How far a partition is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Its log's start and end are to be asked for.
    Unresolved(Option<Committed>),
    /// To be fetched from here, once the commit of this start is acknowledged: until then the same start may be resolved
    /// to another offset after a crash, and what lies between would be skipped.
    Held,
    /// Fetched from here next.
    At(Position),
}

impl Stage {
    /// Whether it waits for a commit.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Held)
    }
}

/// Goes with an answer: the next fetch of its leader begins when the permit is dropped, and the answer's buffer goes
/// home once it was read.
#[derive(Debug)]
pub struct Slot {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) home: mpsc::Sender<Vec<u8>>,
}

/// Gives a buffer back to its leader. One that grew for a single large batch is let go instead.
pub(super) fn hand_back(home: &mpsc::Sender<Vec<u8>>, buffer: Vec<u8>) {
    if buffer.capacity() <= 2 * FETCH_BYTES && home.try_send(buffer).is_err() {
        tracing::trace!("a fetch buffer too many: let go");
    }
}

/// The largest fetch: more costs memory and cache and gains nothing.
pub(super) const FETCH_BYTES: usize = 1 << 20;
