//! The group membership as a pure state machine: answers and times go in, the next step comes out.
//!
//! The driver asks [`Group::next`] for a [`Step`], carries it out, and hands the answer to the method of the same name.
//! One request is under way at a time, so an answer always belongs to the identity it was asked with: answers that come
//! too late were thrown away with their connection.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::config::AssignorName;
use crate::kafka::assignor::{Member, PartitionCounts};
use crate::kafka::error::TopicFault;
use crate::kafka::group::held::{Held, commit_step};
use crate::kafka::group::verdict::Api;
use crate::kafka::group::{Intent, Membership, Phase};
use crate::kafka::protocol::offset_commit::PartitionCommit;
use crate::progress::FailingCommits;

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
    pub(super) settings: GroupSettings,
    pub(super) state: State,
    pub(super) epoch: u64,
    pub(super) phase: Phase,
    pub(super) intent: Intent,
    pub(super) topic: TopicView,
    /// The metadata's last answer was that this user may not see the topic; `topic` is then as it was seen before.
    pub(super) forbidden: bool,
    /// The id of the topic when it appeared while this member was watching.
    pub(super) born: Option<u128>,
    /// The last answer was a refusal: of this request, with this code.
    pub(super) refusal: Option<(Api, i16)>,
    /// The refusal that was logged last.
    pub(super) refused_before: Option<(Api, i16)>,
    /// Refusals and losses in a row without a heartbeat that was taken: the pauses grow with them.
    pub(super) setbacks: u32,
    /// Per partition since when its commits are refused or not answered, and why.
    pub(super) failing_commits: BTreeMap<i32, (Instant, String)>,
}

/// The topic as the metadata last showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopicView {
    Unasked,
    Missing,
    Present { id: u128, partition_count: i32 },
}

#[derive(Debug)]
pub(super) enum State {
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
pub(super) struct MemberState {
    pub(super) identity: Identity,
    /// When the last request was sent that the coordinator answered as a sign of life.
    pub(super) alive_at: Instant,
    pub(super) heartbeat_at: Instant,
    /// Partition counts that the assignment was made of; from a follower, its own topic's.
    pub(super) snapshot: PartitionCounts,
}

/// Pause after an answer that asks for another try.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How often the partition counts are looked at.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often once a fetch says that the topic is another one: not every broker knows at the same moment.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
            forbidden: false,
            born: None,
            refusal: None,
            refused_before: None,
            setbacks: 0,
            failing_commits: BTreeMap::new(),
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

    /// Per partition held the offset that the coordinator has: found at the beginning, or committed and acknowledged since.
    pub fn acknowledged(&self) -> impl Iterator<Item = (i32, i64)> {
        let held = match &self.state {
            State::Working { held, .. } | State::Revoking { held, .. } => Some(held),
            _ => None,
        };
        held.into_iter().flat_map(|held| held.committed.iter().map(|(partition, commit)| (*partition, commit.offset)))
    }

    /// What the metadata said last, if a person has to do something about it.
    pub fn topic_fault(&self) -> Option<TopicFault> {
        let topic = || self.settings.topic.clone();
        match self.topic {
            _ if self.forbidden => Some(TopicFault::Forbidden { topic: topic() }),
            TopicView::Missing => Some(TopicFault::Missing { topic: topic() }),
            TopicView::Unasked | TopicView::Present { .. } => None,
        }
    }

    /// Whether the last answer was a refusal: of which request, with which code. Asked once.
    pub fn take_refusal(&mut self) -> Option<(Api, i16)> {
        self.refusal.take()
    }

    /// Whether this member may work, or is over.
    pub fn has_place(&self) -> bool {
        matches!(self.state, State::Working { .. } | State::Ended) || self.intent.leave
    }

    /// Commits that fail, to be reported once one of them has for this long.
    pub fn failing_commits(&self, after: Duration) -> Option<FailingCommits> {
        let (since, cause) = self.failing_commits.values().min_by_key(|(since, _)| *since)?;
        let partitions: Vec<String> = self.failing_commits.keys().map(ToString::to_string).collect();
        let cause = format!("offsets of partitions {} are not committed: {cause}", partitions.join(", "));
        Some(FailingCommits { report_from: *since + after, cause })
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
                    TopicView::Present { partition_count, .. }
                        if *looked && share.last().is_some_and(|last| *last < partition_count) =>
                    {
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
                let look = self.intent.look && self.intent.epoch == self.epoch;
                let check_at = if look { *check_at - (CHECK_INTERVAL - LOOK_INTERVAL) } else { *check_at };
                if now >= check_at {
                    return Step::Metadata { topics: member.snapshot.keys().cloned().collect() };
                }
                let commit_at = held.next_try(&self.intent, self.epoch);
                let until = member.heartbeat_at.min(check_at);
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

    fn leave_step(settings: &GroupSettings, member_id: String) -> Step {
        // A static member that leaves would lose what makes it static: its partitions waiting for it (KIP-345).
        let member_id = if settings.instance_id.is_some() { String::new() } else { member_id };
        Step::Leave { member_id }
    }

    pub(super) fn lose(&mut self, why: &'static str, keep_id: bool, now: Instant) -> Coordinator {
        let member_id = match self.identity() {
            Some(identity) if keep_id => identity.member_id.clone(),
            _ => String::new(),
        };
        warn!(why, "lost the partitions; joining again");
        self.outside(why);
        // The first time at once. A member that is thrown out as soon as it is in must not do that in a loop.
        self.setbacks += 1;
        let not_before = if self.setbacks == 1 { now } else { now + self.pause() };
        self.join_again(member_id, not_before, Coordinator::Keep)
    }

    /// The pause before another try: doubles with each setback, up to 4 s.
    pub(super) fn pause(&self) -> Duration {
        RETRY_PAUSE * (1 << self.setbacks.saturating_sub(1).min(4))
    }

    pub(super) fn outside(&mut self, why: &'static str) {
        self.epoch += 1;
        self.phase = Phase::Outside { why };
    }

    pub(super) fn join_again(&mut self, member_id: String, not_before: Instant, after: Coordinator) -> Coordinator {
        self.state = State::Joining { member_id, not_before };
        after
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
