//! The group membership as a pure state machine: answers and times go in, the next step comes out.
//!
//! The driver asks [`Group::next`] for a [`Step`], carries it out, and hands the answer to the method of the same name.
//! One request is under way at a time, so an answer always belongs to the identity it was asked with: answers that come
//! too late were thrown away with their connection.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::AssignorName;
use crate::kafka::assignor::{self, Member, PartitionCounts};
use crate::kafka::error::{GroupRefused, code_name};
use crate::kafka::group::subscription::{self, Subscription};
use crate::kafka::group::verdict::{Api, Verdict, verdict};
use crate::kafka::group::{Assignment, CommitNote, Committed, Intent, Membership, Phase};
use crate::kafka::protocol::join_group::JoinGroupResponse;
use crate::kafka::protocol::metadata::TopicMetadata;
use crate::kafka::protocol::offset_commit::{OffsetCommitResponse, PartitionCommit};
use crate::kafka::protocol::offset_fetch::OffsetFetchResponse;
use crate::kafka::protocol::sync_group::SyncGroupResponse;

/// What the membership is asked for with.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// The group id.
    pub group_id: String,
    /// The topic.
    pub topic: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
    /// Offered assignors in order of preference.
    pub assignors: Vec<AssignorName>,
    /// Session timeout.
    pub session_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Rebalance timeout.
    pub rebalance_timeout: Duration,
}

/// Who we are to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The member id.
    pub member_id: String,
    /// The generation.
    pub generation: i32,
}

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// JoinGroup with this member id ("" = new).
    Join {
        /// The member id.
        member_id: String,
    },
    /// Metadata of these topics.
    Metadata {
        /// Their names.
        topics: Vec<String>,
    },
    /// SyncGroup; the assignments are empty from a follower.
    Sync {
        /// Who asks.
        identity: Identity,
        /// Member id and encoded assignment.
        assignments: Vec<(String, Vec<u8>)>,
    },
    /// OffsetFetch for these partitions of the topic.
    FetchOffsets {
        /// The partitions.
        partitions: Vec<i32>,
    },
    /// Heartbeat.
    Heartbeat {
        /// Who lives.
        identity: Identity,
    },
    /// OffsetCommit.
    Commit {
        /// Who commits.
        identity: Identity,
        /// What.
        partitions: Vec<PartitionCommit>,
    },
    /// LeaveGroup, once, then the end.
    Leave {
        /// The member id.
        member_id: String,
    },
    /// Nothing until then, or until the consumer's intent changes.
    Wait {
        /// Until when.
        until: Instant,
    },
    /// Nothing any more.
    End,
}

/// Whether the coordinator must be looked for again before the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinator {
    /// It is where it was.
    Keep,
    /// Find it again.
    Rediscover,
}

/// The state machine.
#[derive(Debug)]
pub struct Group {
    settings: GroupSettings,
    state: State,
    epoch: u64,
    phase: Phase,
    intent: Intent,
    topic: TopicView,
    /// The id of the topic when it appeared while this member was watching.
    born: Option<u128>,
    errors: u64,
}

/// The topic as the metadata last showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TopicView {
    Unasked,
    Missing,
    Present { id: u128, partition_count: i32 },
}

#[derive(Debug)]
enum State {
    /// Outside the group, or about to join it again.
    Joining { member_id: String, not_before: Instant },
    /// Joined as leader: the partition counts of all members' topics are needed.
    Assigning { identity: Identity, assignor: AssignorName, members: Vec<Member> },
    /// Joined: the own share is to be fetched.
    Syncing { identity: Identity, assignments: Vec<(String, Vec<u8>)>, snapshot: PartitionCounts },
    /// In possession of a share: the committed offsets are to be fetched.
    /// `looked` is whether the topic was looked at since the group gathered: it may have been created anew before.
    Starting { member: MemberState, share: Vec<i32>, not_before: Instant, looked: bool },
    /// At work.
    Working { member: MemberState, held: Held, check_at: Instant },
    /// The group rebalances: waiting for the consumer to finish what is on the wire.
    Revoking { member: MemberState, held: Held, deadline: Instant },
    /// Over.
    Ended,
}

