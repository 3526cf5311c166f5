//! Partitions change hands at any moment while inserts are in doubt, rows are refused and letters are late: against a
//! server that knows tokens, every event is stored exactly once.
//!
//! The log, the server and the loop are a model; batches, tokens, parts, plans, notes and the group's commits are real.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::open;
use super::*;
use crate::batch::Why;
use crate::config::AssignorName;
use crate::kafka::group::state::{Group, GroupSettings, Step};
use crate::kafka::group::subscription::{TopicPartitions, encode_assignment};
use crate::kafka::group::{Assignment, Intent, Phase};
use crate::kafka::protocol::join_group::JoinGroupResponse;
use crate::kafka::protocol::metadata::{PartitionMetadata, TopicMetadata};
use crate::kafka::protocol::offset_commit::OffsetCommitResponse;
use crate::kafka::protocol::offset_fetch::{FetchedOffset, OffsetFetchResponse};
use crate::kafka::protocol::sync_group::SyncGroupResponse;
use crate::part::plan;

const PARTITIONS: i32 = 4;
const END: i64 = 60;

/// Decisions out of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }
}

/// What lies at an offset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Row,
    /// By a constraint, which names it.
    Refused,
    /// By an expression that is computed as its part is written.
    Throws,
    Unreadable,
    Gap,
}

fn place(partition: i32, offset: i64) -> Place {
    match (partition, offset) {
        (_, offset) if offset % 7 == i64::from(partition) => Place::Gap,
        (1, 20 | 21) | (2, 45) => Place::Refused,
        (2, 22) | (3, 8 | 50) => Place::Throws,
        (3, 33) | (0, 5) => Place::Unreadable,
        _ => Place::Row,
    }
}

/// What the members share.
struct World {
    dice: Dice,
    /// Offset and note of each partition.
    committed: BTreeMap<i32, (i64, String)>,
    /// By token, the table partitions whose parts are stored.
    tokens: BTreeSet<(String, i64)>,
    stored: BTreeMap<(i32, i64), u32>,
    lettered: BTreeSet<(i32, i64)>,
}

enum Outcome {
    Stored,
    Refused(Refusal),
    /// Stored or not: the answer did not come.
    Unknown,
}

/// Of the table.
fn table_partition(offset: i64) -> i64 {
    offset / 5 % 4
}

impl World {
    fn insert(&mut self, insert: &Insert, rows: &[(i32, i64)], calm: bool) -> Outcome {
        assert_eq!(insert.block.rows, rows.len() as u64, "an insert has the rows of its part");
        let lost = !calm && self.dice.one_in(4);
        if lost && self.dice.one_in(2) {
            return Outcome::Unknown; // it never came
        }
        let reason = Reason { class: "server", column: None, text: "no".into(), code: Some(469) };
        let named = rows.iter().position(|at| place(at.0, at.1) == Place::Refused);
        if named.is_some() {
            let refusal = Refusal { reason, named, conclusive: true, ask_at: None };
            return if lost { Outcome::Unknown } else { Outcome::Refused(refusal) };
        }
        // Parts are committed one by one, each once the next is written.
        let mut parts: BTreeMap<i64, Vec<(i32, i64)>> = BTreeMap::new();
        rows.iter().for_each(|at| parts.entry(table_partition(at.1)).or_default().push(*at));
        let bad = |rows: &Vec<(i32, i64)>| rows.iter().any(|at| place(at.0, at.1) == Place::Throws);
        let thrown = parts.values().position(bad);
        let whole = thrown.map_or(parts.len(), |at| at.saturating_sub(1));
        for (table_partition, rows) in parts.into_iter().take(whole) {
            if self.tokens.insert((insert.token.clone(), table_partition)) {
                rows.iter().for_each(|place| *self.stored.entry(*place).or_default() += 1);
            }
        }
        let ask_at = (rows.len() > 2).then(Instant::now);
        match thrown {
            _ if lost => Outcome::Unknown,
            Some(_) => Outcome::Refused(Refusal { reason, named: None, conclusive: false, ask_at }),
            None => Outcome::Stored,
        }
    }

