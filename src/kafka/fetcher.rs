//! Fetching the partitions of one assignment: which broker leads which, one fetch under way at each, and what to do
//! when a broker says no.
//!
//! One task owns all of it and is ended with its assignment, so nothing of an earlier assignment can come through its
//! channel. A leader's state travels into its fetch and back, so that between fetches partitions move freely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::backoff::Backoff;
use crate::kafka::cluster::Cluster;
use crate::kafka::epochs::UNKNOWN_EPOCH;
use crate::kafka::error::{KafkaError, code_name, read_acl};
use crate::kafka::fetching::{FetchSettings, Fetched, Rewind, Stage};
use crate::kafka::group::{Assignment, Committed};
use crate::kafka::leader::{Cycle, Leader, Place, Trouble};
use crate::kafka::protocol::metadata::{MetadataResponse, PartitionMetadata};
use crate::kafka::start::{Start, Why};
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
    away: Vec<i32>,
}

#[derive(Debug)]
struct Metadata {
    leaders: BTreeMap<i32, Home>,
    /// The newest leader epoch that any broker told, by partition.
    newest: BTreeMap<i32, i32>,
    /// When to ask again.
    due: Instant,
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

/// Whether the topic is still the one of the assignment, as far as the metadata tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Same,
    Recreated,
}

