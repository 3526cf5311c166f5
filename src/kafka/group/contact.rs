//! What proves that the group's coordinator lives: its answers, never an attempt.
//!
//! While a JoinGroup or SyncGroup waits, as it may for as long as the rebalance timeout, the coordinator says nothing. A
//! small request on a connection of its own then tells whether it is alive.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::config::HostPort;
use crate::kafka::connection::{ConnectOptions, Connection};
use crate::kafka::error::KafkaError;
use crate::kafka::protocol::find_coordinator::FindCoordinatorRequest;
use crate::kafka::round_trip::RoundTrip;
use crate::progress::KafkaProgress;

/// The limit of connecting to the coordinator and of requests that it does not wait with, on links below a second. Below
/// [`CONTACT_LIMIT`], so that what began in an outage does not outlast it by more than this.
pub(super) const QUICK_LIMIT: Duration = Duration::from_secs(5);
/// An OffsetCommit may wait for the coordinator's followers: offsets.commit.timeout.ms is 5 s.
pub(super) const COMMIT_LIMIT: Duration = Duration::from_secs(7);
/// How long after its last answer the coordinator counts as away.
const CONTACT_LIMIT: Duration = Duration::from_secs(8);
/// The longest time between two answers of a coordinator that is well.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// What a failed attempt was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Finding the coordinator, connecting and logging in.
    Connect,
    /// JoinGroup or SyncGroup.
    Gather,
    /// Metadata or OffsetFetch, without which a member cannot begin.
    Begin,
    /// Heartbeat.
    Heartbeat,
    /// OffsetCommit.
    Commit,
    /// The small request.
    Probe,
}

/// The contact with the coordinator, as published.
#[derive(Debug)]
pub(super) struct Contact {
    round_trip: RoundTrip,
    proven_at: Option<Instant>,
    /// Attempts whose last outcome was a failure, the latest last.
    failures: Vec<Failure>,
    progress: watch::Sender<KafkaProgress>,
}

#[derive(Debug)]
struct Failure {
    attempt: Attempt,
    cause: String,
    /// Every new cluster answers so for a moment.
    passing: bool,
}

impl Contact {
    pub(super) fn new(round_trip: RoundTrip, progress: watch::Sender<KafkaProgress>) -> Self {
        Self { round_trip, proven_at: None, failures: Vec::new(), progress }
    }

    /// The coordinator answered what only a living one answers.
    pub(super) fn proven(&mut self) {
        let now = Instant::now();
        self.proven_at = Some(now);
        let (limit, round_trip) = (self.limit(), self.round_trip.estimate());
        self.progress.send_modify(|progress| {
            progress.good_until = Some(now + limit);
            progress.contact_limit = limit;
            progress.round_trip = Some(round_trip);
        });
    }

    /// An attempt went well.
    pub(super) fn succeeded(&mut self, attempt: Attempt) {
        let before = self.failures.len();
        // Whoever has a place in the group has left behind what was in the way.
        self.failures.retain(|failure| failure.attempt != attempt && attempt != Attempt::Gather);
        if self.failures.len() != before {
            self.publish();
        }
    }

    /// An attempt failed, or was answered with a code that means so.
    pub(super) fn failed(&mut self, attempt: Attempt, cause: &str, passing: bool) {
        self.failures.retain(|failure| failure.attempt != attempt);
        self.failures.push(Failure { attempt, cause: cause.to_owned(), passing });
        if !passing {
            self.progress.send_modify(|progress| progress.errors += 1);
        }
        self.publish();
    }

    fn publish(&self) {
        let last = self.failures.last();
        let (failure, passing) = (last.map(|last| last.cause.clone()), last.is_some_and(|last| last.passing));
        self.progress.send_if_modified(|progress| {
            let changed = progress.failure != failure;
            progress.failure = failure;
            progress.failure_passes = passing;
            changed
        });
    }

    /// The limit in force.
    pub(super) fn limit(&self) -> Duration {
        self.round_trip.limit(CONTACT_LIMIT)
    }

    /// When a coordinator that has been quiet should be asked whether it lives.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.proven_at.map(|at| at + PROBE_INTERVAL)
    }

    /// Asks small questions while the coordinator lets a request of ours wait. Returns once it has been silent for the
    /// limit: what waits at it is lost. May be cancelled.
    pub(super) async fn lost(&mut self, peer: &HostPort, options: &ConnectOptions, group_id: &str) -> KafkaError {
        let mut connection = None;
        let mut alive = Instant::now();
        loop {
            sleep(PROBE_INTERVAL).await;
            match probe(&mut connection, peer, options, group_id).await {
                Ok(()) => {
                    alive = Instant::now();
                    self.proven();
                    self.succeeded(Attempt::Probe);
                }
                Err(error) => {
                    debug!(%error, "the coordinator does not answer while a request waits at it");
                    connection = None;
                    self.failed(Attempt::Probe, &error.to_string(), false);
                    if alive.elapsed() + PROBE_INTERVAL > self.limit() {
                        return error;
                    }
                }
            }
        }
    }
}

/// Asks the coordinator's broker whether it knows the group's coordinator.
async fn probe(
    connection: &mut Option<Connection>,
    peer: &HostPort,
    options: &ConnectOptions,
    group_id: &str,
) -> Result<(), KafkaError> {
    let open = match connection.take() {
        Some(open) => open,
        None => Connection::open(peer, options).await?,
    };
    ask(&open, options, group_id).await?;
    *connection = Some(open);
    Ok(())
}

/// The small request: it costs a broker nothing, and needs no right that a member does not have anyway.
pub(super) async fn ask(open: &Connection, options: &ConnectOptions, group_id: &str) -> Result<(), KafkaError> {
    let limit = options.round_trip.limit(QUICK_LIMIT);
    let answer = open.request(FindCoordinatorRequest { group_id }, limit).await?;
    match answer.error {
        0 => Ok(()),
        code => Err(KafkaError::no_coordinator(open.peer(), group_id, code)),
    }
}
