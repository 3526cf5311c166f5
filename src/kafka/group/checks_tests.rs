use super::*;
use crate::kafka::group::subscription::{TopicPartitions, encode_assignment};
use crate::kafka::protocol::join_group::JoinedMember;
use crate::kafka::protocol::metadata::{PartitionMetadata, TopicMetadata};
use crate::kafka::protocol::offset_fetch::FetchedOffset;

#[test]
fn a_join_gives_an_identity_and_an_assignor_that_was_offered() {
    let member = |id: &str| JoinedMember { member_id: id.to_owned(), instance_id: None, subscription: Vec::new() };
    let good = JoinGroupResponse {
        error: 0,
        generation: 3,
        protocol: "range".to_owned(),
        leader: "me".to_owned(),
        member_id: "me".to_owned(),
        members: vec![member("me"), member("other")],
    };
    let checked = |change: fn(&mut JoinGroupResponse)| {
        let mut answer = good.clone();
        change(&mut answer);
        join(&answer, &[AssignorName::Range])
    };
    assert_eq!(checked(|_| {}), Ok(()));
    assert_eq!(checked(|answer| (answer.leader, answer.members) = (String::new(), Vec::new())), Ok(()), "KIP-848");
    assert_eq!(checked(|answer| (answer.error, answer.generation, answer.protocol) = (27, -1, String::new())), Ok(()));
    let changes: [fn(&mut JoinGroupResponse); 6] = [
        |answer| answer.member_id.clear(),
        |answer| answer.generation = -1,
        |answer| answer.protocol = "sticky".to_owned(),
        |answer| drop(answer.members.remove(0)),
        |answer| answer.members[1].member_id = "me".to_owned(),
        |answer| (answer.error, answer.member_id) = (79, String::new()),
    ];
    for change in changes {
        assert!(checked(change).is_err());
    }
}

#[test]
fn an_assignment_is_of_the_topic_and_names_each_partition_once() {
    let answer = |assigned: &[(&str, &[i32])]| {
        let assigned: TopicPartitions =
            assigned.iter().map(|(topic, share)| ((*topic).to_owned(), share.to_vec())).collect();
        SyncGroupResponse { error: 0, assignment: encode_assignment(&assigned) }
    };
    assert_eq!(sync(&answer(&[("t", &[0, 5])]), "t"), Ok(()));
    assert_eq!(sync(&answer(&[]), "t"), Ok(()));
    assert_eq!(sync(&SyncGroupResponse { error: 0, assignment: Vec::new() }, "t"), Ok(()), "forgotten by the leader");
    assert_eq!(sync(&SyncGroupResponse { error: 27, assignment: vec![9] }, "t"), Ok(()));
    assert!(sync(&answer(&[("t", &[0]), ("u", &[1])]), "t").is_err());
    assert!(sync(&answer(&[("t", &[0, 0])]), "t").is_err());
    assert!(sync(&answer(&[("t", &[-1])]), "t").is_err());
    assert!(sync(&SyncGroupResponse { error: 0, assignment: vec![0, 0, 0] }, "t").is_err());
}

#[test]
fn metadata_has_each_topic_once_with_all_its_partitions() {
    let topic = |name: &str, error: i16, indexes: &[i32]| TopicMetadata {
        error,
        name: name.to_owned(),
        id: 1,
        partitions: indexes
            .iter()
            .map(|index| PartitionMetadata { error: 0, index: *index, leader: 1, leader_epoch: -1 })
            .collect(),
    };
    let checked = |topics: Vec<TopicMetadata>| {
        metadata(&MetadataResponse { brokers: Vec::new(), cluster_id: None, topics }, &["t", "u"])
    };
    assert_eq!(checked(vec![topic("u", 3, &[]), topic("t", 0, &[1, 0])]), Ok(()));
    assert!(checked(vec![topic("t", 0, &[0])]).is_err(), "u is missing");
    assert!(checked(vec![topic("t", 0, &[0]), topic("t", 0, &[0])]).is_err(), "t is doubled");
    assert!(checked(vec![topic("t", 0, &[0]), topic("u", 0, &[0]), topic("v", 0, &[0])]).is_err());
    for indexes in [&[1][..], &[0, 0], &[0, 2], &[-1, 0]] {
        assert!(checked(vec![topic("t", 0, indexes), topic("u", 0, &[0])]).is_err(), "{indexes:?}");
    }
}

#[test]
fn offsets_and_commits_are_answered_once_for_each_partition() {
    let fetched = |offsets: &[(i32, i64)]| {
        let partitions = offsets
            .iter()
            .map(|(partition, offset)| FetchedOffset {
                partition: *partition,
                offset: *offset,
                metadata: String::new(),
                leader_epoch: -1,
                error: 0,
            })
            .collect();
        offsets_of(partitions)
    };
    fn offsets_of(partitions: Vec<FetchedOffset>) -> Checked {
        offsets(&OffsetFetchResponse { error: 0, partitions }, &[0, 1])
    }
    assert_eq!(fetched(&[(1, 7), (0, -1)]), Ok(()));
    for bad in [&[(0, 7)][..], &[(0, 7), (1, 7), (1, 8)], &[(0, 7), (1, 7), (2, 7)], &[(0, 7), (1, -5)], &[]] {
        assert!(fetched(bad).is_err(), "{bad:?}");
    }
    assert_eq!(offsets(&OffsetFetchResponse { error: 14, partitions: Vec::new() }, &[0]), Ok(()));
    let sent = [PartitionCommit { partition: 4, offset: 9, leader_epoch: -1, metadata: String::new() }];
    assert_eq!(commit(&OffsetCommitResponse { partitions: vec![(4, 0)] }, &sent), Ok(()));
    for bad in [vec![], vec![(4, 0), (4, 0)], vec![(5, 0)], vec![(4, 0), (5, 0)]] {
        assert!(commit(&OffsetCommitResponse { partitions: bad }, &sent).is_err());
    }
}
