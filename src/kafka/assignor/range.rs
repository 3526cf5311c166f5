//! `range`: each topic on its own, a contiguous run of partitions for each of its members in order.

use super::{Member, PartitionCounts};

/// Gives `count / members` partitions to each member of a topic and one more to the first `count % members`.
pub(super) fn assign(members: &[Member], counts: &PartitionCounts, give: &mut impl FnMut(&Member, &str, i32)) {
    for (topic, count) in counts {
        let readers: Vec<&Member> = members.iter().filter(|member| member.topics.contains(topic)).collect();
        let Ok(reader_count) = i32::try_from(readers.len()) else { continue };
        if reader_count == 0 {
            continue;
        }
        let mut next = 0;
        for (index, member) in (0..).zip(readers) {
            let share = count / reader_count + i32::from(index < count % reader_count);
            for partition in next..next + share {
                give(member, topic, partition);
            }
            next += share;
        }
    }
}
