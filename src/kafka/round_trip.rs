//! How long the brokers' round trips take, and time limits that grow with them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The round trip as measured lately, shared by all connections with the same options. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RoundTrip(Arc<Mutex<Samples>>);

#[derive(Debug, Default)]
struct Samples {
    /// The latest, in a ring.
    taken: [Duration; KEPT],
    count: usize,
}

/// The least of so many is the round trip: one answer of a broker that was frozen meanwhile says nothing of the link.
const KEPT: usize = 8;
/// Limits are at least this many round trips.
const LEAST_ROUND_TRIPS: u32 = 5;

impl RoundTrip {
    /// A request was answered after this long.
    pub fn note(&self, took: Duration) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = samples.count % KEPT;
        samples.taken[at] = took;
        samples.count += 1;
    }

    /// The estimate; zero before the first answer.
    pub fn estimate(&self) -> Duration {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.taken.iter().take(samples.count).min().copied().unwrap_or_default()
    }

    /// A limit that is meant for links below a second, grown to at least five round trips.
    pub fn limit(&self, usual: Duration) -> Duration {
        usual.max(self.estimate() * LEAST_ROUND_TRIPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_link_and_not_with_one_late_answer() {
        let (usual, ms) = (Duration::from_secs(5), Duration::from_millis);
        let link = RoundTrip::default();
        assert_eq!(link.limit(usual), usual);
        link.note(ms(8_000));
        link.note(ms(20));
        assert_eq!((link.estimate(), link.limit(usual)), (ms(20), usual));
        for _ in 0..KEPT {
            link.note(ms(2_500));
        }
        assert_eq!(link.limit(usual), ms(12_500), "the link has changed");
    }
}
