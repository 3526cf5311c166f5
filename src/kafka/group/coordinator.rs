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
use crate::fence::{Tenure, boot_clock};
use crate::kafka::assignor::protocol_name;
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::Connection;
use crate::kafka::error::{GroupRefused, KafkaError, code_name};
use crate::kafka::group::checks;
use crate::kafka::group::contact::{self, Attempt, COMMIT_LIMIT, Contact, QUICK_LIMIT};
use crate::kafka::group::state::{Coordinator, Group, GroupSettings, Identity, Step};
use crate::kafka::group::subscription::Subscription;
use crate::kafka::group::{Acknowledged, Intent, Membership, Phase};
use crate::kafka::protocol::heartbeat::HeartbeatRequest;
use crate::kafka::protocol::join_group::JoinGroupRequest;
use crate::kafka::protocol::leave_group::LeaveGroupRequest;
use crate::kafka::protocol::metadata::MetadataRequest;
use crate::kafka::protocol::offset_commit::{OffsetCommitRequest, PartitionCommit};
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
    contact: Contact,
    failing_since: Option<Instant>,
}

/// The longest pause between two attempts to reach the coordinator: what was away is found again soon.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// How late a heartbeat may be answered beyond its interval.
const SLACK: Duration = Duration::from_secs(2);

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
        let (tenure, tenure_out) =
            watch::channel(Tenure { epoch: 0, until: now, silent_from: now, until_boot: Duration::ZERO });
        let cluster = cluster.within(QUICK_LIMIT);
        let driver = Self {
            settings,
            group,
            contact: Contact::new(cluster.options().round_trip.clone(), progress.clone()),
            cluster,
            connection: None,
            backoff: Backoff::new(Duration::from_millis(100), MAX_PAUSE),
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
                Step::Wait { until } => match self.probe_at() {
                    Some(at) if at <= Instant::now() => self.probe().await,
                    Some(at) => self.wait(until.min(at)).await,
                    None => self.wait(until).await,
                },
                Step::Leave { member_id } => {
                    self.leave(&member_id).await;
                    self.group.left();
                }
                step => self.attempt(step).await,
            }
        }
        self.publish();
        match self.group.membership().phase {
            Phase::Refused(refused) => Err(refused.into()),
            _ => Ok(()),
        }
    }

    async fn attempt(&mut self, step: Step) {
        let attempt = attempt_of(&step);
        let outcome = match self.connect().await {
            Ok(()) => self.carry_out(step).await,
            Err(error) => return self.went_wrong(Attempt::Connect, &error).await,
        };
        match outcome {
            Ok(after) => {
                self.went_well(attempt);
                if after == Coordinator::Rediscover {
                    self.connection = None;
                    self.pause().await;
                }
            }
            Err(Interrupted::Leaving) => self.connection = None,
            Err(Interrupted::Failed(error)) => self.went_wrong(attempt, &error).await,
        }
    }

    /// Over the open connection. After an error it is of no further use.
    async fn carry_out(&mut self, step: Step) -> Result<Coordinator, Interrupted> {
        let Some(connection) = self.connection.take() else { return Ok(Coordinator::Keep) };
        let limit = self.cluster.options().round_trip.limit(QUICK_LIMIT);
        let after = match step {
            Step::Join { .. } | Step::Sync { .. } => self.gather(&connection, step).await?,
            Step::Metadata { topics } => {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                let answer = connection.request(MetadataRequest { topics: &topics }, limit).await?;
                asked(&connection, "Metadata", checks::metadata(&answer, &topics))?;
                self.group.metadata(&answer.topics, Instant::now());
                Coordinator::Keep
            }
            Step::FetchOffsets { partitions } => {
                let Self { settings: GroupSettings { group_id, topic, .. }, .. } = self;
                let request = OffsetFetchRequest { group_id, topic, partitions: &partitions };
                let answer = connection.request(request, limit).await?;
                asked(&connection, "OffsetFetch", checks::offsets(&answer, &partitions))?;
                self.contact.proven();
                self.group.offsets_fetched(&answer, Instant::now())
            }
            Step::Heartbeat { identity } => {
                let sent = Instant::now();
                let request = HeartbeatRequest {
                    group_id: &self.settings.group_id,
                    generation: identity.generation,
                    member_id: &identity.member_id,
                    instance_id: self.settings.instance_id.as_deref(),
                };
                let answer = connection.request(request, limit).await?;
                debug!(code = answer.error, "heartbeat");
                self.contact.proven();
                self.group.heartbeat(answer.error, sent, Instant::now())
            }
            Step::Commit { identity, partitions } => self.commit(&connection, &identity, &partitions).await?,
            Step::Leave { .. } | Step::Wait { .. } | Step::End => Coordinator::Keep,
        };
        self.connection = Some(connection);
        Ok(after)
    }

    async fn commit(
        &mut self,
        connection: &Connection,
        identity: &Identity,
        partitions: &[PartitionCommit],
    ) -> Result<Coordinator, KafkaError> {
        let sent = Instant::now();
        let request = OffsetCommitRequest {
            group_id: &self.settings.group_id,
            generation: identity.generation,
            member_id: &identity.member_id,
            instance_id: self.settings.instance_id.as_deref(),
            topic: &self.settings.topic,
            partitions,
        };
        let limit = self.cluster.options().round_trip.limit(COMMIT_LIMIT);
        let answered = connection.request(request, limit).await.and_then(|answer| {
            asked(connection, "OffsetCommit", checks::commit(&answer, partitions))?;
            Ok(answer)
        });
        match answered {
            Ok(answer) => {
                debug!(partitions = partitions.len(), "committed");
                self.contact.proven();
                Ok(self.group.committed(partitions, &answer, sent, Instant::now()))
            }
            Err(error) => {
                self.group.commit_failed(partitions, &error.to_string(), Instant::now());
                Err(error)
            }
        }
    }

    /// JoinGroup and SyncGroup, which wait for the other members. Meanwhile the coordinator has to prove that it lives.
    async fn gather(&mut self, connection: &Connection, step: Step) -> Result<Coordinator, Interrupted> {
        let settings = self.settings.clone();
        let mut intent = self.intent.clone();
        let limit = settings.rebalance_timeout + self.cluster.options().round_trip.limit(QUICK_LIMIT);
        let options = self.cluster.options().clone();
        // Waiting may be given up: the connection goes with it, and the coordinator knows the member id by then.
        let leaving = async {
            if intent.wait_for(|intent| intent.leave).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let contact = &mut self.contact;
        let given_up = async {
            tokio::select! {
                () = leaving => Interrupted::Leaving,
                error = contact.lost(connection.peer(), &options, &settings.group_id) => Interrupted::Failed(error),
            }
        };
        let sent = Instant::now();
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
                    why = given_up => return Err(why),
                };
                asked(connection, "JoinGroup", checks::join(&answer, &settings.assignors))?;
                self.contact.proven();
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
                    why = given_up => return Err(why),
                };
                asked(connection, "SyncGroup", checks::sync(&answer, &settings.topic))?;
                self.contact.proven();
                Ok(self.group.synced(&answer, sent, Instant::now()))
            }
            _ => Ok(Coordinator::Keep),
        }
    }

    /// When a member whose heartbeats are far apart asks the coordinator whether it lives.
    fn probe_at(&self) -> Option<Instant> {
        self.group.alive_at().and(self.connection.as_ref()).and_then(|_| self.contact.probe_at())
    }

    async fn probe(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match contact::ask(&connection, self.cluster.options(), &self.settings.group_id).await {
            Ok(()) => {
                self.connection = Some(connection);
                self.contact.proven();
                self.contact.succeeded(Attempt::Probe);
            }
            Err(error) => self.went_wrong(Attempt::Probe, &error).await,
        }
    }

    /// Tells the coordinator, once and shortly: it would find out by itself after the session timeout.
    async fn leave(&mut self, member_id: &str) {
        if member_id.is_empty() {
            return;
        }
        let group_id = self.settings.group_id.clone();
        let left = async {
            self.connect().await?;
            match &self.connection {
                Some(connection) => {
                    connection
                        .request(LeaveGroupRequest { group_id: &group_id, member_id }, Duration::from_secs(3))
                        .await
                }
                None => Err(KafkaError::UnknownBroker { node: -1 }),
            }
        };
        match left.await {
            Ok(answer) if answer.error == 0 || answer.error == 25 => info!(member_id, "left the group"),
            Ok(answer) => warn!(member_id, code = code_name(answer.error), "leaving the group was refused"),
            Err(error) => {
                warn!(member_id, %error, "could not leave the group; its partitions wait for the session timeout");
            }
        }
    }

    /// Opens the connection to the coordinator, which is found first, unless there is one.
    async fn connect(&mut self) -> Result<(), KafkaError> {
        if self.connection.is_none() {
            let (node, peer) = self.cluster.find_coordinator(&self.settings.group_id).await?;
            self.connection = Some(Connection::open(&peer, self.cluster.options()).await?);
            info!(coordinator = %peer, node, "found the group coordinator");
            self.contact.succeeded(Attempt::Connect);
        }
        Ok(())
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

    /// The coordinator answered. What it answered may still be a refusal.
    fn went_well(&mut self, attempt: Attempt) {
        self.backoff.reset();
        if let Some(since) = self.failing_since.take() {
            info!(after_ms = millis(since.elapsed()), "the group coordinator answers again");
        }
        match self.group.take_refusal() {
            Some((api, code)) => {
                let peer = self.connection.as_ref().map_or_else(String::new, |open| open.peer().to_string());
                let error = KafkaError::Code { peer, api: api.name(), code };
                self.contact.failed(attempt, &error.to_string(), is_passing(code));
            }
            None => self.contact.succeeded(attempt),
        }
    }

    /// No answer, or none to what was asked: the same step comes again after a pause, on a new connection.
    async fn went_wrong(&mut self, attempt: Attempt, error: &KafkaError) {
        self.connection = None;
        let passing = matches!(error, KafkaError::NoCoordinator { code, .. } if is_passing(*code));
        self.contact.failed(attempt, &error.to_string(), passing);
        if self.failing_since.is_none() && !passing {
            self.failing_since = Some(Instant::now());
            warn!(%error, "the group coordinator cannot be asked; trying again until it can");
        } else {
            debug!(%error, "the group coordinator cannot be asked");
        }
        self.group.failed(Instant::now());
        self.publish();
        self.pause().await;
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
        let interval = self.settings.heartbeat_interval;
        let silence = (interval * 2).max(interval + self.cluster.options().round_trip.limit(Duration::ZERO));
        let silent_from = self.group.alive_at().map_or(now, |at| at + silence);
        self.tenure.send_if_modified(|tenure| {
            let changed = tenure.epoch != epoch || tenure.until != until;
            if changed {
                let until_boot = boot_clock() + until.saturating_duration_since(now);
                *tenure = Tenure { epoch, until, silent_from, until_boot };
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
        let (group, limit) = (&self.group, self.contact.limit());
        let commits = group.failing_commits(self.settings.session_timeout.min(limit));
        // Two intervals without a heartbeat that was taken are as long as inserts go on; then that is said.
        let confirmed = group.alive_at().map(|at| at + limit.max(self.settings.heartbeat_interval * 2 + SLACK));
        self.progress.send_modify(|progress| {
            progress.state = group.state_name();
            progress.member_id = group.identity().map_or_else(String::new, |identity| identity.member_id.clone());
            let generation = group.identity().map_or(-1, |identity| identity.generation);
            progress.rebalances += u64::from(generation >= 0 && generation != progress.generation);
            progress.generation = generation;
            progress.partitions = group.partitions();
            progress.committed = group.acknowledged().collect();
            progress.blocked = group.topic_fault().map(|fault| fault.to_string());
            progress.confirmed_until = confirmed;
            progress.commits_failing = commits;
            progress.placeless_from = match group.has_place() {
                true => None,
                false => progress.placeless_from.or(Some(now + limit)),
            };
        });
    }
}

/// What a cluster answers for a moment whenever a coordinator is new: it is loading, or its topic is being created.
fn is_passing(code: i16) -> bool {
    matches!(code, 14..=16)
}

fn attempt_of(step: &Step) -> Attempt {
    match step {
        Step::Join { .. } | Step::Sync { .. } => Attempt::Gather,
        Step::Heartbeat { .. } => Attempt::Heartbeat,
        Step::Commit { .. } => Attempt::Commit,
        Step::Metadata { .. } | Step::FetchOffsets { .. } => Attempt::Begin,
        Step::Leave { .. } | Step::Wait { .. } | Step::End => Attempt::Connect,
    }
}

fn asked(connection: &Connection, api: &'static str, checked: Result<(), String>) -> Result<(), KafkaError> {
    checked.map_err(|what| KafkaError::unasked(connection.peer(), api, what))
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
