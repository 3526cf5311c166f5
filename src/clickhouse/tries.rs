//! The attempts at one insert: how long to pause, when to give up, and what to say.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::error::{Failure, Outcome};
use super::inserter::{Ended, Insert};
use crate::backoff::Backoff;
use crate::fence::Fence;
use crate::progress::InsertProgress;

/// Failed attempts that are no more than a WARNING.
const QUICK: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const FIRST_OVERLOADED: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause a server may ask for.
const MAX_ASKED: Duration = Duration::from_secs(300);
const LOG_EVERY: Duration = Duration::from_secs(60);
/// The longest pause once the program or the group waits for an outcome.
const HURRIED_PAUSE: Duration = Duration::from_millis(500);
/// How long connections must have been refused before an unknown outcome is waited for no longer.
const REFUSED_LIMIT: Duration = Duration::from_secs(3);
pub(super) const NOT_OURS: &str = "the partitions are no longer this member's";

/// The attempts at one insert.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) made: u32,
    /// One of them may have stored the rows, or may still.
    pub(super) unknown: bool,
    /// When the last of those was sent.
    pub(super) doubtful_at: Option<Instant>,
    pub(super) pinned: bool,
    /// Since when nobody has listened there, without anything else in between.
    refused_since: Option<Instant>,
    usual: Backoff,
    overloaded: Backoff,
    logged: Option<Instant>,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self {
            made: 0,
            unknown: false,
            doubtful_at: None,
            pinned: false,
            refused_since: None,
            usual: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            overloaded: Backoff::new(FIRST_OVERLOADED, MAX_PAUSE),
            logged: None,
        }
    }

    pub(super) fn forgotten(&self, why: &'static str) -> Ended {
        Ended::Forgotten { why, on_wire_unknown: self.unknown }
    }

    /// From when on the table can be asked what it holds of a refused insert: an attempt whose answer did not come may
    /// still be under way there, for as long as the server was told to work on it.
    pub(super) fn ask_at(&self, failure: &Failure, limit: Duration) -> Option<Instant> {
        let earlier = self.doubtful_at.map(|at| at + limit);
        if failure.nothing_stored { earlier } else { earlier.max(Some(Instant::now())) }
    }

    pub(super) fn note_refusal(&mut self, failure: &Failure) {
        let now = Instant::now();
        self.refused_since = failure.is_refused().then(|| self.refused_since.unwrap_or(now));
    }

    /// Waits for the next attempt, which comes at once when the server answers again, that is, more often than `returned`; `Some` when there is to be none, and
    /// why.
    pub(super) async fn rest(
        &self,
        pause: Duration,
        fence: &mut Fence,
        stop: &mut watch::Receiver<bool>,
        progress: &mut watch::Receiver<InsertProgress>,
        returned: u64,
    ) -> Option<&'static str> {
        tokio::select! {
            biased;
            () = stopped(stop) => {}
            () = fence.broken() => return Some(NOT_OURS),
            () = returned_since(progress, returned) => return None,
            () = sleep(pause) => return None,
        }
        if !self.unknown {
            return Some("stopping");
        }
        if self.refused_since.is_some_and(|since| since.elapsed() >= REFUSED_LIMIT) {
            return Some("stopping, and ClickHouse refuses connections");
        }
        tokio::select! {
            () = fence.broken() => Some(NOT_OURS),
            () = sleep(pause.min(HURRIED_PAUSE)) => None,
        }
    }

    pub(super) fn pause(&mut self, failure: &Failure) -> Duration {
        let pause = match failure.outcome {
            Outcome::Overloaded => self.overloaded.pause(),
            _ => self.usual.pause(),
        };
        pause.max(failure.retry_after.unwrap_or_default().min(MAX_ASKED))
    }

    /// Whether a person should look at it by now, and the sentence for that person.
    pub(super) fn blocked(&self, failure: &Failure) -> Option<String> {
        let blocked = self.made > QUICK || failure.outcome == Outcome::Misconfigured;
        blocked.then(|| format!("nothing can be stored: {failure}; {}", failure.cure()))
    }

    /// The first tries are WARNINGs, one each: nothing is lost. Then an ERROR at once and every minute.
    pub(super) fn log(&mut self, failure: &Failure, insert: &Insert, pause: Duration) {
        let (attempts, rows) = (self.made, insert.block.rows);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let cure = failure.cure();
        if self.blocked(failure).is_none() {
            tracing::warn!(attempts, rows, pause_ms, cause = %failure, "the insert failed; trying again");
        } else if self.logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            tracing::error!(attempts, rows, pause_ms, cause = %failure, cure, "nothing can be stored; trying on");
        }
    }
}

/// Returns once the server answers again. May be cancelled.
async fn returned_since(progress: &mut watch::Receiver<InsertProgress>, before: u64) {
    if progress.wait_for(|progress| progress.returned != before).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns once it is time to stop; a closed channel is no order to stop. May be cancelled.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
