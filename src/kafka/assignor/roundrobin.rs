//! `roundrobin`: all partitions of all topics dealt out one by one around the circle of all members.

use super::{Member, PartitionCounts};

/// Deals the partitions out in order of topic and index; members that do not read a topic are passed over. The circle
/// goes on from topic to topic.
pub(super) fn assign(members: &[Member], counts: &PartitionCounts, give: &mut impl FnMut(&Member, &str, i32)) {
    let mut turn = members.iter().cycle();
    for (topic, count) in counts {
        if !members.iter().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for partition in 0..*count {
            // Ends: the circle holds a member of this topic.
            if let Some(member) = turn.by_ref().find(|member| member.topics.contains(topic)) {
                give(member, topic, partition);
            }
        }
    }
}
