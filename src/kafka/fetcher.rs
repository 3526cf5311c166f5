//! Fetching the partitions of one assignment: which broker leads which, one fetch under way at each, and what to do
//! when a broker says no.
//!
//! One task owns all of it and is ended with its assignment, so nothing of an earlier assignment can come through its
//! channel. A leader's state travels into its fetch and back, so that between fetches partitions move freely.

mod troubles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::backoff::Backoff;
use crate::config::HostPort;
use crate::kafka::cluster::Cluster;
use crate::kafka::epochs::UNKNOWN_EPOCH;
use crate::kafka::error::{KafkaError, code_name};
use crate::kafka::faults::TOLERATED;
use crate::kafka::fetching::{FetchSettings, Fetched, Rewind, Stage};
use crate::kafka::group::Assignment;
use crate::kafka::leader::{Cycle, Leader, Place};
use crate::kafka::protocol::metadata::{MetadataResponse, PartitionMetadata, TopicMetadata};
use crate::kafka::round_trip::RoundTrip;
use crate::progress::KafkaProgress;

/// The task.
#[derive(Debug)]
pub struct Fetcher {
    settings: Arc<FetchSettings>,
    assignment: Arc<Assignment>,
    progress: watch::Sender<KafkaProgress>,
    out: mpsc::Sender<Fetched>,
    rewinds: mpsc::Receiver<Rewind>,
    /// Away while a metadata request is under way.
    cluster: Option<Cluster>,
    metadata: Metadata,
    leaders: BTreeMap<i32, Leader>,
    /// Partitions that are at no leader, and until when they wait.
    parked: BTreeMap<i32, (Stage, Instant)>,
    /// Rewinds of partitions whose leader is away on a fetch.
    pending: BTreeMap<i32, Rewind>,
    running: JoinSet<Done>,
    away: BTreeMap<i32, Away>,
    /// The last answer about the topic was of another id than the assignment's: that broker, or the group, lags behind.
    /// Only what is asked for by id is asked for.
    foreign: bool,
    round_trip: RoundTrip,
}

/// What is known of a leader that is away on a fetch.
#[derive(Debug)]
struct Away {
    /// Since when an answer is waited for, `None` while none is.
    asked: watch::Receiver<Option<Instant>>,
    address: HostPort,
    partitions: Vec<i32>,
}

#[derive(Debug)]
struct Metadata {
    leaders: BTreeMap<i32, Home>,
    /// The newest leader epoch that any broker told, by partition.
    newest: BTreeMap<i32, i32>,
    /// When to ask again.
    due: Instant,
    /// Not before that: what fails for many partitions at once is one question.
    not_before: Instant,
    backoff: Backoff,
}

/// Where a partition is led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    node: i32,
    /// Of that leader, -1 when the broker does not tell.
    epoch: i32,
}

enum Done {
    Cycle(Leader, Cycle),
    Metadata(Cluster, Result<MetadataResponse, KafkaError>),
}

const METADATA_INTERVAL: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether a fault has become a reason.
const LOOK: Duration = Duration::from_secs(1);

impl Metadata {
    /// Takes the leaders of an answer. A broker that names an older leader of a partition than one before lags behind, unless
    /// the topic may be another one (`same_topic` false): its word on that partition does not count.
    fn learn(&mut self, partitions: &[PartitionMetadata], same_topic: bool) {
        let mut leaders = BTreeMap::new();
        for partition in partitions.iter().filter(|partition| partition.leader >= 0) {
            let (index, epoch) = (partition.index, partition.leader_epoch);
            let newest = self.newest.entry(index).or_insert(epoch);
            if epoch < *newest && epoch != UNKNOWN_EPOCH && same_topic {
                debug!(partition = index, epoch, newest, "the metadata names an older leader; ignored");
                leaders.extend(self.leaders.get(&index).map(|home| (index, *home)));
                continue;
            }
            *newest = epoch;
            leaders.insert(index, Home { node: partition.leader, epoch });
        }
        self.leaders = leaders;
    }

    fn node(&self, partition: i32) -> Option<i32> {
        self.leaders.get(&partition).map(|home| home.node)
    }

    fn epoch(&self, partition: i32) -> Option<i32> {
        self.leaders.get(&partition).map(|home| home.epoch)
    }
}