/// What every member with a generation has.
#[derive(Debug, Clone)]
struct MemberState {
    identity: Identity,
    /// When the last request was sent that the coordinator answered as a sign of life.
    alive_at: Instant,
    heartbeat_at: Instant,
    /// Partition counts that the assignment was made of; from a follower, its own topic's.
    snapshot: PartitionCounts,
}

/// What a member with an assignment has.
#[derive(Debug, Clone)]
struct Held {
    assignment: Assignment,
    committed: BTreeMap<i32, i64>,
    commit_not_before: Instant,
    parked: BTreeMap<i32, i64>,
    notes: bool,
}

/// Pause after an answer that asks for another try.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How often the partition counts are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

impl Group {
    /// A machine outside the group.
    pub fn new(settings: GroupSettings, now: Instant) -> Self {
        Self {
            settings,
            state: State::Joining { member_id: String::new(), not_before: now },
            epoch: 0,
            phase: Phase::Outside { why: "not joined yet" },
            intent: Intent::default(),
            topic: TopicView::Unasked,
            born: None,
            errors: 0,
        }
    }

    /// What the consumer is told.
    pub fn membership(&self) -> Membership {
        Membership { epoch: self.epoch, phase: self.phase.clone() }
    }

    /// Until when the membership is good if nothing more is heard.
    pub fn good_until(&self, now: Instant) -> Instant {
        match &self.state {
            State::Working { member, .. } | State::Revoking { member, .. } => {
                member.alive_at + self.settings.session_timeout
            }
            _ => now,
        }
    }

    /// When the coordinator last showed that it knows this member.
    pub fn alive_at(&self) -> Option<Instant> {
        match &self.state {
            State::Starting { member, .. } | State::Working { member, .. } | State::Revoking { member, .. } => {
                Some(member.alive_at)
            }
            _ => None,
        }
    }

