//! Asks the leaders every few seconds where the logs of the partitions held end, whether or not anything is fetched: lag
//! must be known above all when nothing moves.
//!
//! Connections of its own, one to each leader, at most one request under way on each: a fetch that waits, or a pipeline
//! that holds back, delays nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, warn};

use crate::backoff::Backoff;
use crate::config::HostPort;
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::{ConnectOptions, Connection};
use crate::kafka::error::KafkaError;
use crate::kafka::protocol::list_offsets::{ALL, LATEST, ListOffsetsRequest, ListOffsetsResponse};
use crate::progress::KafkaProgress;

/// Between two rounds of questions.
const INTERVAL: Duration = Duration::from_secs(3);
/// The limit of connecting, and of each question.
const LIMIT: Duration = Duration::from_secs(4);
/// Leaders are looked up again after this long.
const METADATA_INTERVAL: Duration = Duration::from_secs(30);
/// The pauses before a leader that failed is asked again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Publishes the ends of the partitions held, as long as the program runs. May be cancelled.
pub async fn watch_ends(cluster: Cluster, topic: String, progress: watch::Sender<KafkaProgress>) {
    let mut ends = Ends {
        cluster: cluster.within(LIMIT),
        topic,
        progress,
        leader_of: BTreeMap::new(),
        looked: None,
        leaders: BTreeMap::new(),
        failure: None,
    };
    loop {
        sleep(INTERVAL).await;
        let held: BTreeSet<i32> = ends.progress.borrow().partitions.iter().copied().collect();
        let outcome = if held.is_empty() { Ok(()) } else { ends.round(&held).await };
        ends.publish(&held, outcome);
    }
}

#[derive(Debug)]
struct Ends {
    cluster: Cluster,
    topic: String,
    progress: watch::Sender<KafkaProgress>,
    leader_of: BTreeMap<i32, i32>,
    /// When the leaders were looked up; `None` when they have to be.
    looked: Option<Instant>,
    leaders: BTreeMap<i32, Leader>,
    /// As logged last.
    failure: Option<String>,
}

#[derive(Debug)]
struct Leader {
    address: HostPort,
    /// Away while a question is under way.
    connection: Option<Connection>,
    backoff: Backoff,
    not_before: Instant,
}

/// What became of a question.
struct Asked {
    node: i32,
    answer: Result<(Connection, BTreeMap<i32, i64>), KafkaError>,
}

impl Ends {
    /// Asks each leader that is due; the last failure when there was one.
    async fn round(&mut self, held: &BTreeSet<i32>) -> Result<(), KafkaError> {
        let unknown = held.iter().any(|partition| !self.leader_of.contains_key(partition));
        if unknown || self.looked.is_none_or(|at| at.elapsed() >= METADATA_INTERVAL) {
            self.look_up().await?;
        }
        let mut asking = self.ask(held);
        let mut failed = Ok(());
        while let Some(done) = asking.join_next().await {
            match done {
                Ok(Asked { node, answer: Ok((connection, found)) }) => {
                    if let Some(leader) = self.leaders.get_mut(&node) {
                        leader.connection = Some(connection);
                        leader.backoff.reset();
                    }
                    self.progress.send_modify(|progress| progress.log_ends.extend(found));
                }
                Ok(Asked { node, answer: Err(error) }) => {
                    if let Some(leader) = self.leaders.get_mut(&node) {
                        leader.not_before = Instant::now() + leader.backoff.pause();
                    }
                    self.looked = None;
                    failed = Err(error);
                }
                Err(panic) => error!(%panic, "a question for the ends of logs ended without a result"),
            }
        }
        failed
    }

