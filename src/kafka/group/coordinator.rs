//! The driver of the group membership: sends what the state machine asks for, over one connection to the coordinator.
//!
//! Heartbeats go on whatever the rest of the program waits for, as this is a task of its own; and they stop when the
//! thread is stuck, as it is on the same thread: a stuck replica must lose its membership.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::config::HostPort;
use crate::fence::{Tenure, boot_clock};
use crate::kafka::assignor::protocol_name;
use crate::kafka::cluster::{Cluster, REQUEST_LIMIT};
use crate::kafka::connection::Connection;
use crate::kafka::error::{GroupRefused, KafkaError, code_name};
use crate::kafka::group::state::{Coordinator, Group, GroupSettings, Step};
use crate::kafka::group::subscription::Subscription;
use crate::kafka::group::{Acknowledged, Intent, Membership, Phase};
use crate::kafka::protocol::heartbeat::HeartbeatRequest;
use crate::kafka::protocol::join_group::JoinGroupRequest;
use crate::kafka::protocol::leave_group::LeaveGroupRequest;
use crate::kafka::protocol::metadata::MetadataRequest;
use crate::kafka::protocol::offset_commit::OffsetCommitRequest;
use crate::kafka::protocol::offset_fetch::OffsetFetchRequest;
use crate::kafka::protocol::sync_group::SyncGroupRequest;
use crate::progress::KafkaProgress;

/// The driver.
#[derive(Debug)]
pub struct Driver {
    settings: GroupSettings,
    group: Group,
    cluster: Cluster,
    connection: Option<Connection>,
    backoff: Backoff,
    intent: watch::Receiver<Intent>,
    membership: watch::Sender<Membership>,
    acknowledged: watch::Sender<Acknowledged>,
    tenure: watch::Sender<Tenure>,
    progress: watch::Sender<KafkaProgress>,
    failing_since: Option<Instant>,
}

/// The ends of the channels that the rest of the program holds.
#[derive(Debug)]
pub struct DriverEnds {
    /// What the driver says.
    pub membership: watch::Receiver<Membership>,
    /// What the consumer says.
    pub intent: watch::Sender<Intent>,
    /// What the coordinator has acknowledged.
    pub acknowledged: watch::Receiver<Acknowledged>,
    /// For fences.
    pub tenure: watch::Receiver<Tenure>,
}

/// How the driver ended.
#[derive(Debug, Error)]
pub enum DriverEnd {
    /// The group refuses this member for good.
    #[error(transparent)]
    Refused(#[from] GroupRefused),
}

/// Why a step was not carried out.
enum Interrupted {
    Failed(KafkaError),
    /// The consumer wants to leave: a JoinGroup or SyncGroup that still waits is given up.
    Leaving,
}

impl From<KafkaError> for Interrupted {
    fn from(error: KafkaError) -> Self {
        Self::Failed(error)
    }
}

impl Driver {
    /// A driver and the ends of its channels.
    pub fn new(
        settings: GroupSettings,
        cluster: Cluster,
        progress: watch::Sender<KafkaProgress>,
    ) -> (Self, DriverEnds) {
        let now = Instant::now();
        let group = Group::new(settings.clone(), now);
        let (membership, membership_out) = watch::channel(group.membership());
        let (intent_in, intent) = watch::channel(Intent::default());
        let (acknowledged, acknowledged_out) = watch::channel(Acknowledged::default());
        let (tenure, tenure_out) = watch::channel(Tenure { epoch: 0, until: now, until_boot: Duration::ZERO });
        let driver = Self {
            settings,
            group,
            cluster,
            connection: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            intent,
            membership,
            acknowledged,
            tenure,
            progress,
            failing_since: None,
        };
        let ends = DriverEnds {
            membership: membership_out,
            intent: intent_in,
            acknowledged: acknowledged_out,
            tenure: tenure_out,
        };
        (driver, ends)
    }

    /// Runs until the group was left or refuses this member.
    pub async fn run(mut self) -> Result<(), DriverEnd> {
        loop {
            self.group.intend(self.intent.borrow_and_update().clone());
            let step = self.group.next(Instant::now());
            self.publish();
            match step {
                Step::End => break,
                Step::Wait { until } => self.wait(until).await,
                Step::Leave { member_id } => {
                    self.leave(&member_id).await;
                    self.group.left();
                }
                step => match self.carry_out(step).await {
                    Ok(after) => {
                        self.went_well();
                        if after == Coordinator::Rediscover {
                            self.connection = None;
                            self.pause().await;
                        }
                    }
                    Err(Interrupted::Leaving) => self.connection = None,
                    Err(Interrupted::Failed(error)) => {
                        self.connection = None;
                        self.went_wrong(&error);
                        self.group.failed(Instant::now());
                        self.publish();
                        self.pause().await;
                    }
                },
            }
        }
        self.publish();
        match self.group.membership().phase {
            Phase::Refused(refused) => Err(refused.into()),
            _ => Ok(()),
        }
    }