    /// The state in a word, for people.
    pub fn state_name(&self) -> &'static str {
        match &self.state {
            State::Joining { .. } => "joining",
            State::Assigning { .. } => "assigning",
            State::Syncing { .. } => "syncing",
            State::Starting { .. } => "starting",
            State::Working { .. } => "stable",
            State::Revoking { .. } => "rebalancing",
            State::Ended => "left",
        }
    }

    /// Member id and generation, when there is one.
    pub fn identity(&self) -> Option<&Identity> {
        match &self.state {
            State::Assigning { identity, .. } | State::Syncing { identity, .. } => Some(identity),
            State::Starting { member, .. } | State::Working { member, .. } | State::Revoking { member, .. } => {
                Some(&member.identity)
            }
            State::Joining { .. } | State::Ended => None,
        }
    }

    /// The partitions held.
    pub fn partitions(&self) -> Vec<i32> {
        match &self.state {
            State::Working { held, .. } | State::Revoking { held, .. } => {
                held.assignment.partitions.keys().copied().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the metadata said that the topic does not exist.
    pub fn topic_is_missing(&self) -> bool {
        self.topic == TopicView::Missing
    }

    /// Error codes answered so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Takes the consumer's newest word.
    pub fn intend(&mut self, intent: Intent) {
        self.intent = intent;
    }

    /// Whether the consumer wants to leave: the driver then gives up a JoinGroup or SyncGroup that still waits.
    pub fn leaving(&self) -> bool {
        self.intent.leave
    }

    /// The next step.
    pub fn next(&mut self, now: Instant) -> Step {
        if now >= self.good_until(now) && self.alive_at().is_some() && !matches!(self.state, State::Starting { .. }) {
            warn!(
                session_timeout_ms = millis(self.settings.session_timeout),
                "no good heartbeat for the session timeout; the partitions count as lost"
            );
            self.lose("the session expired", true, now);
        }
        match &mut self.state {
            State::Joining { member_id, not_before } => {
                if self.intent.leave {
                    return Self::leave_step(&self.settings, member_id.clone());
                }
                if now < *not_before {
                    return Step::Wait { until: *not_before };
                }
                Step::Join { member_id: member_id.clone() }
            }
            // A member that goes leaves the rest to the rebalance that its going starts.
            State::Assigning { identity, .. } | State::Syncing { identity, .. } if self.intent.leave => {
                Self::leave_step(&self.settings, identity.member_id.clone())
            }
            State::Assigning { members, .. } => {
                let mut topics: Vec<String> = members.iter().flat_map(|member| member.topics.clone()).collect();
                topics.push(self.settings.topic.clone());
                topics.sort_unstable();
                topics.dedup();
                Step::Metadata { topics }
            }
            State::Syncing { identity, assignments, .. } => {
                Step::Sync { identity: identity.clone(), assignments: assignments.clone() }
            }
            State::Starting { member, share, not_before, looked } => {
                if self.intent.leave {
                    return Self::leave_step(&self.settings, member.identity.member_id.clone());
                }
                if now >= member.heartbeat_at {
                    return Step::Heartbeat { identity: member.identity.clone() };
                }
                if now < *not_before {
                    return Step::Wait { until: (*not_before).min(member.heartbeat_at) };
                }
                match self.topic {
                    TopicView::Present { partition_count, .. } if *looked && !share.is_empty() => {
                        Step::FetchOffsets { partitions: (0..partition_count).collect() }
                    }
                    _ => Step::Metadata { topics: vec![self.settings.topic.clone()] },
                }
            }
            State::Working { member, held, check_at } => {
                if now >= member.heartbeat_at {
                    return Step::Heartbeat { identity: member.identity.clone() };
                }
                if let Some(step) = commit_step(&self.intent, self.epoch, &member.identity, held, now) {
                    return step;
                }
                if self.intent.leave && (held.is_clean(&self.intent, self.epoch)) {
                    return Self::leave_step(&self.settings, member.identity.member_id.clone());
                }
                if now >= *check_at {
                    return Step::Metadata { topics: member.snapshot.keys().cloned().collect() };
                }
                let commit_at = held.next_try(&self.intent, self.epoch);
                let until = member.heartbeat_at.min(*check_at);
                Step::Wait { until: commit_at.map_or(until, |at| at.min(until)) }
            }
            State::Revoking { member, held, deadline } => {
                if now >= *deadline {
                    warn!("the work on the wire outlasted the rebalance limit; joining without its commit");
                } else {
                    if now >= member.heartbeat_at {
                        return Step::Heartbeat { identity: member.identity.clone() };
                    }
                    if let Some(step) = commit_step(&self.intent, self.epoch, &member.identity, held, now) {
                        return step;
                    }
                    let drained = self.intent.drained && self.intent.epoch == self.epoch;
                    if !(drained && held.is_clean(&self.intent, self.epoch)) {
                        let commit_at = held.next_try(&self.intent, self.epoch);
                        let until = member.heartbeat_at.min(*deadline);
                        return Step::Wait { until: commit_at.map_or(until, |at| at.min(until)) };
                    }
                    if self.intent.leave {
                        return Self::leave_step(&self.settings, member.identity.member_id.clone());
                    }
                }
                let member_id = member.identity.member_id.clone();
                self.outside("rebalancing");
                self.state = State::Joining { member_id: member_id.clone(), not_before: now };
                Step::Join { member_id }
            }
            State::Ended => Step::End,
        }
    }

    /// The answer to [`Step::Join`].
    pub fn joined(&mut self, answer: JoinGroupResponse, sent: Instant, now: Instant) -> Coordinator {
        let State::Joining { member_id, .. } = &self.state else { return Coordinator::Keep };
        let member_id = member_id.clone();
        match self.judge(Api::Join, answer.error) {
            Verdict::Fine => {}
            Verdict::TakeMemberId => {
                return self.join_again(answer.member_id, now, Coordinator::Keep);
            }
            Verdict::LostWithId => return self.join_again(String::new(), now, Coordinator::Keep),
            Verdict::Lost => return self.join_again(member_id, now, Coordinator::Keep),
            Verdict::Rediscover => return self.join_again(member_id, now + RETRY_PAUSE, Coordinator::Rediscover),
            Verdict::Refused => return self.refuse(Api::Join, answer.error),
            Verdict::Retry | Verdict::Rebalance | Verdict::WithoutNote | Verdict::Park => {
                return self.join_again(member_id, now + RETRY_PAUSE, Coordinator::Keep);
            }
        }
        let Some(assignor) = self.assignor(&answer.protocol) else {
            error!(protocol = answer.protocol, "the group agreed on an assignor that was not offered");
            return self.refuse(Api::Join, 23);
        };
        let identity = Identity { member_id: answer.member_id, generation: answer.generation };
        let leader = answer.leader == identity.member_id;
        info!(
            generation = identity.generation,
            member_id = identity.member_id,
            assignor = answer.protocol,
            leader,
            members = answer.members.len(),
            waited_ms = millis(now - sent),
            "joined the group"
        );
        // A KIP-848 coordinator answers without a leader and assigns by itself: then nobody has members to look after.
        self.state = if leader {
            let members = answer.members.into_iter().map(parse_member).collect();
            State::Assigning { identity, assignor, members }
        } else {
            State::Syncing { identity, assignments: Vec::new(), snapshot: PartitionCounts::new() }
        };
        Coordinator::Keep
    }

    /// The answer to [`Step::Metadata`].
    pub fn metadata(&mut self, topics: &[TopicMetadata], now: Instant) {
        let counts: PartitionCounts = topics
            .iter()
            .filter(|topic| topic.error == 0)
            .map(|topic| (topic.name.clone(), count(topic.partitions.len())))
            .collect();
        if let Some(own) = topics.iter().find(|topic| topic.name == self.settings.topic) {
            let before = self.topic;
            self.topic = match own.error {
                0 if !own.partitions.is_empty() => {
                    TopicView::Present { id: own.id, partition_count: count(own.partitions.len()) }
                }
                3 => TopicView::Missing,
                _ => self.topic,
            };
            match (before, self.topic) {
                (TopicView::Missing, TopicView::Present { id, .. }) => self.born = Some(id),
                (TopicView::Present { id: old, .. }, TopicView::Present { id, .. }) if old != id && old != 0 => {
                    self.born = Some(id);
                }
                _ => {}
            }
            match (before, self.topic) {
                (TopicView::Missing, TopicView::Missing) => {}
                (_, TopicView::Missing) => error!(
                    topic = self.settings.topic,
                    "the topic does not exist; create it, or correct KAFKA_TOPIC; waiting for it"
                ),
                (TopicView::Missing, TopicView::Present { partition_count, .. }) => {
                    info!(topic = self.settings.topic, partitions = partition_count, "the topic is there now");
                }
                _ => {}
            }
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Assigning { identity, assignor, members } => {
                let assigned = assignor::assign(assignor, members, &counts);
                for (member, share) in &assigned {
                    info!(member_id = member, share = ?share, "assigned");
                }
                let assignments = assigned
                    .into_iter()
                    .map(|(member, share)| (member, subscription::encode_assignment(&share)))
                    .collect();
                let mut snapshot = counts;
                snapshot.entry(self.settings.topic.clone()).or_insert(0);
                self.state = State::Syncing { identity, assignments, snapshot };
            }
            State::Starting { mut member, share, looked, .. } => {
                let looked = looked || topics.iter().any(|topic| topic.name == self.settings.topic && topic.error == 0);
                let own = counts.get(&self.settings.topic).copied().unwrap_or(0);
                member.snapshot.entry(self.settings.topic.clone()).or_insert(own);
                if share.is_empty() {
                    self.begin(member, BTreeMap::new(), None, now);
                } else {
                    // Without the topic in the metadata there is nothing to fetch offsets for yet.
                    let pause = if own == 0 { RETRY_PAUSE } else { Duration::ZERO };
                    self.state = State::Starting { member, share, not_before: now + pause, looked };
                }
            }
            State::Working { member, held, .. } => {
                let why = self.changed(&member.snapshot, &counts, held.assignment.topic_id);
                self.state = State::Working { member, held, check_at: now + CHECK_INTERVAL };
                if let Some(why) = why {
                    self.revoke(why, now);
                }
            }
            other => self.state = other,
        }
    }

    /// The answer to [`Step::Sync`].
    pub fn synced(&mut self, answer: &SyncGroupResponse, sent: Instant, now: Instant) -> Coordinator {
        let State::Syncing { identity, snapshot, .. } = &self.state else { return Coordinator::Keep };
        let (identity, snapshot) = (identity.clone(), snapshot.clone());
        let member_id = identity.member_id.clone();
        match self.judge(Api::Sync, answer.error) {
            Verdict::Fine => {}
            Verdict::LostWithId => return self.join_again(String::new(), now, Coordinator::Keep),
            Verdict::Lost | Verdict::Rebalance => return self.join_again(member_id, now, Coordinator::Keep),
            Verdict::Rediscover => return self.join_again(member_id, now + RETRY_PAUSE, Coordinator::Rediscover),
            Verdict::Refused => return self.refuse(Api::Sync, answer.error),
            Verdict::Retry | Verdict::TakeMemberId | Verdict::WithoutNote | Verdict::Park => {
                return self.join_again(member_id, now + RETRY_PAUSE, Coordinator::Keep);
            }
        }
        let mut share = match subscription::decode_assignment(&answer.assignment) {
            Ok(mut assigned) => assigned.remove(&self.settings.topic).unwrap_or_else(Vec::new),
            Err(error) => {
                error!(%error, "the leader's assignment cannot be read; taken as an empty one");
                Vec::new()
            }
        };
        share.sort_unstable();
        share.dedup();
        // SyncGroup may have waited for the leader: only its answer is the sign of life, but it was sent long ago.
        let looked = !snapshot.is_empty(); // the leader has, to assign it
        let member = MemberState { identity, alive_at: sent, heartbeat_at: now, snapshot };
        self.state = State::Starting { member, share, not_before: now, looked };
        Coordinator::Keep
    }

    /// The answer to [`Step::FetchOffsets`].
    pub fn offsets_fetched(&mut self, answer: &OffsetFetchResponse, now: Instant) -> Coordinator {
        let State::Starting { member, share, .. } = &self.state else { return Coordinator::Keep };
        let (member, share) = (member.clone(), share.clone());
        let codes = answer.partitions.iter().map(|partition| partition.error);
        let worst = std::iter::once(answer.error).chain(codes).find(|code| *code != 0).unwrap_or(0);
        match self.judge(Api::FetchOffsets, worst) {
            Verdict::Fine => {}
            Verdict::Refused => return self.refuse(Api::FetchOffsets, worst),
            other => {
                self.state = State::Starting { member, share, not_before: now + RETRY_PAUSE, looked: true };
                return if other == Verdict::Rediscover { Coordinator::Rediscover } else { Coordinator::Keep };
            }
        }
        let committed = |offset: &crate::kafka::protocol::offset_fetch::FetchedOffset| {
            (offset.offset >= 0).then(|| Committed { offset: offset.offset, note: CommitNote::parse(&offset.metadata) })
        };
        let all: BTreeMap<i32, Option<Committed>> =
            answer.partitions.iter().map(|offset| (offset.partition, committed(offset))).collect();
        let known = self.known_partition_count(&all);
        let partitions = share.iter().map(|index| (*index, all.get(index).cloned().flatten())).collect();
        self.begin(member, partitions, known, now);
        Coordinator::Keep
    }

    /// The answer to [`Step::Heartbeat`].
    pub fn heartbeat(&mut self, code: i16, sent: Instant, now: Instant) -> Coordinator {
        let verdict = self.judge(Api::Heartbeat, code);
        let interval = self.settings.heartbeat_interval;
        let (State::Starting { member, .. } | State::Working { member, .. } | State::Revoking { member, .. }) =
            &mut self.state
        else {
            return Coordinator::Keep;
        };
        member.heartbeat_at = sent + interval;
        if matches!(verdict, Verdict::Fine | Verdict::Rebalance) {
            member.alive_at = sent; // a rebalance answers 27, and that is a sign of life too
        }
        match verdict {
            Verdict::Fine | Verdict::Retry | Verdict::TakeMemberId | Verdict::WithoutNote | Verdict::Park => {
                if verdict != Verdict::Fine {
                    member.heartbeat_at = now + RETRY_PAUSE;
                }
                Coordinator::Keep
            }
            Verdict::Rediscover => {
                member.heartbeat_at = now + RETRY_PAUSE;
                Coordinator::Rediscover
            }
            Verdict::Rebalance => {
                self.revoke("the group is rebalancing", now);
                Coordinator::Keep
            }
            Verdict::Lost => self.lose("the generation is over", true, now),
            Verdict::LostWithId => self.lose("the coordinator does not know this member any more", false, now),
            Verdict::Refused => self.refuse(Api::Heartbeat, code),
        }
    }

    /// The answer to [`Step::Commit`] of these partitions.
    pub fn committed(
        &mut self,
        sent_partitions: &[PartitionCommit],
        answer: &OffsetCommitResponse,
        sent: Instant,
        now: Instant,
    ) -> Coordinator {
        let mut after = Coordinator::Keep;
        let mut told = Vec::new();
        for (partition, code) in &answer.partitions {
            // An error of the group comes once for each partition; it is one.
            let verdict =
                if told.contains(code) { verdict(Api::Commit, *code) } else { self.judge(Api::Commit, *code) };
            told.push(*code);
            let (State::Working { member, held, .. } | State::Revoking { member, held, .. }) = &mut self.state else {
                return after;
            };
            let offset = sent_partitions.iter().find(|commit| commit.partition == *partition).map(|at| at.offset);
            match verdict {
                Verdict::Fine => {
                    member.alive_at = member.alive_at.max(sent); // a commit that was taken keeps the session too
                    if let Some(offset) = offset {
                        held.committed.insert(*partition, offset);
                    }
                }
                Verdict::Retry | Verdict::TakeMemberId => held.commit_not_before = now + RETRY_PAUSE,
                Verdict::Rediscover => {
                    held.commit_not_before = now + RETRY_PAUSE;
                    after = Coordinator::Rediscover;
                }
                Verdict::WithoutNote => held.notes = false,
                Verdict::Park => {
                    held.parked.extend(offset.map(|offset| (*partition, offset)));
                }
                Verdict::Rebalance => {
                    held.commit_not_before = now + RETRY_PAUSE;
                    self.revoke("the group is rebalancing", now);
                }
                Verdict::Lost => return self.lose("the generation is over", true, now),
                Verdict::LostWithId => {
                    return self.lose("the coordinator does not know this member any more", false, now);
                }
                Verdict::Refused => return self.refuse(Api::Commit, *code),
            }
        }
        after
    }

    /// A request failed without an answer: the same step comes again after a pause, on a new connection.
    pub fn failed(&mut self, now: Instant) {
        self.errors += 1;
        let again = now + RETRY_PAUSE;
        match &mut self.state {
            State::Joining { not_before, .. } => *not_before = again,
            State::Assigning { identity, .. } | State::Syncing { identity, .. } => {
                let member_id = identity.member_id.clone();
                self.state = State::Joining { member_id, not_before: again };
            }
            State::Starting { member, not_before, .. } => {
                *not_before = again;
                member.heartbeat_at = member.heartbeat_at.max(again);
            }
            State::Working { member, held, check_at } => {
                member.heartbeat_at = member.heartbeat_at.max(again);
                held.commit_not_before = again;
                *check_at = (*check_at).max(again);
            }
            State::Revoking { member, held, .. } => {
                member.heartbeat_at = member.heartbeat_at.max(again);
                held.commit_not_before = again;
            }
            State::Ended => {}
        }
    }

    /// LeaveGroup was sent, or there was nothing to leave.
    pub fn left(&mut self) {
        self.outside("left the group");
        self.state = State::Ended;
    }

    fn leave_step(settings: &GroupSettings, member_id: String) -> Step {
        // A static member that leaves would lose what makes it static: its partitions waiting for it (KIP-345).
        let member_id = if settings.instance_id.is_some() { String::new() } else { member_id };
        Step::Leave { member_id }
    }

    fn judge(&mut self, api: Api, code: i16) -> Verdict {
        let verdict = verdict(api, code);
        match verdict {
            Verdict::Fine | Verdict::TakeMemberId | Verdict::Rebalance => {}
            _ => {
                self.errors += 1;
                warn!(request = api.name(), code = code_name(code), verdict = ?verdict, "the coordinator answered");
            }
        }
        verdict
    }

    fn assignor(&self, protocol: &str) -> Option<AssignorName> {
        self.settings.assignors.iter().copied().find(|name| assignor::protocol_name(*name) == protocol)
    }

    fn begin(
        &mut self,
        member: MemberState,
        partitions: BTreeMap<i32, Option<Committed>>,
        known_partition_count: Option<i32>,
        now: Instant,
    ) {
        let (topic_id, partition_count) = match self.topic {
            TopicView::Present { id, partition_count } => (id, partition_count),
            TopicView::Unasked | TopicView::Missing => (0, 0),
        };
        let committed = partitions.iter().filter_map(|(index, at)| at.as_ref().map(|at| (*index, at.offset))).collect();
        let assignment = Assignment {
            generation: member.identity.generation,
            topic_id,
            partition_count,
            known_partition_count,
            partitions,
        };
        self.epoch += 1;
        self.phase = Phase::Assigned(assignment.clone());
        let held = Held { assignment, committed, commit_not_before: now, parked: BTreeMap::new(), notes: true };
        self.state = State::Working { member, held, check_at: now + CHECK_INTERVAL };
    }

    /// How many partitions of this very topic the group has known of, by its commits. Partitions from there on are new.
    fn known_partition_count(&self, committed: &BTreeMap<i32, Option<Committed>>) -> Option<i32> {
        let TopicView::Present { id, partition_count } = self.topic else { return None };
        // A topic that was deleted took its commits with it, or left those of a member that had not noticed.
        let of_this = |note: &CommitNote| note.topic_id == id || note.topic_id == 0 || id == 0;
        let stands = |committed: &Committed| committed.note.as_ref().is_none_or(of_this);
        let notes = committed.values().flatten().filter_map(|committed| committed.note);
        let known = notes.map(|note| if of_this(&note) { note.partition_count } else { 0 }).max();
        match known.or_else(|| (self.born == Some(id)).then_some(0)) {
            Some(known) if known < partition_count => {
                // Each has been started: from now on they are known.
                let all = (0..partition_count)
                    .all(|index| committed.get(&index).is_some_and(|at| at.as_ref().is_some_and(stands)));
                Some(if all { partition_count } else { known })
            }
            known => known,
        }
    }

    fn changed(&self, snapshot: &PartitionCounts, seen: &PartitionCounts, topic_id: u128) -> Option<&'static str> {
        // Topics that the metadata does not show now (deleted, or not yet on that broker) change nothing.
        for (topic, now) in seen.iter().filter(|(_, now)| **now > 0) {
            let before = snapshot.get(topic).copied().unwrap_or(0);
            if before != *now {
                info!(topic, before, now, "the number of partitions changed");
                return Some("the number of partitions changed");
            }
        }
        match self.topic {
            TopicView::Present { id, .. } if id != topic_id && id != 0 && topic_id != 0 => {
                Some("the topic was created anew")
            }
            _ => None,
        }
    }

    fn revoke(&mut self, why: &'static str, now: Instant) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Working { member, held, .. } => {
                let deadline = now + self.settings.rebalance_timeout.mul_f64(0.7);
                info!(why, generation = member.identity.generation, "giving the partitions back");
                self.phase = Phase::Revoking { deadline, why };
                self.state = State::Revoking { member, held, deadline };
            }
            State::Starting { member, .. } => {
                self.state = State::Joining { member_id: member.identity.member_id, not_before: now };
            }
            other => self.state = other,
        }
    }

    fn lose(&mut self, why: &'static str, keep_id: bool, now: Instant) -> Coordinator {
        let member_id = match self.identity() {
            Some(identity) if keep_id => identity.member_id.clone(),
            _ => String::new(),
        };
        warn!(why, "lost the partitions; joining again");
        self.outside(why);
        self.join_again(member_id, now, Coordinator::Keep)
    }

    fn outside(&mut self, why: &'static str) {
        self.epoch += 1;
        self.phase = Phase::Outside { why };
    }

    fn join_again(&mut self, member_id: String, not_before: Instant, after: Coordinator) -> Coordinator {
        self.state = State::Joining { member_id, not_before };
        after
    }

    fn refuse(&mut self, api: Api, code: i16) -> Coordinator {
        let refused = GroupRefused { group: self.settings.group_id.clone(), api: api.name(), code };
        self.epoch += 1;
        self.phase = Phase::Refused(refused);
        self.state = State::Ended;
        Coordinator::Keep
    }
}