    /// A member of the group with this share, as the real state machine makes it.
    fn join(&self, share: &[i32]) -> (Group, Assignment) {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let settings = GroupSettings {
            group_id: "g".into(),
            topic: "t".into(),
            instance_id: None,
            assignors: vec![AssignorName::Range],
            session_timeout: 30 * second,
            heartbeat_interval: 3 * second,
            rebalance_timeout: 60 * second,
        };
        let mut group = Group::new(settings, now);
        let member_id = "m".to_owned();
        let (protocol, leader) = ("range".to_owned(), "other".to_owned());
        let joined = JoinGroupResponse { error: 0, generation: 1, protocol, leader, member_id, members: vec![] };
        group.joined(joined, now, now);
        let assignment = encode_assignment(&TopicPartitions::from([("t".to_owned(), share.to_vec())]));
        group.synced(&SyncGroupResponse { error: 0, assignment }, now, now);
        let partitions =
            (0..PARTITIONS).map(|index| PartitionMetadata { error: 0, index, leader: 1, leader_epoch: 0 }).collect();
        group.metadata(&[TopicMetadata { error: 0, name: "t".into(), id: 7, partitions }], now);
        let offset = |(partition, (offset, metadata)): (&i32, &(i64, String))| FetchedOffset {
            partition: *partition,
            offset: *offset,
            leader_epoch: -1,
            metadata: metadata.clone(),
            error: 0,
        };
        let partitions = self.committed.iter().map(offset).collect();
        group.offsets_fetched(&OffsetFetchResponse { error: 0, partitions }, now);
        match group.membership().phase {
            Phase::Assigned(assignment) => (group, assignment),
            other => panic!("{other:?}"),
        }
    }

    /// Lets the state machine commit what it wants to.
    fn commit(&mut self, group: &mut Group, offsets: &BTreeMap<i32, i64>, parts: Option<Vec<Part>>) {
        let now = Instant::now();
        let intent = Intent { epoch: group.membership().epoch, offsets: offsets.clone(), parts, ..Intent::default() };
        group.intend(intent);
        group.heartbeat(0, now, now);
        if let Step::Commit { partitions, .. } = group.next(now) {
            for commit in &partitions {
                let before = self.committed.insert(commit.partition, (commit.offset, commit.metadata.clone()));
                assert!(before.is_none_or(|(offset, _)| offset <= commit.offset), "a commit went back");
            }
            let answer =
                OffsetCommitResponse { partitions: partitions.iter().map(|commit| (commit.partition, 0)).collect() };
            group.committed(&partitions, &answer, now, now);
        }
        assert!(!matches!(group.next(now), Step::Commit { .. }), "all is committed");
    }