const METADATA_INTERVAL: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);
const LONG_PAUSE: Duration = Duration::from_secs(10);

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
        let fetcher = Self {
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
                backoff: Backoff::new(PAUSE, Duration::from_secs(5)),
            },
            leaders: BTreeMap::new(),
            parked,
            pending: BTreeMap::new(),
            running: JoinSet::new(),
            away: Vec::new(),
        };
        (fetcher, fetched, rewind)
    }

    /// Runs until it is aborted, nobody listens any more, or the topic is another one.
    pub async fn run(mut self) {
        self.progress.send_modify(|progress| progress.blocked_partitions.clear());
        while !self.out.is_closed() {
            let now = Instant::now();
            self.ask_metadata(now);
            self.settle(now);
            self.start_cycles(now);
            let due = self.next_due();
            tokio::select! {
                Some(done) = self.running.join_next() => match done {
                    Ok(Done::Cycle(leader, cycle)) => self.came_back(leader, cycle).await,
                    Ok(Done::Metadata(cluster, answer)) => {
                        if self.learn(cluster, answer) == Topic::Recreated {
                            return self.end().await;
                        }
                    }
                    Err(panic) => error!(%panic, "a fetch task ended without a result"),
                },
                Some(rewind) = self.rewinds.recv() => self.rewind(rewind),
                () = sleep_until(due) => {}
            }
        }
    }

    /// What was read meanwhile goes with the task: its offsets may mean other records now.
    async fn end(mut self) {
        self.running.abort_all();
        let topic = &self.settings.topic;
        warn!(topic, "the topic was created anew; nothing more is read of this assignment");
        if self.out.send(Fetched::Recreated).await.is_err() {
            debug!("nobody listens to the fetcher any more");
        }
    }

    fn next_due(&self) -> Instant {
        let far = Instant::now() + METADATA_INTERVAL;
        // Partitions without a leader wait for metadata, those of a leader that is away for its return.
        let settles =
            |index: &i32| self.metadata.leaders.get(index).is_some_and(|home| !self.away.contains(&home.node));
        let parked = self.parked.iter().filter(|(index, (stage, _))| !stage.is_held() && settles(index));
        let parked = parked.map(|(_, (_, until))| *until);
        let parked = parked.min().unwrap_or(far);
        let leaders = self.leaders.values().filter(|leader| !leader.places.is_empty()).map(|leader| leader.not_before);
        let metadata = if self.cluster.is_some() { self.metadata.due } else { far };
        let floor = Instant::now() + Duration::from_millis(20);
        leaders.min().unwrap_or(far).min(parked).min(metadata).max(floor)
    }

    fn ask_metadata(&mut self, now: Instant) {
        if now < self.metadata.due {
            return;
        }
        if let Some(mut cluster) = self.cluster.take() {
            let topic = self.settings.topic.clone();
            self.running.spawn(async move {
                let answer = cluster.metadata(&[&topic]).await;
                Done::Metadata(cluster, answer)
            });
        }
    }

    fn learn(&mut self, cluster: Cluster, answer: Result<MetadataResponse, KafkaError>) -> Topic {
        self.cluster = Some(cluster);
        let now = Instant::now();
        match answer {
            Ok(answer) => {
                let topic = answer.topics.into_iter().find(|topic| topic.name == self.settings.topic);
                let ids = (topic.as_ref().map_or(0, |topic| topic.id), self.assignment.topic_id);
                if ids.0 != ids.1 && ids.0 != 0 && ids.1 != 0 {
                    return Topic::Recreated;
                }
                let partitions = topic.map_or_else(Vec::new, |topic| topic.partitions);
                self.metadata.learn(&partitions, ids.0 != 0);
                let homeless = self.parked.keys().any(|index| !self.metadata.leaders.contains_key(index));
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
            Err(fault) => {
                self.count_error();
                debug!(error = %fault, "no metadata");
                self.metadata.due = now + self.metadata.backoff.pause();
            }
        }
        Topic::Same
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
            if self.away.contains(&node) {
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
            .filter(|(_, leader)| !leader.places.is_empty() && now >= leader.not_before)
            .map(|(node, _)| *node)
            .collect();
        let leaders = self.leaders.len() + self.away.len();
        for node in ready {
            let Some(leader) = self.leaders.remove(&node) else { continue };
            self.away.push(node);
            let settings = Arc::clone(&self.settings);
            let assignment = Arc::clone(&self.assignment);
            let out = self.out.clone();
            self.running.spawn(async move {
                let (leader, cycle) = leader.cycle(&settings, &assignment, leaders, &out).await;
                Done::Cycle(leader, cycle)
            });
        }
    }

    async fn came_back(&mut self, mut leader: Leader, cycle: Cycle) {
        let now = Instant::now();
        self.away.retain(|node| *node != leader.node);
        if !cycle.ends.is_empty() {
            self.progress.send_modify(|progress| progress.ends.extend(cycle.ends));
        }
        if let Some(fault) = cycle.failed {
            self.count_error();
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
        self.leaders.insert(leader.node, leader);
    }

    async fn started(&mut self, leader: &mut Leader, partition: i32, start: Start, epoch: i32, now: Instant) {
        match start {
            Start::At { offset, why } => {
                log_start(partition, offset, why);
                let (cuts, lost) = match why {
                    Why::Deleted { lost, .. } => (0, lost),
                    Why::Cut { lost, .. } => (1, lost),
                    _ => (0, 0),
                };
                let lost = u64::try_from(lost).unwrap_or(0);
                self.progress.send_modify(|progress| {
                    progress.errors += lost + cuts;
                    progress.log_cuts += cuts;
                });
                self.progress.send_modify(|progress| {
                    progress.blocked_partitions.remove(&partition);
                });
                let held = leader.places.iter().any(|place| place.partition == partition && place.stage.is_held());
                if held {
                    self.park(leader, partition, now);
                }
                if self.out.send(Fetched::Start { partition, offset, epoch, held }).await.is_err() {
                    debug!("nobody listens to the fetcher any more");
                }
            }
            Start::Wait { why } => {
                error!(partition, why, "the partition waits");
                self.park(leader, partition, now + METADATA_INTERVAL);
                self.block(partition, why);
            }
        }
    }

    fn trouble(&mut self, leader: &mut Leader, partition: i32, trouble: Trouble, now: Instant) {
        self.count_error();
        match trouble {
            Trouble::OutOfRange { position } => {
                warn!(partition, position, "the position is outside the log; asking where the log is");
                let epoch = leader.epoch_of(partition);
                let known = Committed { offset: position, leader_epoch: epoch, note: None };
                leader.set_stage(partition, Stage::Unresolved(Some(known)));
                // Not before new metadata: the topic may be another one by now.
                self.park(leader, partition, now);
                self.metadata.leaders.remove(&partition);
                self.metadata.due = self.metadata.due.min(now);
            }
            Trouble::TooLarge { position, limit } => {
                let why = format!(
                    "the record batch of partition {partition} at offset {position} does not fit into {limit} bytes; \
                     raise MEMORY_BUDGET_BYTES"
                );
                error!(partition, offset = position, limit, "{why}");
                self.park(leader, partition, now + METADATA_INTERVAL);
                self.block(partition, why);
            }
            Trouble::Unreadable => self.park(leader, partition, now + METADATA_INTERVAL),
            Trouble::Code(code) => {
                debug!(partition, code = code_name(code), broker = leader.node, "cannot fetch a partition");
                let pause = match code {
                    29 => {
                        let topic = &self.settings.topic;
                        let why = format!("no right to read the topic {topic}; grant it: {}", read_acl(topic));
                        error!(partition, why, "the partition waits");
                        self.block(partition, why);
                        LONG_PAUSE
                    }
                    // The leader moved, is being elected, or the topic (of this id) is gone: the metadata will tell.
                    _ => {
                        self.metadata.leaders.remove(&partition);
                        self.metadata.due = self.metadata.due.min(now);
                        PAUSE
                    }
                };
                self.park(leader, partition, now + pause);
            }
        }
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
        self.parked.insert(partition, (Stage::At(position), now + pause));
        if let Some(why) = blocked {
            self.block(partition, why);
        }
    }

    fn park(&mut self, leader: &mut Leader, partition: i32, until: Instant) {
        for place in leader.release(|index| index == partition) {
            self.parked.insert(partition, (place.stage, until));
        }
    }

    fn block(&self, partition: i32, why: String) {
        self.progress.send_modify(|progress| {
            progress.blocked_partitions.insert(partition, why);
        });
    }

    fn count_error(&self) {
        self.progress.send_modify(|progress| progress.errors += 1);
    }
}

fn log_start(partition: i32, offset: i64, why: Why) {
    match why {
        Why::Committed => info!(partition, offset, "starts at the committed offset"),
        Why::Earliest => info!(partition, offset, "no committed offset: starts at the log's start (earliest)"),
        Why::Latest => info!(partition, offset, "no committed offset: starts at the log's end (latest)"),
        Why::NewPartition => info!(partition, offset, "a new partition: starts at the log's start"),
        Why::Deleted { committed, lost } => error!(
            partition,
            offset,
            committed,
            lost,
            "the log was deleted up to behind the committed offset: these offsets are lost; goes on at the log's start"
        ),
        Why::Cut { position, epoch, end, end_epoch, lost } => error!(
            partition,
            offset,
            position,
            position_epoch = epoch,
            log_end = end,
            end_epoch,
            lost,
            "the log was cut below what was read already (an unclean election, or a broker lost data): records between the \
             two offsets are stored and no longer in Kafka; goes on at the cut"
        ),
        Why::BeyondEnd { committed, end } => error!(
            partition,
            offset,
            committed,
            end,
            "the committed offset lies behind the log's end: the log was cut; goes on at the log's start"
        ),
        Why::Recreated { committed } => {
            error!(partition, offset, committed, "the topic was created anew; goes on at the log's start");
        }
    }
}
