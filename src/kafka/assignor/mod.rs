//! Assignors: who reads which partition. Only the elected leader's runs; the results of `range` and `roundrobin` are the
//! same as Java's and librdkafka's, so that partitions stay where they are when leadership moves between clients.

pub mod range;
pub mod roundrobin;

use std::collections::BTreeMap;

use crate::config::AssignorName;
use crate::kafka::group::subscription::TopicPartitions;

/// A member of the group as an assignor needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The member id.
    pub member_id: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
    /// The topics it reads.
    pub topics: Vec<String>,
}

/// Partition counts of the subscribed topics; topics that do not exist are absent.
pub type PartitionCounts = BTreeMap<String, i32>;

/// Assigns every partition of a subscribed topic to exactly one subscribed member. Every member gets an entry.
pub fn assign(
    name: AssignorName,
    mut members: Vec<Member>,
    counts: &PartitionCounts,
) -> BTreeMap<String, TopicPartitions> {
    // Java's order: static members first, by instance id; then dynamic ones, by member id.
    members.sort_by(|a, b| match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.member_id.cmp(&b.member_id),
    });
    let mut assigned: BTreeMap<String, TopicPartitions> =
        members.iter().map(|member| (member.member_id.clone(), TopicPartitions::new())).collect();
    let mut give = |member: &Member, topic: &str, partition: i32| {
        let share = assigned.entry(member.member_id.clone()).or_default();
        share.entry(topic.to_owned()).or_default().push(partition);
    };
    match name {
        AssignorName::Range => range::assign(&members, counts, &mut give),
        AssignorName::RoundRobin => roundrobin::assign(&members, counts, &mut give),
    }
    assigned
}

/// The name in the group protocol.
pub fn protocol_name(name: AssignorName) -> &'static str {
    match name {
        AssignorName::Range => "range",
        AssignorName::RoundRobin => "roundrobin",
    }
}

#[cfg(test)]
mod tests;
