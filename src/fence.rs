//! What an insert attempt asks before it is sent: is this replica still the owner of these rows?
//!
//! A member of a consumer group that was away for longer than its session timeout (stopped, suspended, starved) has
//! lost its partitions without knowing it. Its late insert would double rows that the new owner inserts too.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How far the membership reaches, as the group's driver publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// Counts assignments: another number means that the partitions were taken away or given anew.
    pub epoch: u64,
    /// Last good heartbeat plus the session timeout.
    pub until: Instant,
    /// Last good heartbeat plus two intervals: from then on the coordinator is silent, and cannot take commits either.
    pub silent_from: Instant,
    /// The same on the clock that also counts suspended time ([`boot_clock`]).
    pub until_boot: Duration,
}

/// Valid while the epoch it was taken in is the current one and its session has not expired.
#[derive(Debug, Clone)]
pub struct Fence {
    tenure: watch::Receiver<Tenure>,
    epoch: u64,
}

impl Fence {
    /// A fence around the given epoch.
    pub fn new(tenure: watch::Receiver<Tenure>, epoch: u64) -> Self {
        Self { tenure, epoch }
    }

    /// Whether an insert may be sent now.
    pub fn holds(&self) -> bool {
        let tenure = *self.tenure.borrow();
        tenure.epoch == self.epoch && Instant::now() < tenure.until && boot_clock() < tenure.until_boot
    }

    /// Whether the coordinator is silent: nothing new is begun then, as no commit would be taken either; what is on the
    /// wire is finished.
    pub fn is_silent(&self) -> bool {
        Instant::now() >= self.tenure.borrow().silent_from
    }

    /// Returns once the epoch is over. Never returns while it lasts; an expired session shows in [`Fence::holds`] only.
    /// May be cancelled.
    pub async fn broken(&mut self) {
        let epoch = self.epoch;
        // A closed channel means that the group's driver has ended: nothing may be sent any more.
        if self.tenure.wait_for(|tenure| tenure.epoch != epoch).await.is_err() {
            tracing::debug!("the group driver has ended; the fence is down");
        }
    }
}

/// Time since boot including suspend (Linux: the first number of `/proc/uptime`), which [`Instant`] does not count.
/// Zero where it cannot be read: then only the monotonic clock decides.
pub fn boot_clock() -> Duration {
    let Ok(text) = std::fs::read_to_string("/proc/uptime") else { return Duration::ZERO };
    let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    seconds.map_or(Duration::ZERO, Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenure(epoch: u64, session: Duration) -> Tenure {
        let until = Instant::now() + session;
        Tenure { epoch, until, silent_from: until - session / 2, until_boot: boot_clock() + session }
    }

    #[tokio::test(start_paused = true)]
    async fn falls_with_the_session_and_with_the_epoch() {
        let (sender, receiver) = watch::channel(tenure(7, Duration::from_secs(30)));
        let mut fence = Fence::new(receiver.clone(), 7);
        assert!(fence.holds());
        assert!(!Fence::new(receiver, 6).holds());
        assert!(!fence.is_silent());
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(
            fence.holds() && fence.is_silent(),
            "silent for two intervals: nothing new, and what is on the wire ends"
        );
        tokio::time::advance(Duration::from_secs(15)).await;
        assert!(!fence.holds() && fence.is_silent(), "no good heartbeat for longer than the session");
        sender.send_replace(tenure(7, Duration::from_secs(30)));
        assert!(fence.holds());
        sender.send_replace(tenure(8, Duration::from_secs(30)));
        fence.broken().await;
        assert!(!fence.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_session_that_recovers_breaks_nothing() {
        let (sender, receiver) = watch::channel(tenure(7, Duration::from_secs(30)));
        let mut fence = Fence::new(receiver, 7);
        let mut broken = std::pin::pin!(fence.broken());
        for _ in 0..3 {
            let expired = tokio::time::timeout(Duration::from_secs(60), &mut broken).await;
            assert!(expired.is_err(), "the session expired, and the epoch goes on");
            sender.send_replace(tenure(7, Duration::from_secs(30)));
        }
        sender.send_replace(tenure(8, Duration::from_secs(30)));
        broken.await;
    }

    #[test]
    fn the_boot_clock_is_readable_here() {
        assert!(boot_clock() > Duration::ZERO);
    }
}