impl Fetcher {
    /// A fetcher for an assignment, whose partitions stand as `stages` says. What it finds comes out of the first channel;
    /// the second takes rewinds.
    pub(super) fn new(
        settings: Arc<FetchSettings>,
        assignment: Assignment,
        stages: BTreeMap<i32, Stage>,
        cluster: Cluster,
        progress: watch::Sender<KafkaProgress>,
    ) -> (Self, mpsc::Receiver<Fetched>, mpsc::Sender<Rewind>) {
        // Starts are small and few; answers are bounded by the leaders' slots.
        let (out, fetched) = mpsc::channel(64);
        // Every partition may have to be read again at once, and once more before that is done.
        let (rewind, rewinds) = mpsc::channel(2 * stages.len().max(32));
        let now = Instant::now();
        let parked = stages.into_iter().map(|(index, stage)| (index, (stage, now))).collect();
        let round_trip = cluster.options().round_trip.clone();
        let fetcher = Self {
            round_trip,
            settings,
            assignment: Arc::new(assignment),
            progress,
            out,
            rewinds,
            cluster: Some(cluster),
            metadata: Metadata {
                leaders: BTreeMap::new(),
                newest: BTreeMap::new(),
                due: now,
                not_before: now,
                backoff: Backoff::new(PAUSE, Duration::from_secs(5)),
            },
            leaders: BTreeMap::new(),
            parked,
            pending: BTreeMap::new(),
            running: JoinSet::new(),
            away: BTreeMap::new(),
            foreign: false,
        };
        (fetcher, fetched, rewind)
    }

    /// Runs until it is aborted or nobody listens any more.
    pub async fn run(mut self) {
        while !self.out.is_closed() {
            let now = Instant::now();
            self.look_for_silent_leaders(now);
            self.progress.send_if_modified(|progress| progress.publish_faults(now));
            self.ask_metadata(now);
            self.settle(now);
            self.start_cycles(now);
            let due = self.next_due();
            tokio::select! {
                Some(done) = self.running.join_next() => match done {
                    Ok(Done::Cycle(leader, cycle)) => self.came_back(leader, cycle).await,
                    Ok(Done::Metadata(cluster, answer)) => self.learn(cluster, answer).await,
                    Err(panic) => error!(%panic, "a fetch task ended without a result"),
                },
                Some(rewind) = self.rewinds.recv() => self.rewind(rewind),
                () = sleep_until(due) => {}
            }
        }
    }

    fn next_due(&self) -> Instant {
        let far = Instant::now() + LOOK;
        // Partitions without a leader wait for metadata, those of a leader that is away for its return.
        let settles =
            |index: &i32| self.metadata.leaders.get(index).is_some_and(|home| !self.away.contains_key(&home.node));
        let parked = self.parked.iter().filter(|(index, (stage, _))| !stage.is_held() && settles(index));
        let parked = parked.map(|(_, (_, until))| *until);
        let parked = parked.min().unwrap_or(far);
        let leaders =
            self.leaders.values().filter(|leader| leader.may_ask(self.foreign)).map(|leader| leader.not_before);
        let metadata = self.metadata.due.max(self.metadata.not_before);
        let metadata = if self.cluster.is_some() { metadata } else { far };
        let floor = Instant::now() + Duration::from_millis(20);
        leaders.min().unwrap_or(far).min(parked).min(metadata).min(far).max(floor)
    }

    fn ask_metadata(&mut self, now: Instant) {
        if now < self.metadata.due.max(self.metadata.not_before) {
            return;
        }
        if let Some(mut cluster) = self.cluster.take() {
            self.metadata.not_before = now + PAUSE;
            let topic = self.settings.topic.clone();
            self.running.spawn(async move {
                let answer = cluster.metadata(&[&topic]).await;
                Done::Metadata(cluster, answer)
            });
        }
    }

