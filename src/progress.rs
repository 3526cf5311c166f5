//! What the parts publish about themselves, each through a watch channel of its own: the admin server and the progress
//! line only read. Counters never fall.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::Instant;

/// Published by the group's driver and the consumer.
#[derive(Debug, Clone, Default)]
pub struct KafkaProgress {
    /// `kafka_connected` is true until then: last good heartbeat plus max(10 s, 3 intervals), or the time limit of a
    /// JoinGroup or SyncGroup under way.
    pub good_until: Option<Instant>,
    /// The state of the group membership in one word, for people.
    pub state: &'static str,
    /// The member id the coordinator gave.
    pub member_id: String,
    /// The generation of the membership, -1 outside one.
    pub generation: i32,
    /// The partitions held now.
    pub partitions: Vec<i32>,
    /// Failed requests, refused connections and error codes so far.
    pub errors: u64,
    /// Why nothing can be read as a whole (a missing topic, say), in a sentence with the cure.
    pub blocked: Option<String>,
    /// Why single partitions wait, by index.
    pub blocked_partitions: BTreeMap<i32, String>,
}

/// Published by the inserter.
#[derive(Debug, Clone, Default)]
pub struct InsertProgress {
    /// The last authenticated contact (an insert, or the probe) went well.
    pub connected: bool,
    /// Rows stored.
    pub rows: u64,
    /// Inserts stored.
    pub batches: u64,
    /// When the last insert was stored.
    pub last_stored_at: Option<SystemTime>,
    /// Insert attempts that failed.
    pub failed_attempts: u64,
    /// Why nothing can be stored, in a sentence with the cure.
    pub blocked: Option<String>,
}

/// Published by the pipeline.
#[derive(Debug, Clone, Default)]
pub struct PipelineProgress {
    /// Records with a value, good or bad.
    pub consumed: u64,
    /// Records without a value (tombstones), skipped.
    pub tombstones: u64,
    /// Events that could not be read.
    pub rejected: u64,
}

/// The reading ends of all three.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The group's and the consumer's.
    pub kafka: watch::Receiver<KafkaProgress>,
    /// The inserter's.
    pub insert: watch::Receiver<InsertProgress>,
    /// The pipeline's.
    pub pipeline: watch::Receiver<PipelineProgress>,
}