    /// One member's time with its partitions; `calm` when nothing goes wrong and all is read.
    fn reign(&mut self, share: &[i32], calm: bool) {
        let (mut group, assignment) = self.join(share);
        let mut member =
            Member { at: BTreeMap::new(), commits: BTreeMap::new(), stuck: BTreeSet::new(), unsettled: Vec::new() };
        member.at.extend(share.iter().map(|index| (*index, self.committed[index].0)));
        let own = |places: &[(i32, i64)]| places.iter().copied().filter(|at| share.contains(&at.0)).collect::<Vec<_>>();
        if let Some(plan) = plan(&assignment.noted()) {
            let now = Instant::now();
            let stand = |part: Part| {
                let stand = if part.asks() { Stand::Ask(now) } else { Stand::Maybe(now) };
                (part.sending(), stand)
            };
            let budget = self.budget();
            let mut isolation = Isolation::of(0, plan.parts.into_iter().map(stand), budget, now);
            if let Some(parts) = self.run(&mut isolation, calm) {
                return self.commit(&mut group, &member.commits, Some(parts));
            }
            let places: Vec<_> =
                isolation.into_outcome().0.iter().map(|letter| (letter.partition, letter.offset)).collect();
            self.lettered.extend(own(&places));
            member.settle(plan.own.into_iter().map(|(index, (_, to))| (index, to)), Vec::new());
            self.commit(&mut group, &member.commits, None);
        }
        let mut batches = if calm { u64::MAX } else { self.dice.below(4) };
        while batches > 0 && member.at.values().any(|at| *at < END) {
            batches -= 1;
            let (ranges, batch, places) = self.read(&mut member);
            let part = Part::of(&ranges);
            let ends: Vec<_> = ranges.iter().map(|(index, range)| (index, range.next)).collect();
            let mut parts = vec![part.clone()];
            let mut letters = batch.letters;
            if let Some(insert) = &batch.insert {
                let is_row = |at: &&(i32, i64)| !matches!(place(at.0, at.1), Place::Unreadable | Place::Gap);
                let rows: Vec<(i32, i64)> = places.iter().filter(is_row).copied().collect();
                let outcome = self.insert(insert, &rows, calm);
                let (now, budget) = (Instant::now(), self.budget());
                let own = |stand| Some(Isolation::of_own(0, &ranges, stand, budget, now));
                let isolation = match outcome {
                    Outcome::Stored => None,
                    Outcome::Refused(Refusal { ask_at, .. }) if !calm && self.dice.one_in(4) && ask_at.is_some() => {
                        // The partitions were being given away.
                        member.unsettled.push(part);
                        return self.commit(&mut group, &member.commits, Some(member.unsettled));
                    }
                    Outcome::Refused(refusal) => own(refusal.ask_at.map_or(Stand::Sure, Stand::Ask)),
                    Outcome::Unknown if self.dice.one_in(2) => own(Stand::Maybe(now)),
                    Outcome::Unknown => {
                        member.unsettled.push(part);
                        return self.commit(&mut group, &member.commits, Some(member.unsettled));
                    }
                };
                if let Some(mut isolation) = isolation {
                    if let Some(doubts) = self.run(&mut isolation, calm) {
                        member.unsettled.extend(doubts);
                        return self.commit(&mut group, &member.commits, Some(member.unsettled));
                    }
                    parts = isolation.parts();
                    letters = isolation.into_outcome().0;
                }
            }
            let late = !calm && self.dice.one_in(4);
            let places: Vec<_> = letters.iter().map(|letter| (letter.partition, letter.offset)).collect();
            if late {
                member.stuck.extend(places.iter().map(|at| at.0));
            } else {
                self.lettered.extend(places);
            }
            member.settle(ends, parts);
            self.commit(&mut group, &member.commits, None);
        }
        self.commit(&mut group, &member.commits, Some(member.unsettled));
    }

    /// Reads a batch that ends anywhere.
    fn read(&mut self, member: &mut Member) -> (Ranges, crate::batch::Closed, Vec<(i32, i64)>) {
        let mut batch = open();
        let mut places = Vec::new();
        let mut left = 1 + self.dice.below(40);
        let now = Instant::now();
        while left > 0 && member.at.values().any(|at| *at < END) {
            let behind: Vec<i32> = member.at.iter().filter(|(_, at)| **at < END).map(|(index, _)| *index).collect();
            let partition = behind[self.dice.below(behind.len() as u64) as usize];
            let run = 1 + self.dice.below(8);
            let at = member.at.get_mut(&partition).unwrap();
            for _ in 0..run.min(left) {
                if *at < END {
                    if place(partition, *at) == Place::Gap {
                        batch.passed(partition, *at, *at + 1, now);
                    } else {
                        with_record(partition, *at, |record| drop(batch.take(record, now)));
                        places.push((partition, *at));
                    }
                    *at += 1;
                }
                left -= 1;
            }
        }
        let closed = batch.close(Why::Rows);
        (closed.ranges.clone(), closed, places)
    }

    /// Runs a search; the parts in doubt when the partitions are taken away before it is over.
    fn run(&mut self, isolation: &mut Isolation, calm: bool) -> Option<Vec<Part>> {
        let mut now = Instant::now();
        while !isolation.is_over() {
            if !calm && self.dice.one_in(20) {
                return Some(isolation.parts());
            }
            if isolation.may_read() {
                let from = isolation.begin_reading(open);
                if !calm && self.dice.one_in(12) {
                    return Some(isolation.parts());
                }
                for (partition, first) in &from {
                    for offset in (*first..END).filter(|offset| place(*partition, *offset) != Place::Gap) {
                        with_record(*partition, offset, |record| drop(isolation.take(record, now)));
                    }
                }
                isolation.end_reading(|_| Some(END));
            }
            let given_up = match isolation.next(now, open) {
                Some(Task::Send(built)) => self.send(isolation, built, calm),
                Some(Task::Ask(question, rest)) => self.ask(isolation, &question, rest, calm),
                None => {
                    now = isolation.waits_until(now).unwrap_or(now);
                    None
                }
            };
            if given_up.is_some() {
                return given_up;
            }
        }
        None
    }