    async fn learn(&mut self, mut cluster: Cluster, answer: Result<MetadataResponse, KafkaError>) {
        let now = Instant::now();
        let topic = answer.map_err(|error| format!("no metadata: {error}")).and_then(|answer| {
            let topic = answer.topics.into_iter().find(|topic| topic.name == self.settings.topic);
            match topic {
                Some(topic) if topic.error == 0 => Ok(topic),
                Some(topic) => Err(format!("a broker says of the topic: {}", code_name(topic.error))),
                None => Err("a broker says nothing of the topic".to_owned()),
            }
        });
        let topic = match topic {
            Ok(topic) => self.same_topic(topic).await,
            Err(cause) => Err(cause),
        };
        match topic {
            Ok(topic) => {
                let known = topic.partitions.iter().filter(|partition| cluster.address(partition.leader).is_ok());
                let known: Vec<PartitionMetadata> = known.cloned().collect();
                self.metadata.learn(&known, topic.id != 0);
                self.cluster = Some(cluster);
                let homeless = self.report_homeless(&topic.partitions, now);
                let pause = if homeless { self.metadata.backoff.pause() } else { METADATA_INTERVAL };
                if !homeless {
                    self.metadata.backoff.reset();
                }
                self.metadata.due = now + pause;
                for leader in self.leaders.values_mut() {
                    let home = leader.node;
                    let moved = leader.release(|index| self.metadata.node(index) != Some(home));
                    leader.learn_epochs(|index| self.metadata.epoch(index));
                    self.parked.extend(moved.into_iter().map(|place| (place.partition, (place.stage, now))));
                }
            }
            // What was known before stays: another broker may know better.
            Err(cause) => {
                self.count_error();
                debug!(cause, "no metadata of the topic");
                cluster.leave();
                self.cluster = Some(cluster);
                let homeless = self.parked.iter().filter(|(_, (stage, _))| !stage.is_held());
                let homeless: Vec<i32> = homeless.map(|(index, _)| *index).collect();
                self.progress.send_modify(|progress| {
                    for partition in homeless {
                        progress.failed(partition, cause.clone(), now);
                    }
                });
                self.metadata.due = now + self.metadata.backoff.pause();
            }
        }
        let stale: Vec<i32> =
            self.leaders.values().filter(|leader| self.is_elsewhere(leader)).map(|l| l.node).collect();
        for leader in stale.into_iter().filter_map(|node| self.leaders.remove(&node)).collect::<Vec<_>>() {
            self.replace(leader, now);
        }
    }

    /// Whether the metadata shows the topic of the assignment. A broker that lags behind shows the one of before, or the
    /// group does not know the new one yet: the fetches end only with the assignment.
    async fn same_topic(&mut self, topic: TopicMetadata) -> Result<TopicMetadata, String> {
        let (seen, own) = (topic.id, self.assignment.topic_id);
        let foreign = seen != own && seen != 0 && own != 0;
        if foreign != self.foreign {
            self.foreign = foreign;
            let name = &self.settings.topic;
            if foreign {
                warn!(topic = name, "a broker shows the topic with another id than the group's; asking others");
            }
            let word = if foreign { Fetched::Recreated } else { Fetched::SameTopic };
            if self.out.send(word).await.is_err() {
                debug!("nobody listens to the fetcher any more");
            }
        }
        if foreign {
            return Err(format!("a broker shows the topic with the id {seen:032x}, and the group's is {own:032x}"));
        }
        Ok(topic)
    }

    /// Takes note of the partitions that have no leader. True when there are any.
    fn report_homeless(&self, listed: &[PartitionMetadata], now: Instant) -> bool {
        let homeless = self.parked.keys().filter(|index| !self.metadata.leaders.contains_key(index));
        let homeless: Vec<(i32, String)> = homeless
            .map(|index| {
                let cause = match listed.iter().find(|partition| partition.index == *index) {
                    None => "the metadata lacks the partition".to_owned(),
                    Some(PartitionMetadata { leader, error, .. }) if *leader < 0 => {
                        format!("it has no leader: {}", code_name(*error))
                    }
                    Some(PartitionMetadata { leader, .. }) => {
                        format!("its leader is broker {leader}, which the metadata does not list")
                    }
                };
                (*index, cause)
            })
            .collect();
        let any = !homeless.is_empty();
        if any {
            self.progress.send_modify(|progress| {
                for (partition, cause) in homeless {
                    progress.failed(partition, cause, now);
                }
            });
        }
        any
    }

    /// Whether a broker is at another address than its leader here has.
    fn is_elsewhere(&self, leader: &Leader) -> bool {
        let address = self.cluster.as_ref().and_then(|cluster| cluster.address(leader.node).ok());
        address.is_some_and(|address| address != leader.address)
    }

    /// A leader has another address now: what it has goes to a new one.
    fn replace(&mut self, mut leader: Leader, now: Instant) {
        info!(broker = leader.node, before = %leader.address, "a leader is at another address now");
        for place in leader.release(|_| true) {
            self.parked.insert(place.partition, (place.stage, now));
        }
    }

    /// A leader that does not answer is no attempt that has failed yet.
    fn look_for_silent_leaders(&mut self, now: Instant) {
        let limit = self.settings.max_wait + self.round_trip.limit(TOLERATED);
        let silent = self.away.iter().filter(|(_, away)| away.asked.borrow().is_some_and(|since| now >= since + limit));
        let mut found = false;
        for (node, Away { address, partitions, .. }) in silent {
            found = true;
            let cause = format!("broker {node} at {address} does not answer");
            self.progress.send_if_modified(|progress| progress.silent(partitions, &cause, now - TOLERATED));
        }
        if found {
            // It may be at another address by now, or lead no longer.
            self.metadata.due = self.metadata.due.min(now);
        }
    }

