//! The last net: events that are in the log and are not committed although nothing says why. Healthy means moving.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::progress::KafkaProgress;
use crate::reasons::{Class, Reason};

/// A fetch, an insert and a commit under way are given this many round trips to Kafka: more than they take, one after the
/// other and behind heartbeats.
const ROUND_TRIPS: u32 = 15;
/// How long beyond the age of a batch nothing at all may be committed while something could be.
const ALL_LIMIT: Duration = Duration::from_secs(15);
/// The same for a single partition while others move: with a backlog, partitions take turns.
const ONE_LIMIT: Duration = Duration::from_secs(60);

/// What each partition that lags was committed to, and since when.
#[derive(Debug)]
pub(crate) struct Movement {
    batch_age: Duration,
    lagging: BTreeMap<i32, (Option<i64>, Instant)>,
}

impl Movement {
    /// For batches that are closed after `batch_age` at the latest.
    pub(crate) fn new(batch_age: Duration) -> Self {
        Self { batch_age, lagging: BTreeMap::new() }
    }

    /// Takes what was published; a reason when events wait without one. `explained`: there is a reason already.
    pub(crate) fn observe(&mut self, kafka: &KafkaProgress, explained: bool, now: Instant) -> Option<Reason> {
        if explained {
            // Whatever waits then is given its time from the end of that reason on.
            self.lagging.clear();
            return None;
        }
        let before = std::mem::take(&mut self.lagging);
        for (partition, _) in kafka.lags().filter(|(partition, lag)| *lag > 0 && is_readable(kafka, *partition)) {
            let committed = kafka.committed.get(&partition).copied();
            let since = match before.get(&partition) {
                Some((same, since)) if *same == committed => *since,
                _ => now,
            };
            self.lagging.insert(partition, (committed, since));
        }
        let (newest, oldest) = (self.sinces().max()?, self.sinces().min()?);
        let slow = kafka.round_trip.unwrap_or_default() * ROUND_TRIPS;
        let (all, one) = (self.batch_age + ALL_LIMIT.max(slow), self.batch_age + ONE_LIMIT.max(slow));
        let limit = if now >= newest + all {
            all
        } else if now >= oldest + one {
            one
        } else {
            return None;
        };
        let waiting = self.lagging.iter().filter(|(_, (_, since))| now >= *since + limit);
        let partitions: Vec<String> = waiting.map(|(partition, _)| partition.to_string()).collect();
        Some(Reason {
            class: Class::Events,
            subject: "events".to_owned(),
            cause: format!("events of partitions {} are not committed, and nothing says why", partitions.join(", ")),
            action: "compare /status with the logs of the brokers and of ClickHouse, and restart this replica",
            failures: 0,
            waiting: false,
        })
    }

    fn sinces(&self) -> impl Iterator<Item = Instant> {
        self.lagging.values().map(|(_, since)| *since)
    }
}

/// Whether a partition that lags has something to read: what open transactions hold back is nobody's fault here. That is
/// known only of a log that was fetched to its end.
fn is_readable(kafka: &KafkaProgress, partition: i32) -> bool {
    let (Some(end), Some(log_end)) = (kafka.ends.get(&partition), kafka.log_ends.get(&partition)) else { return true };
    let read = kafka.committed.get(&partition).or_else(|| kafka.positions.get(&partition)).copied();
    let held_back = end.log >= *log_end && read.is_some_and(|read| end.readable <= read);
    !held_back
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::End;

    const AGE: Duration = Duration::from_secs(5);

    fn kafka(partitions: &[(i32, i64, i64)]) -> KafkaProgress {
        let mut kafka = KafkaProgress::default();
        for (partition, committed, end) in partitions {
            kafka.partitions.push(*partition);
            kafka.committed.insert(*partition, *committed);
            kafka.log_ends.insert(*partition, *end);
        }
        kafka
    }

    fn at(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_moves() {
        let (start, mut movement) = (Instant::now(), Movement::new(AGE));
        let stuck = kafka(&[(0, 5, 9), (1, 7, 7)]);
        assert_eq!(movement.observe(&stuck, false, start), None);
        assert_eq!(movement.observe(&stuck, false, at(19, start)), None);
        let reason = movement.observe(&stuck, false, at(20, start)).map(|reason| reason.text());
        assert!(reason.is_some_and(|text| text.contains("events of partitions 0 are not committed")));
        assert_eq!(movement.observe(&kafka(&[(0, 6, 9), (1, 7, 7)]), false, at(21, start)), None, "it moves");
        assert_eq!(movement.observe(&kafka(&[(0, 9, 9), (1, 7, 7)]), false, at(50, start)), None, "no lag");
        let far = KafkaProgress { round_trip: Some(Duration::from_secs(2)), ..stuck };
        for (second, waits) in [(60, false), (94, false), (95, true)] {
            let reason = movement.observe(&far, false, at(second, start));
            assert_eq!(reason.is_some(), waits, "a round trip of two seconds, {second}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_partition_does_not_move() {
        let (start, mut movement) = (Instant::now(), Movement::new(AGE));
        for second in 0_u32..65 {
            let moving = kafka(&[(0, 5, 9), (1, i64::from(second), 100)]);
            assert_eq!(movement.observe(&moving, false, at(second.into(), start)), None, "{second}");
        }
        let reason = movement.observe(&kafka(&[(0, 5, 9), (1, 65, 100)]), false, at(65, start)).map(|it| it.cause);
        assert!(reason.is_some_and(|cause| cause.contains("partitions 0 are")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_explained_or_held_by_a_transaction_is_no_reason() {
        let (start, mut movement) = (Instant::now(), Movement::new(AGE));
        let stuck = kafka(&[(0, 5, 9)]);
        assert_eq!(movement.observe(&stuck, false, start), None);
        assert_eq!(movement.observe(&stuck, true, at(30, start)), None);
        assert_eq!(movement.observe(&stuck, false, at(31, start)), None, "counted from the end of the other reason");
        assert!(movement.observe(&stuck, false, at(60, start)).is_some());
        let mut held = stuck;
        held.ends.insert(0, End { readable: 5, log: 9 });
        assert_eq!(movement.observe(&held, false, at(120, start)), None, "an open transaction");
        held.ends.insert(0, End { readable: 5, log: 5 });
        assert_eq!(movement.observe(&held, false, at(121, start)), None);
        assert!(movement.observe(&held, false, at(141, start)).is_some(), "what lies there was never fetched");
    }
}
