//! Whether an answer is one to what was asked. One that lacks, doubles or contradicts it is an error, never a fact: taken
//! for one, a missing offset would be a partition without a commit, and a missing topic one without partitions.

use std::collections::BTreeSet;

use crate::config::AssignorName;
use crate::kafka::assignor::protocol_name;
use crate::kafka::group::subscription::decode_assignment;
use crate::kafka::protocol::join_group::JoinGroupResponse;
use crate::kafka::protocol::metadata::MetadataResponse;
use crate::kafka::protocol::offset_commit::{OffsetCommitResponse, PartitionCommit};
use crate::kafka::protocol::offset_fetch::OffsetFetchResponse;
use crate::kafka::protocol::sync_group::SyncGroupResponse;

/// What is wrong with an answer, or nothing.
type Checked = Result<(), String>;

/// JoinGroup.
pub(super) fn join(answer: &JoinGroupResponse, offered: &[AssignorName]) -> Checked {
    let JoinGroupResponse { error, generation, protocol, leader, member_id, members } = answer;
    match error {
        0 => {}
        79 if member_id.is_empty() => return Err("a member id is required, and none is given".to_owned()),
        _ => return Ok(()),
    }
    if member_id.is_empty() || *generation < 0 {
        return Err(format!("no error, member id {member_id:?} and generation {generation}"));
    }
    if !offered.iter().any(|name| protocol_name(*name) == protocol) {
        return Err(format!("the group agreed on the assignor {protocol:?}, which was not offered"));
    }
    if leader != member_id {
        return Ok(());
    }
    let ids: BTreeSet<&str> = members.iter().map(|member| member.member_id.as_str()).collect();
    if ids.len() != members.len() || !ids.contains(member_id.as_str()) {
        return Err(format!("this member leads, and the {} members lack it or are doubled", members.len()));
    }
    Ok(())
}

/// SyncGroup.
pub(super) fn sync(answer: &SyncGroupResponse, topic: &str) -> Checked {
    if answer.error != 0 {
        return Ok(());
    }
    let assigned = decode_assignment(&answer.assignment)
        .map_err(|error| format!("the leader's assignment cannot be read: {error}"))?;
    if let Some(other) = assigned.keys().find(|name| *name != topic) {
        return Err(format!("the leader assigned partitions of {other}, which this member has not subscribed to"));
    }
    let share: Vec<i32> = assigned.into_values().flatten().collect();
    once(&share, &share).map_err(|what| format!("the leader's assignment: {what}"))
}

/// Metadata of these topics.
pub(super) fn metadata(answer: &MetadataResponse, asked: &[&str]) -> Checked {
    for topic in asked {
        let mut found = answer.topics.iter().filter(|answered| answered.name == *topic);
        let (Some(answered), None) = (found.next(), found.next()) else {
            return Err(format!("the topic {topic} is missing or doubled"));
        };
        let mut indexes: Vec<i32> = answered.partitions.iter().map(|partition| partition.index).collect();
        indexes.sort_unstable();
        if answered.error == 0 && !indexes.iter().copied().eq((0..).take(indexes.len())) {
            return Err(format!("the topic {topic} has the partitions {indexes:?}"));
        }
    }
    match answer.topics.len() == asked.len() {
        true => Ok(()),
        false => Err(format!("{} topics for {}", answer.topics.len(), asked.len())),
    }
}

/// OffsetFetch of these partitions.
pub(super) fn offsets(answer: &OffsetFetchResponse, asked: &[i32]) -> Checked {
    if answer.error != 0 {
        return Ok(());
    }
    let answered: Vec<i32> = answer.partitions.iter().map(|at| at.partition).collect();
    once(&answered, asked)?;
    match answer.partitions.iter().find(|at| at.error == 0 && at.offset < -1) {
        Some(at) => Err(format!("partition {} is committed at {}", at.partition, at.offset)),
        None => Ok(()),
    }
}

/// OffsetCommit of these partitions.
pub(super) fn commit(answer: &OffsetCommitResponse, sent: &[PartitionCommit]) -> Checked {
    let answered: Vec<i32> = answer.partitions.iter().map(|(partition, _)| *partition).collect();
    let sent: Vec<i32> = sent.iter().map(|commit| commit.partition).collect();
    once(&answered, &sent)
}

/// Each partition asked for is answered once, and no other.
fn once(answered: &[i32], asked: &[i32]) -> Checked {
    let (answers, questions): (BTreeSet<i32>, BTreeSet<i32>) =
        (answered.iter().copied().collect(), asked.iter().copied().collect());
    if answers.len() != answered.len() {
        return Err("a partition comes twice".to_owned());
    }
    if let Some(lacking) = questions.difference(&answers).next() {
        return Err(format!("partition {lacking} is missing"));
    }
    match answers.difference(&questions).find(|_| true).or_else(|| answers.iter().find(|index| **index < 0)) {
        Some(other) => Err(format!("partition {other} was not asked for")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