    async fn carry_out(&mut self, step: Step) -> Result<Coordinator, Interrupted> {
        if let Step::Join { .. } | Step::Sync { .. } = step {
            let limit = self.settings.rebalance_timeout + Duration::from_secs(5);
            self.good_for(limit);
            return self.gather(step, limit).await;
        }
        let sent = Instant::now();
        let group_id = self.settings.group_id.clone();
        let instance_id = self.settings.instance_id.clone();
        let connection = self.connection().await?;
        match step {
            Step::Metadata { topics } => {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                let answer = connection.request(MetadataRequest { topics: &topics }, REQUEST_LIMIT).await?;
                self.group.metadata(&answer.topics, Instant::now());
                Ok(Coordinator::Keep)
            }
            Step::FetchOffsets { partitions } => {
                let topic = self.settings.topic.clone();
                let request = OffsetFetchRequest { group_id: &group_id, topic: &topic, partitions: &partitions };
                let connection = self.connection().await?;
                let answer = connection.request(request, REQUEST_LIMIT).await?;
                Ok(self.group.offsets_fetched(&answer, Instant::now()))
            }
            Step::Heartbeat { identity } => {
                let request = HeartbeatRequest {
                    group_id: &group_id,
                    generation: identity.generation,
                    member_id: &identity.member_id,
                    instance_id: instance_id.as_deref(),
                };
                let answer = connection.request(request, REQUEST_LIMIT).await?;
                debug!(code = answer.error, "heartbeat");
                Ok(self.group.heartbeat(answer.error, sent, Instant::now()))
            }
            Step::Commit { identity, partitions } => {
                let topic = self.settings.topic.clone();
                let request = OffsetCommitRequest {
                    group_id: &group_id,
                    generation: identity.generation,
                    member_id: &identity.member_id,
                    instance_id: instance_id.as_deref(),
                    topic: &topic,
                    partitions: &partitions,
                };
                let connection = self.connection().await?;
                let answer = connection.request(request, REQUEST_LIMIT).await?;
                debug!(partitions = partitions.len(), "committed");
                Ok(self.group.committed(&partitions, &answer, sent, Instant::now()))
            }
            Step::Join { .. } | Step::Sync { .. } | Step::Leave { .. } | Step::Wait { .. } | Step::End => {
                Ok(Coordinator::Keep)
            }
        }
    }