    /// Brings parked partitions whose time has come to their leaders.
    fn settle(&mut self, now: Instant) {
        let ready: Vec<i32> = self
            .parked
            .iter()
            .filter(|(index, (stage, until))| {
                !stage.is_held() && now >= *until && self.metadata.leaders.contains_key(index)
            })
            .map(|(index, _)| *index)
            .collect();
        for partition in ready {
            let Some(Home { node, epoch }) = self.metadata.leaders.get(&partition).copied() else { continue };
            if self.away.contains_key(&node) {
                continue; // it comes home within the fetch's waiting time
            }
            let Some(cluster) = &self.cluster else { continue };
            let leader = match self.leaders.entry(node) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => match cluster.address(node) {
                    Ok(address) => entry.insert(Leader::new(node, address, cluster.options().clone())),
                    Err(_) => continue,
                },
            };
            if let Some((stage, _)) = self.parked.remove(&partition) {
                leader.places.push_back(Place { partition, stage, leader_epoch: epoch });
            }
        }
    }

    fn start_cycles(&mut self, now: Instant) {
        let ready: Vec<i32> = self
            .leaders
            .iter()
            .filter(|(_, leader)| leader.may_ask(self.foreign) && now >= leader.not_before)
            .map(|(node, _)| *node)
            .collect();
        let leaders = self.leaders.len() + self.away.len();
        for node in ready {
            let Some(leader) = self.leaders.remove(&node) else { continue };
            let partitions = leader.places.iter().map(|place| place.partition).collect();
            self.away.insert(node, Away { asked: leader.asked(), address: leader.address.clone(), partitions });
            let foreign = self.foreign;
            let settings = Arc::clone(&self.settings);
            let assignment = Arc::clone(&self.assignment);
            let out = self.out.clone();
            self.running.spawn(async move {
                let (leader, cycle) = leader.cycle(&settings, &assignment, foreign, leaders, &out).await;
                Done::Cycle(leader, cycle)
            });
        }
    }

    async fn came_back(&mut self, mut leader: Leader, cycle: Cycle) {
        let now = Instant::now();
        self.away.remove(&leader.node);
        if !cycle.ends.is_empty() {
            self.progress.send_modify(|progress| {
                progress.readable(cycle.ends.iter().map(|(partition, _)| *partition));
                progress.ends.extend(cycle.ends);
            });
        }
        if let Some(fault) = cycle.failed {
            self.count_error();
            let cause = fault.to_string();
            self.progress.send_modify(|progress| {
                for place in &leader.places {
                    progress.failed(place.partition, cause.clone(), now);
                }
            });
            if leader.failed(now) {
                warn!(broker = leader.node, error = %fault, "cannot fetch; trying again until it works");
            }
            self.metadata.due = self.metadata.due.min(now + PAUSE);
        }
        for (partition, start, epoch) in cycle.starts {
            self.started(&mut leader, partition, start, epoch, now).await;
        }
        for (partition, trouble) in cycle.troubles {
            self.trouble(&mut leader, partition, trouble, now);
        }
        for rewind in std::mem::take(&mut self.pending).into_values() {
            let moved = leader.release(|index| index == rewind.partition);
            if moved.is_empty() && !self.parked.contains_key(&rewind.partition) {
                self.pending.insert(rewind.partition, rewind);
            } else {
                self.park_rewound(rewind, now);
            }
        }
        let home = leader.node;
        let moved = leader.release(|index| self.metadata.node(index).is_some_and(|node| node != home));
        leader.learn_epochs(|index| self.metadata.epoch(index));
        self.parked.extend(moved.into_iter().map(|place| (place.partition, (place.stage, now))));
        if self.is_elsewhere(&leader) {
            return self.replace(leader, now);
        }
        self.leaders.insert(leader.node, leader);
    }

    fn rewind(&mut self, rewind: Rewind) {
        let now = Instant::now();
        let held = self.parked.contains_key(&rewind.partition);
        let home =
            self.leaders.values_mut().any(|leader| !leader.release(|index| index == rewind.partition).is_empty());
        if held || home {
            self.park_rewound(rewind, now);
        } else {
            self.pending.insert(rewind.partition, rewind);
        }
    }

    fn park_rewound(&mut self, rewind: Rewind, now: Instant) {
        let Rewind { partition, position, pause, blocked } = rewind;
        let before = self.parked.insert(partition, (Stage::At(position), now + pause));
        if before.is_some_and(|(stage, _)| stage.is_held()) {
            // Its commit was acknowledged.
            self.progress.send_if_modified(|progress| progress.readable([partition]));
        }
        if let Some(why) = blocked {
            self.block(partition, why);
        }
    }
}

#[cfg(test)]
#[path = "fetcher_tests.rs"]
mod tests;