    fn send(&mut self, isolation: &mut Isolation, built: Built, calm: bool) -> Option<Vec<Part>> {
        let Built { insert, rest } = built;
        let (rows, now) = (isolation.places(&rest), Instant::now());
        match self.insert(&insert, &rows, calm) {
            Outcome::Stored => isolation.stored(&rest),
            Outcome::Refused(refusal) => drop(isolation.refused(rest, refusal, now)),
            Outcome::Unknown if self.dice.one_in(2) => isolation.again(rest, Some(now)),
            Outcome::Unknown => {
                // What is on the wire is noted first.
                let mut parts = vec![rest.part().clone()];
                parts.extend(isolation.parts());
                return Some(parts);
            }
        }
        None
    }

    fn ask(&mut self, isolation: &mut Isolation, question: &Question, rest: Rest, calm: bool) -> Option<Vec<Part>> {
        if !calm && self.dice.one_in(6) {
            let mut parts = vec![rest.part().clone()];
            parts.extend(isolation.parts());
            return Some(parts);
        }
        if !calm && self.dice.one_in(6) {
            let send = self.dice.one_in(2);
            isolation.not_answered(rest, send);
            return None;
        }
        let held = |id: &String| {
            let (partition, offset) = id.split_once('/').unwrap();
            let at = (partition.parse().unwrap(), offset.parse().unwrap());
            (id.clone(), u64::from(self.stored.get(&at).copied().unwrap_or(0)))
        };
        let held = question.ids.iter().map(held).collect();
        isolation.answered(rest, &held, Instant::now());
        None
    }

    /// Of records held: now and then too little for more than a row.
    fn budget(&mut self) -> usize {
        if self.dice.one_in(3) { 0 } else { 1 << 20 }
    }
}

/// What a member knows.
struct Member {
    /// The next offset to read.
    at: BTreeMap<i32, i64>,
    /// What may be committed.
    commits: BTreeMap<i32, i64>,
    /// Partitions that wait for letters: nothing more of them is committed.
    stuck: BTreeSet<i32>,
    /// Stored, and not committed everywhere.
    unsettled: Vec<Part>,
}

impl Member {
    /// Stored as these parts up to these ends.
    fn settle(&mut self, ends: impl IntoIterator<Item = (i32, i64)>, parts: Vec<Part>) {
        for (partition, end) in ends {
            self.at.insert(partition, end);
            if !self.stuck.contains(&partition) {
                self.commits.insert(partition, end);
            }
        }
        self.unsettled.extend(parts);
    }
}

fn with_record(partition: i32, offset: i64, take: impl FnOnce(&Record<'_>)) {
    let value = match place(partition, offset) {
        Place::Unreadable => b"unreadable".to_vec(),
        _ => format!("{{\"a\": {offset}, \"event_id\": \"{partition}/{offset}\"}}").into_bytes(),
    };
    let (timestamp, key, value) = (offset * 3, None, Some(value.as_slice()));
    take(&Record { partition, offset, timestamp, key, value, headers: b"\0" });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_stored_once_whoever_reads_it(seed in 1_u64..) {
        let committed = (0..PARTITIONS).map(|index| (index, (0, String::new()))).collect();
        let mut world = World {
            dice: Dice(seed),
            committed,
            tokens: BTreeSet::new(),
            stored: BTreeMap::new(),
            lettered: BTreeSet::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _clock = runtime.enter();
        for generation in 0.. {
            let members = 1 + world.dice.below(3);
            let mut shares = vec![Vec::new(); members as usize];
            for partition in 0..PARTITIONS {
                shares[world.dice.below(members) as usize].push(partition);
            }
            let calm = generation == 6;
            for share in shares.iter().filter(|share| !share.is_empty()) {
                world.reign(share, calm);
            }
            if calm {
                break;
            }
        }
        for partition in 0..PARTITIONS {
            prop_assert_eq!(world.committed[&partition].0, END);
            for offset in 0..END {
                let at = (partition, offset);
                let (times, letter) = (world.stored.get(&at).copied().unwrap_or(0), world.lettered.contains(&at));
                let wanted = match place(partition, offset) {
                    Place::Row => (1, false),
                    Place::Refused | Place::Throws | Place::Unreadable => (0, true),
                    Place::Gap => (0, false),
                };
                prop_assert_eq!((times, letter), wanted, "{:?}", at);
            }
        }
    }
}