    /// JoinGroup and SyncGroup, which wait for the other members.
    async fn gather(&mut self, step: Step, limit: Duration) -> Result<Coordinator, Interrupted> {
        let settings = self.settings.clone();
        let mut intent = self.intent.clone();
        let connection = self.connection().await?;
        let sent = Instant::now();
        // Waiting may be given up: the connection goes with it, and the coordinator knows the member id by then.
        let leaving = async {
            if intent.wait_for(|intent| intent.leave).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match step {
            Step::Join { member_id } => {
                let subscription = Subscription::encode_eager(&[&settings.topic]);
                let protocols: Vec<(&str, Vec<u8>)> =
                    settings.assignors.iter().map(|name| (protocol_name(*name), subscription.clone())).collect();
                let request = JoinGroupRequest {
                    group_id: &settings.group_id,
                    session_timeout_ms: millis(settings.session_timeout),
                    rebalance_timeout_ms: millis(settings.rebalance_timeout),
                    member_id: &member_id,
                    instance_id: settings.instance_id.as_deref(),
                    protocols: &protocols,
                };
                let answer = tokio::select! {
                    answer = connection.request(request, limit) => answer?,
                    () = leaving => return Err(Interrupted::Leaving),
                };
                Ok(self.group.joined(answer, sent, Instant::now()))
            }
            Step::Sync { identity, assignments } => {
                let request = SyncGroupRequest {
                    group_id: &settings.group_id,
                    generation: identity.generation,
                    member_id: &identity.member_id,
                    instance_id: settings.instance_id.as_deref(),
                    assignments: &assignments,
                };
                let answer = tokio::select! {
                    answer = connection.request(request, limit) => answer?,
                    () = leaving => return Err(Interrupted::Leaving),
                };
                Ok(self.group.synced(&answer, sent, Instant::now()))
            }
            _ => Ok(Coordinator::Keep),
        }
    }

    /// Tells the coordinator, once and shortly: it would find out by itself after the session timeout.
    async fn leave(&mut self, member_id: &str) {
        if member_id.is_empty() {
            return;
        }
        let group_id = self.settings.group_id.clone();
        let left = async {
            let connection = self.connection().await?;
            connection.request(LeaveGroupRequest { group_id: &group_id, member_id }, Duration::from_secs(3)).await
        };
        match left.await {
            Ok(answer) if answer.error == 0 || answer.error == 25 => info!(member_id, "left the group"),
            Ok(answer) => warn!(member_id, code = code_name(answer.error), "leaving the group was refused"),
            Err(error) => {
                warn!(member_id, %error, "could not leave the group; its partitions wait for the session timeout");
            }
        }
    }

    /// The connection to the coordinator, found first if need be.
    async fn connection(&mut self) -> Result<&Connection, KafkaError> {
        if self.connection.is_none() {
            let found = self.cluster.find_coordinator(&self.settings.group_id).await?;
            let peer = match (found.error, u16::try_from(found.port)) {
                (0, Ok(port)) => HostPort { host: found.host, port },
                (0, Err(_)) => return Err(KafkaError::UnknownBroker { node: found.node_id }),
                (code, _) => {
                    let peer = "a broker".to_owned();
                    return Err(KafkaError::Code { peer, api: "FindCoordinator", code });
                }
            };
            let connection = Connection::open(&peer, self.cluster.options()).await?;
            info!(coordinator = %peer, node = found.node_id, "found the group coordinator");
            self.connection = Some(connection);
        }
        self.connection.as_ref().ok_or(KafkaError::UnknownBroker { node: -1 })
    }

    /// Waits for a time or for a new intent.
    async fn wait(&mut self, until: Instant) {
        tokio::select! {
            () = sleep_until(until) => {}
            changed = self.intent.changed() => {
                if changed.is_err() {
                    // The consumer is gone without a word: nobody works, so nobody should hold partitions.
                    let intent = Intent { leave: true, ..self.intent.borrow().clone() };
                    self.group.intend(intent);
                    sleep_until(until).await;
                }
            }
        }
    }

    async fn pause(&mut self) {
        let until = Instant::now() + self.backoff.pause();
        self.wait(until).await;
    }

    fn went_well(&mut self) {
        self.backoff.reset();
        if let Some(since) = self.failing_since.take() {
            info!(after_ms = millis(since.elapsed()), "the group coordinator answers again");
        }
    }

    fn went_wrong(&mut self, error: &KafkaError) {
        if let KafkaError::Code { code: 14 | 15, .. } = error {
            // A new cluster creates its offsets topic on the first question, which takes it a moment.
            debug!(%error, "the group coordinator is not ready yet");
            return;
        }
        if self.failing_since.is_none() {
            self.failing_since = Some(Instant::now());
            warn!(%error, "the group coordinator cannot be asked; trying again until it can");
        } else {
            debug!(%error, "the group coordinator cannot be asked");
        }
        self.progress.send_modify(|progress| progress.errors += 1);
    }

    fn good_for(&self, limit: Duration) {
        let until = Instant::now() + limit;
        self.progress.send_modify(|progress| progress.good_until = Some(until));
    }

    fn publish_acknowledged(&self, epoch: u64) {
        self.acknowledged.send_if_modified(|published| {
            let known = published.offsets.iter().map(|(partition, offset)| (*partition, *offset));
            let changed = published.epoch != epoch || !known.eq(self.group.acknowledged());
            if changed {
                *published = Acknowledged { epoch, offsets: self.group.acknowledged().collect() };
            }
            changed
        });
    }

    /// Publishes what changed, so that nobody is woken for nothing.
    fn publish(&mut self) {
        let now = Instant::now();
        let until = self.group.good_until(now);
        let epoch = self.group.membership().epoch;
        self.tenure.send_if_modified(|tenure| {
            let changed = tenure.epoch != epoch || tenure.until != until;
            if changed {
                *tenure = Tenure { epoch, until, until_boot: boot_clock() + until.saturating_duration_since(now) };
            }
            changed
        });
        let membership = self.group.membership();
        self.membership.send_if_modified(|published| {
            let same_phase = std::mem::discriminant(&published.phase) == std::mem::discriminant(&membership.phase);
            let changed = published.epoch != membership.epoch || !same_phase;
            if changed {
                *published = membership;
            }
            changed
        });
        self.publish_acknowledged(epoch);
        let alive =
            self.group.alive_at().map(|at| at + Duration::from_secs(10).max(self.settings.heartbeat_interval * 3));
        let group = &self.group;
        self.progress.send_modify(|progress| {
            if let Some(alive) = alive {
                progress.good_until = Some(alive);
            }
            progress.state = group.state_name();
            progress.member_id = group.identity().map_or_else(String::new, |identity| identity.member_id.clone());
            let generation = group.identity().map_or(-1, |identity| identity.generation);
            progress.rebalances += u64::from(generation >= 0 && generation != progress.generation);
            progress.generation = generation;
            progress.partitions = group.partitions();
            progress.blocked = group.topic_fault().map(|fault| fault.to_string());
        });
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
