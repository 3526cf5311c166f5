//! Growing, jittered pauses between tries.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Doubles from `first` to `max`; each pause is drawn from the upper half of its step, so that replicas which failed
/// together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    seed: RandomState,
    drawn: u64,
}

impl Backoff {
    /// A backoff that starts at `first` and never exceeds `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first.min(max), seed: RandomState::new(), drawn: 0 }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        self.drawn += 1;
        // RandomState is keyed at random per process: enough for jitter, and no further crate.
        let mut hasher = self.seed.build_hasher();
        hasher.write_u64(self.drawn);
        let permille = u32::try_from(hasher.finish() % 501).unwrap_or(0);
        step / 2 + step * permille / 1000
    }

    /// Starts over, after something went well.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_limit_and_stays_within_half_a_step() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for step in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause();
            assert!(pause >= Duration::from_millis(step / 2), "{pause:?} of {step}");
            assert!(pause <= Duration::from_millis(step), "{pause:?} of {step}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }
}
