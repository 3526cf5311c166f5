use proptest::prelude::*;

use super::*;

fn member(id: &str, topics: &[&str]) -> Member {
    Member { member_id: id.into(), instance_id: None, topics: topics.iter().map(|topic| (*topic).into()).collect() }
}

fn shares(name: AssignorName, members: &[Member], counts: &[(&str, i32)]) -> Vec<String> {
    let counts = counts.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect();
    let assigned = assign(name, members.to_vec(), &counts);
    assigned.iter().map(|(id, share)| format!("{id}: {share:?}")).collect()
}

#[test]
fn range_as_in_the_java_documentation() {
    // Javadoc of RangeAssignor: two members, two topics of three partitions.
    let members = [member("C1", &["t1", "t0"]), member("C0", &["t0", "t1"])];
    assert_eq!(
        shares(AssignorName::Range, &members, &[("t0", 3), ("t1", 3)]),
        [r#"C0: {"t0": [0, 1], "t1": [0, 1]}"#, r#"C1: {"t0": [2], "t1": [2]}"#]
    );
}

#[test]
fn roundrobin_as_in_the_java_documentation() {
    // Javadoc of RoundRobinAssignor: topics of 1, 2, 3 partitions; C0 reads t0, C1 t0 t1, C2 all.
    let members = [member("C0", &["t0"]), member("C1", &["t0", "t1"]), member("C2", &["t0", "t1", "t2"])];
    assert_eq!(
        shares(AssignorName::RoundRobin, &members, &[("t0", 1), ("t1", 2), ("t2", 3)]),
        [r#"C0: {"t0": [0]}"#, r#"C1: {"t1": [0]}"#, r#"C2: {"t1": [1], "t2": [0, 1, 2]}"#]
    );
}

#[test]
fn static_members_come_first() {
    let mut fixed = member("z", &["t"]);
    fixed.instance_id = Some("pod-0".into());
    assert_eq!(
        shares(AssignorName::Range, &[member("a", &["t"]), fixed], &[("t", 3)]),
        [r#"a: {"t": [2]}"#, r#"z: {"t": [0, 1]}"#]
    );
}

#[test]
fn a_topic_without_members_or_partitions_is_nobodys() {
    assert_eq!(shares(AssignorName::RoundRobin, &[member("a", &["t"])], &[("u", 3)]), ["a: {}"]);
    assert_eq!(shares(AssignorName::Range, &[member("a", &["t"])], &[("t", 0)]), ["a: {}"]);
}

proptest! {
    #[test]
    fn every_partition_has_one_owner_and_shares_differ_by_one(
        counts in prop::collection::vec(0i32..20, 1..4),
        subscriptions in prop::collection::vec(prop::collection::vec(any::<bool>(), 4), 1..9),
        shuffle in any::<u64>(),
    ) {
        let counts: PartitionCounts = (0..).zip(counts).map(|(i, count)| (format!("t{i}"), count)).collect();
        let mut members: Vec<Member> = (0..).zip(&subscriptions).map(|(i, topics)| Member {
            member_id: format!("m{i}"),
            instance_id: None,
            topics: (0..).zip(topics).filter(|(_, on)| **on).map(|(i, _): (i32, _)| format!("t{i}")).collect(),
        }).collect();
        for name in [AssignorName::Range, AssignorName::RoundRobin] {
            let assigned = assign(name, members.clone(), &counts);
            prop_assert_eq!(assigned.len(), members.len());
            for (topic, count) in &counts {
                let readers: Vec<_> = members.iter().filter(|member| member.topics.contains(topic)).collect();
                let mut owners: Vec<i32> = Vec::new();
                for member in &members {
                    let share = assigned[&member.member_id].get(topic).cloned().unwrap_or_default();
                    prop_assert!(share.is_empty() || member.topics.contains(topic));
                    if name == AssignorName::Range && !readers.is_empty() && member.topics.contains(topic) {
                        let even = usize::try_from(*count).unwrap() / readers.len();
                        prop_assert!(share.len() == even || share.len() == even + 1);
                    }
                    owners.extend(share);
                }
                owners.sort_unstable();
                let expected: Vec<i32> = if readers.is_empty() { vec![] } else { (0..*count).collect() };
                prop_assert_eq!(owners, expected);
            }
            let middle = usize::try_from(shuffle).unwrap_or(usize::MAX) % members.len();
            members.rotate_left(middle);
            prop_assert_eq!(assign(name, members.clone(), &counts), assigned, "the order of joining does not matter");
        }
    }
}
