//! What keeps partitions from being read: since when, how often it was tried, and when it becomes a reason to be unhealthy.
//!
//! A fault begins with the first failure and ends with an answer of the leader that has the partition: it is no fault of an
//! attempt. It outlives the fetcher, which is started anew with each rewind of several partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::progress::KafkaProgress;

/// What fails for that long is published as a reason. Elections of leaders are mostly over by then.
pub const TOLERATED: Duration = Duration::from_secs(5);

/// The faults of partitions, by index.
#[derive(Debug, Clone, Default)]
pub struct Faults(BTreeMap<i32, Fault>);

#[derive(Debug, Clone)]
struct Fault {
    since: Instant,
    /// The last cause.
    cause: String,
    tries: u32,
    published: bool,
}

impl Faults {
    /// How often a partition has failed since it was last read.
    pub fn tries(&self, partition: i32) -> u32 {
        self.0.get(&partition).map_or(0, |fault| fault.tries)
    }

    /// When the next fault becomes a reason.
    pub fn due(&self) -> Option<Instant> {
        self.0.values().filter(|fault| !fault.published).map(|fault| fault.since + TOLERATED).min()
    }
}

impl KafkaProgress {
    /// A partition could not be read once more, for this cause.
    pub fn failed(&mut self, partition: i32, cause: String, now: Instant) {
        let Self { faults, blocked_partitions, .. } = self;
        let new = || Fault { since: now, cause: String::new(), tries: 0, published: false };
        let fault = faults.0.entry(partition).or_insert_with(new);
        fault.tries = fault.tries.saturating_add(1);
        fault.cause = cause;
        if fault.published {
            blocked_partitions.insert(partition, fault.cause.clone());
        }
    }

    /// The same, of a fault that is a reason at once: nothing but a person, or much time, ends it.
    pub fn blocked_by(&mut self, partition: i32, cause: String, now: Instant) {
        self.failed(partition, cause, now);
        if let Some(fault) = self.faults.0.get_mut(&partition) {
            fault.published = true;
            self.blocked_partitions.insert(partition, fault.cause.clone());
        }
    }

    /// A leader does not answer, and has not since then. True when that was not known.
    pub fn silent(&mut self, partitions: &[i32], cause: &str, since: Instant) -> bool {
        let mut new = false;
        for partition in partitions {
            if self.faults.0.get(partition).is_none_or(|fault| fault.cause != cause) {
                new = true;
                let tries = self.faults.tries(*partition);
                self.failed(*partition, cause.to_owned(), since);
                if let Some(fault) = self.faults.0.get_mut(partition) {
                    fault.tries = tries;
                }
            }
        }
        new
    }

    /// The leader has answered for these partitions. True when a fault ended.
    pub fn readable(&mut self, partitions: impl IntoIterator<Item = i32>) -> bool {
        let mut ended = false;
        for partition in partitions {
            if let Some(fault) = self.faults.0.remove(&partition) {
                ended = true;
                if fault.published {
                    self.blocked_partitions.remove(&partition);
                }
            }
        }
        ended
    }

    /// Makes reasons of the faults that have lasted. True when there are new ones.
    pub fn publish_faults(&mut self, now: Instant) -> bool {
        let mut new = false;
        for (partition, fault) in &mut self.faults.0 {
            if !fault.published && now >= fault.since + TOLERATED {
                fault.published = true;
                self.blocked_partitions.insert(*partition, fault.cause.clone());
                new = true;
            }
        }
        new
    }

    /// An assignment is over, or begins: what kept its partitions from being read is of no interest any more.
    pub fn forget_faults(&mut self) {
        self.faults.0.clear();
        self.blocked_partitions.clear();
    }
}

/// The pause before a partition is tried again after its `tries`th failure in a row.
pub fn pause_after(tries: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1).min(16))).min(LONGEST_PAUSE)
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(progress: &KafkaProgress) -> Vec<(i32, &str)> {
        progress.blocked_partitions.iter().map(|(index, why)| (*index, why.as_str())).collect()
    }

    #[test]
    fn what_lasts_is_a_reason_with_its_present_cause_until_the_partition_is_read() {
        let mut progress = KafkaProgress::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        progress.failed(3, "no leader".into(), at(0));
        assert!(!progress.publish_faults(at(4)));
        progress.failed(3, "connection refused".into(), at(4));
        assert_eq!(progress.faults.due(), Some(at(5)));
        assert!(progress.publish_faults(at(5)));
        assert_eq!(reasons(&progress), [(3, "connection refused")]);
        progress.failed(3, "no answer".into(), at(9));
        assert_eq!(reasons(&progress), [(3, "no answer")]);
        assert_eq!((progress.faults.tries(3), progress.faults.due()), (3, None));
        assert!(progress.readable([3, 4]));
        assert_eq!((reasons(&progress), progress.faults.tries(3)), (vec![], 0));
    }

    #[test]
    fn what_was_over_in_between_begins_anew() {
        let mut progress = KafkaProgress::default();
        let start = Instant::now();
        progress.failed(0, "moved".into(), start);
        progress.readable([0]);
        progress.failed(0, "moved".into(), start + Duration::from_secs(4));
        assert!(!progress.publish_faults(start + Duration::from_secs(8)));
        progress.blocked_by(1, "no right".into(), start);
        assert_eq!(reasons(&progress), [(1, "no right")]);
    }

    #[test]
    fn pauses_grow_and_end_at_five_seconds() {
        assert_eq!([0, 1, 2, 5, 6, 400].map(|tries| pause_after(tries).as_millis()), [250, 250, 500, 4000, 5000, 5000]);
    }
}
