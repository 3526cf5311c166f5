//! What the coordinator's answers do to the membership. The other half of [`super::state`].

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::config::AssignorName;
use crate::kafka::assignor::{self, Member, PartitionCounts};
use crate::kafka::error::{GroupRefused, code_name, commit_hint};
use crate::kafka::group::held::Held;
use crate::kafka::group::state::{
    CHECK_INTERVAL, Coordinator, Group, Identity, MemberState, RETRY_PAUSE, State, TopicView, millis,
};
use crate::kafka::group::subscription::{self, Subscription};
use crate::kafka::group::verdict::{Api, Verdict, verdict};
use crate::kafka::group::{Assignment, CommitNote, Committed, Phase};
use crate::kafka::protocol::join_group::{JoinGroupResponse, JoinedMember};
use crate::kafka::protocol::metadata::TopicMetadata;
use crate::kafka::protocol::offset_commit::{OffsetCommitResponse, PartitionCommit};
use crate::kafka::protocol::offset_fetch::{FetchedOffset, OffsetFetchResponse};
use crate::kafka::protocol::sync_group::SyncGroupResponse;

impl Group {
    /// The answer to [`Step::Join`].
    pub fn joined(&mut self, answer: JoinGroupResponse, sent: Instant, now: Instant) -> Coordinator {
        let State::Joining { member_id, .. } = &self.state else { return Coordinator::Keep };
        let member_id = member_id.clone();
        match self.judge(Api::Join, answer.error) {
            Verdict::Fine => {}
            Verdict::TakeMemberId => {
                return self.join_again(answer.member_id, now, Coordinator::Keep);
            }
            Verdict::LostWithId => return self.join_again(String::new(), self.soon(now), Coordinator::Keep),
            Verdict::Lost => return self.join_again(member_id, self.soon(now), Coordinator::Keep),
            Verdict::Rediscover => return self.join_again(member_id, now + self.pause(), Coordinator::Rediscover),
            Verdict::Refused => return self.refuse(Api::Join, answer.error),
            Verdict::Retry | Verdict::Rebalance | Verdict::WithoutNote | Verdict::Park => {
                return self.join_again(member_id, now + self.pause(), Coordinator::Keep);
            }
        }
        // The answer was checked: the assignor is one of those offered.
        let Some(assignor) = self.assignor(&answer.protocol) else {
            return self.join_again(member_id, now + self.pause(), Coordinator::Keep);
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
            let (before, fault) = (self.topic, self.topic_fault());
            self.topic = match own.error {
                0 if !own.partitions.is_empty() => {
                    TopicView::Present { id: own.id, partition_count: count(own.partitions.len()) }
                }
                3 => TopicView::Missing,
                // No right to see it, or no answer yet: it is what it was.
                _ => self.topic,
            };
            self.forbidden = match own.error {
                29 => true,
                0 | 3 => false,
                _ => self.forbidden,
            };
            match (before, self.topic) {
                (TopicView::Missing, TopicView::Present { id, .. }) => self.born = Some(id),
                (TopicView::Present { id: old, .. }, TopicView::Present { id, .. }) if old != id && old != 0 => {
                    self.born = Some(id);
                }
                _ => {}
            }
            if let (Some(_), None, TopicView::Present { partition_count, .. }) = (fault, self.topic_fault(), self.topic)
            {
                info!(topic = self.settings.topic, partitions = partition_count, "the topic is there now");
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
                    // Without the topic in the metadata there is nothing to fetch offsets for yet; and the offsets of a
                    // partition that this broker does not know would look like none.
                    let short = share.last().is_some_and(|last| *last >= own);
                    let pause = if short { RETRY_PAUSE } else { Duration::ZERO };
                    self.state = State::Starting { member, share, not_before: now + pause, looked };
                }
            }
            State::Working { member, mut held, .. } => {
                let why = self.changed(&member.snapshot, &counts, held.assignment.topic_id);
                if counts.contains_key(&self.settings.topic) {
                    held.parked.clear();
                }
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
            Verdict::LostWithId => return self.join_again(String::new(), self.soon(now), Coordinator::Keep),
            Verdict::Rebalance => return self.join_again(member_id, now, Coordinator::Keep),
            Verdict::Lost => return self.join_again(member_id, self.soon(now), Coordinator::Keep),
            Verdict::Rediscover => return self.join_again(member_id, now + self.pause(), Coordinator::Rediscover),
            Verdict::Refused => return self.refuse(Api::Sync, answer.error),
            Verdict::Retry | Verdict::TakeMemberId | Verdict::WithoutNote | Verdict::Park => {
                return self.join_again(member_id, now + self.pause(), Coordinator::Keep);
            }
        }
        // The answer was checked: the assignment can be read.
        let mut share = match subscription::decode_assignment(&answer.assignment) {
            Ok(mut assigned) => assigned.remove(&self.settings.topic).unwrap_or_else(Vec::new),
            Err(_) => return self.join_again(member_id, now + self.pause(), Coordinator::Keep),
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
                let not_before = now + self.pause();
                self.state = State::Starting { member, share, not_before, looked: true };
                return if other == Verdict::Rediscover { Coordinator::Rediscover } else { Coordinator::Keep };
            }
        }
        let committed = |offset: &FetchedOffset| {
            (offset.offset >= 0).then(|| Committed {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                note: CommitNote::parse(&offset.metadata),
            })
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
        // Not the first, which comes with the place in the group: commits may be refused there all the same.
        if verdict == Verdict::Fine && matches!(self.state, State::Working { .. }) {
            self.setbacks = 0;
        }
        let (interval, pause) = (self.settings.heartbeat_interval, self.pause());
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
                    member.heartbeat_at = now + pause;
                }
                Coordinator::Keep
            }
            Verdict::Rediscover => {
                member.heartbeat_at = now + pause;
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
        let (mut shorten, mut put_off) = (false, false);
        for (partition, code) in &answer.partitions {
            // An error of the group comes once for each partition; it is one.
            let verdict =
                if told.contains(code) { verdict(Api::Commit, *code) } else { self.judge(Api::Commit, *code) };
            told.push(*code);
            let (State::Working { member, held, .. } | State::Revoking { member, held, .. }) = &mut self.state else {
                return after;
            };
            let sent_one = sent_partitions.iter().find(|commit| commit.partition == *partition);
            let offset = sent_one.map(|at| at.offset);
            if verdict == Verdict::Fine {
                member.alive_at = member.alive_at.max(sent); // a commit that was taken keeps the session too
                if let Some(offset) = offset {
                    held.took(&self.intent, self.epoch, *partition, offset);
                }
                self.failing_commits.remove(partition);
                continue;
            }
            let cause = format!("OffsetCommit is answered with {}; {}", code_name(*code), commit_hint(*code));
            self.failing_commits.entry(*partition).or_insert_with(|| (now, String::new())).1 = cause;
            match verdict {
                // Without a note there is nothing to shorten: it is refused like any other commit.
                Verdict::WithoutNote if sent_one.is_some_and(|commit| !commit.metadata.is_empty()) => shorten = true,
                Verdict::Fine | Verdict::Retry | Verdict::TakeMemberId | Verdict::WithoutNote => put_off = true,
                Verdict::Rediscover => {
                    put_off = true;
                    after = Coordinator::Rediscover;
                }
                Verdict::Park => {
                    held.parked.extend(offset.map(|offset| (*partition, offset)));
                }
                Verdict::Rebalance => {
                    put_off = true;
                    self.revoke("the group is rebalancing", now);
                }
                Verdict::Lost => return self.lose("the generation is over", true, now),
                Verdict::LostWithId => {
                    return self.lose("the coordinator does not know this member any more", false, now);
                }
                Verdict::Refused => return self.refuse(Api::Commit, *code),
            }
        }
        if let State::Working { held, .. } | State::Revoking { held, .. } = &mut self.state {
            if shorten {
                held.shorten_notes(sent_partitions);
            }
            if put_off {
                held.put_off(now);
            }
            if self.failing_commits.is_empty() {
                (held.commit_tries, self.setbacks) = (0, 0);
            }
        }
        after
    }

    /// A commit of these partitions was not answered. [`Group::failed`] follows.
    pub fn commit_failed(&mut self, sent_partitions: &[PartitionCommit], cause: &str, now: Instant) {
        for commit in sent_partitions {
            self.failing_commits.entry(commit.partition).or_insert_with(|| (now, String::new())).1 = cause.to_owned();
        }
    }

    /// A request failed without an answer: the same step comes again after a pause, on a new connection.
    pub fn failed(&mut self, now: Instant) {
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
                held.put_off(now);
                *check_at = (*check_at).max(again);
            }
            State::Revoking { member, held, .. } => {
                member.heartbeat_at = member.heartbeat_at.max(again);
                held.put_off(now);
            }
            State::Ended => {}
        }
    }

    /// LeaveGroup was sent, or there was nothing to leave.
    pub fn left(&mut self) {
        self.outside("left the group");
        self.state = State::Ended;
    }

    fn judge(&mut self, api: Api, code: i16) -> Verdict {
        let verdict = verdict(api, code);
        match verdict {
            Verdict::Fine | Verdict::TakeMemberId | Verdict::Rebalance => {}
            _ => {
                // The loss of the place counts by itself, whatever it follows from.
                let lost = api == Api::Heartbeat && matches!(verdict, Verdict::Lost | Verdict::LostWithId);
                self.setbacks += u32::from(!lost && api != Api::Commit);
                // The first is a line; what lasts is a reason, which is logged as such.
                if self.refused_before != Some((api, code)) {
                    warn!(request = api.name(), code = code_name(code), verdict = ?verdict, "the coordinator answered");
                }
                self.refused_before = Some((api, code));
                self.refusal = Some((api, code));
            }
        }
        verdict
    }

    /// At once after the first setback, later after a pause.
    fn soon(&self, now: Instant) -> Instant {
        if self.setbacks <= 1 { now } else { now + self.pause() }
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
        let assignment = Assignment {
            generation: member.identity.generation,
            topic_id,
            partition_count,
            known_partition_count,
            partitions,
        };
        self.failing_commits.retain(|partition, _| assignment.partitions.contains_key(partition));
        self.epoch += 1;
        self.phase = Phase::Assigned(assignment.clone());
        let held = Held::new(assignment, now);
        self.state = State::Working { member, held, check_at: now + CHECK_INTERVAL };
    }

    /// How many partitions of this very topic the group has known of, by its commits. Partitions from there on are new.
    fn known_partition_count(&self, committed: &BTreeMap<i32, Option<Committed>>) -> Option<i32> {
        let TopicView::Present { id, partition_count } = self.topic else { return None };
        // A topic that was deleted took its commits with it, or left those of a member that had not noticed.
        let of_this = |note: &CommitNote| note.is_of(id);
        let stands = |committed: &Committed| committed.note.as_ref().is_none_or(of_this);
        let notes = committed.values().flatten().filter_map(|committed| committed.note.as_ref());
        let known = notes.map(|note| if of_this(note) { note.partition_count } else { 0 }).max();
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
            State::Working { member, mut held, .. } => {
                // The last chance of commits that were not taken before.
                held.parked.clear();
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

    fn refuse(&mut self, api: Api, code: i16) -> Coordinator {
        let refused = GroupRefused { group: self.settings.group_id.clone(), api: api.name(), code };
        self.epoch += 1;
        self.phase = Phase::Refused(refused);
        self.state = State::Ended;
        Coordinator::Keep
    }
}

fn parse_member(joined: JoinedMember) -> Member {
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