    async fn look_up(&mut self) -> Result<(), KafkaError> {
        let answer = self.cluster.metadata(&[&self.topic]).await?;
        let topic = answer.topics.into_iter().find(|topic| topic.name == self.topic);
        let partitions = topic.map_or_else(Vec::new, |topic| topic.partitions);
        let led = partitions.iter().filter(|partition| partition.leader >= 0);
        self.leader_of = led.map(|partition| (partition.index, partition.leader)).collect();
        let nodes: BTreeSet<i32> = self.leader_of.values().copied().collect();
        self.leaders.retain(|node, _| nodes.contains(node));
        for node in nodes {
            let address = self.cluster.address(node)?;
            // A leader that has moved is another one.
            if self.leaders.get(&node).is_none_or(|leader| leader.address != address) {
                let backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
                self.leaders.insert(node, Leader { address, connection: None, backoff, not_before: Instant::now() });
            }
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    fn ask(&mut self, held: &BTreeSet<i32>) -> JoinSet<Asked> {
        let (now, mut asking) = (Instant::now(), JoinSet::new());
        for (node, leader) in self.leaders.iter_mut().filter(|(_, leader)| now >= leader.not_before) {
            let led = self.leader_of.iter().filter(|(partition, at)| *at == node && held.contains(partition));
            let partitions: Vec<i32> = led.map(|(partition, _)| *partition).collect();
            if partitions.is_empty() {
                continue;
            }
            let (node, address, connection) = (*node, leader.address.clone(), leader.connection.take());
            let (options, topic) = (self.cluster.options().clone(), self.topic.clone());
            asking.spawn(async move {
                let answer = ends_at(connection, &address, &options, &topic, &partitions).await;
                Asked { node, answer }
            });
        }
        asking
    }

    fn publish(&mut self, held: &BTreeSet<i32>, outcome: Result<(), KafkaError>) {
        let failure = outcome.err().map(|error| error.to_string());
        if let Some(cause) = failure.as_ref().filter(|cause| self.failure.as_ref() != Some(cause)) {
            warn!(cause, "cannot ask where the log ends; the lag of its partitions is as of the last answer");
        }
        self.failure.clone_from(&failure);
        let now = Instant::now();
        self.progress.send_modify(|progress| {
            progress.log_ends.retain(|partition, _| held.contains(partition));
            if failure.is_none() && held.iter().all(|partition| progress.log_ends.contains_key(partition)) {
                progress.log_ends_at = Some(now);
            }
            progress.lag_failure = failure;
        });
    }
}

async fn ends_at(
    connection: Option<Connection>,
    address: &HostPort,
    options: &ConnectOptions,
    topic: &str,
    partitions: &[i32],
) -> Result<(Connection, BTreeMap<i32, i64>), KafkaError> {
    let connection = match connection {
        Some(connection) => connection,
        None => Connection::open(address, options).await?,
    };
    // No leader epoch: what is asked for is where this broker's log ends.
    let asked: Vec<(i32, i32)> = partitions.iter().map(|partition| (*partition, -1)).collect();
    let request = ListOffsetsRequest { isolation: ALL, topic, partitions: &asked, timestamp: LATEST };
    let answer = connection.request(request, options.round_trip.limit(LIMIT)).await?;
    let ends = ends_of(&answer, partitions).map_err(|fault| match fault {
        Fault::Code(code) => KafkaError::Code { peer: address.to_string(), api: "ListOffsets", code },
        Fault::Unasked(what) => KafkaError::unasked(address, "ListOffsets", what),
    })?;
    debug!(broker = %address, partitions = ends.len(), "asked where the log ends");
    Ok((connection, ends))
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Code(i16),
    Unasked(String),
}

fn ends_of(answer: &ListOffsetsResponse, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, Fault> {
    let listed: BTreeMap<i32, i64> = answer.partitions.iter().map(|listed| (listed.partition, listed.offset)).collect();
    if listed.len() != answer.partitions.len() || !listed.keys().eq(partitions) {
        return Err(Fault::Unasked(format!("partitions {:?} for {partitions:?}", listed.keys())));
    }
    match answer.partitions.iter().find(|listed| listed.error != 0) {
        Some(refused) => Err(Fault::Code(refused.error)),
        None if listed.values().any(|end| *end < 0) => Err(Fault::Unasked("a log that ends below 0".to_owned())),
        None => Ok(listed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::protocol::list_offsets::ListedOffset;

    #[test]
    fn every_end_asked_for_and_no_other() {
        let answer = |ends: &[(i32, i16, i64)]| {
            let listed = |(partition, error, offset): &(i32, i16, i64)| ListedOffset {
                partition: *partition,
                error: *error,
                offset: *offset,
                leader_epoch: -1,
            };
            ListOffsetsResponse { topics: vec!["t".to_owned()], partitions: ends.iter().map(listed).collect() }
        };
        let ends = |of: &[(i32, i16, i64)]| ends_of(&answer(of), &[0, 2]);
        assert_eq!(ends(&[(2, 0, 7), (0, 0, 0)]), Ok(BTreeMap::from([(0, 0), (2, 7)])));
        assert_eq!(ends(&[(0, 0, 1), (2, 6, -1)]), Err(Fault::Code(6)));
        for bad in
            [&[(0, 0, 1)][..], &[(0, 0, 1), (2, 0, 1), (2, 0, 3)], &[(0, 0, 1), (1, 0, 1)], &[(0, 0, 1), (2, 0, -1)]]
        {
            assert!(matches!(ends(bad), Err(Fault::Unasked(_))), "{bad:?}");
        }
    }
}