impl Held {
    /// Whether all that the consumer wants committed is (or cannot be, for now).
    fn is_clean(&self, intent: &Intent, epoch: u64) -> bool {
        self.uncommitted(intent, epoch).next().is_none()
    }

    fn next_try(&self, intent: &Intent, epoch: u64) -> Option<Instant> {
        (!self.is_clean(intent, epoch)).then_some(self.commit_not_before)
    }

    /// Commits are fenced by generation only: one of a partition that is not ours would move another member's offset.
    fn uncommitted<'a>(&'a self, intent: &'a Intent, epoch: u64) -> impl Iterator<Item = (i32, i64)> + 'a {
        let current = intent.epoch == epoch;
        intent.offsets.iter().map(|(partition, offset)| (*partition, *offset)).filter(move |(partition, offset)| {
            current
                && self.assignment.partitions.contains_key(partition)
                && self.committed.get(partition) != Some(offset)
                && self.parked.get(partition) != Some(offset)
        })
    }
}

fn commit_step(intent: &Intent, epoch: u64, identity: &Identity, held: &Held, now: Instant) -> Option<Step> {
    if now < held.commit_not_before {
        return None;
    }
    // New partitions are not known before each has a commit: whoever gets one without must see that it is new.
    let known = held.assignment.known_partition_count.unwrap_or(held.assignment.partition_count);
    let note = CommitNote { partition_count: known, topic_id: held.assignment.topic_id };
    let metadata = if held.notes { note.to_text() } else { String::new() };
    let partitions: Vec<PartitionCommit> = held
        .uncommitted(intent, epoch)
        .map(|(partition, offset)| PartitionCommit { partition, offset, metadata: metadata.clone() })
        .collect();
    (!partitions.is_empty()).then(|| Step::Commit { identity: identity.clone(), partitions })
}

fn parse_member(joined: crate::kafka::protocol::join_group::JoinedMember) -> Member {
    let topics = match Subscription::decode(&joined.subscription) {
        Ok(subscription) => subscription.topics,
        Err(error) => {
            error!(member_id = joined.member_id, %error, "a member's subscription cannot be read; it gets no partitions");
            Vec::new()
        }
    };
    Member { member_id: joined.member_id, instance_id: joined.instance_id, topics }
}

fn count(partitions: usize) -> i32 {
    i32::try_from(partitions).unwrap_or(i32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
