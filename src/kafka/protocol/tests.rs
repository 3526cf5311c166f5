use std::fmt::Write as _;

use proptest::prelude::*;
use rskafka::protocol::messages::RequestBody;

use super::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use super::describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse};
use super::fetch::{FetchAnswer, FetchBuffer, FetchByIdRequest, FetchFrom, FetchRequest, INCONSISTENT_TOPIC_ID};
use super::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use super::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use super::join_group::{JoinGroupRequest, JoinGroupResponse, JoinedMember};
use super::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use super::list_offsets::{LATEST, ListOffsetsRequest, ListOffsetsResponse, ListedOffset};
use super::metadata::{MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata};
use super::offset_commit::{OffsetCommitRequest, OffsetCommitResponse, PartitionCommit};
use super::offset_fetch::{FetchedOffset, OffsetFetchRequest, OffsetFetchResponse};
use super::offset_for_leader_epoch::{
    EpochEnd, EpochQuestion, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use super::sync_group::{SyncGroupRequest, SyncGroupResponse};
use super::topic_details::{TopicDetailsRequest, TopicDetailsResponse};
use super::wire::{Reader, WireError};

fn hex(encode: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    encode(&mut out);
    out.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// Field by field as in Kafka's message definitions (JoinGroupRequest.json and its siblings).
#[test]
fn requests_are_the_protocols_bytes() {
    let join = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 30000,
        rebalance_timeout_ms: 60000,
        member_id: "m",
        instance_id: None,
        protocols: &[("range", vec![0xaa, 0xbb])],
    };
    assert_eq!(
        hex(|out| join.encode(out, 5)),
        "000167 00007530 0000ea60 00016d ffff 0008636f6e73756d6572 00000001 000572616e6765 00000002aabb"
            .replace(' ', "")
    );
    let sync = SyncGroupRequest {
        group_id: "g",
        generation: 3,
        member_id: "m",
        instance_id: Some("i"),
        assignments: &[("m".into(), vec![1])],
    };
    assert_eq!(
        hex(|out| sync.encode(out, 3)),
        "000167 00000003 00016d 000169 00000001 00016d 0000000101".replace(' ', "")
    );
    let heartbeat = HeartbeatRequest { group_id: "g", generation: 3, member_id: "m", instance_id: None };
    assert_eq!(hex(|out| heartbeat.encode(out, 3)), "000167 00000003 00016d ffff".replace(' ', ""));
    let leave = LeaveGroupRequest { group_id: "g", member_id: "m" };
    assert_eq!(hex(|out| leave.encode(out, 2)), "00016700016d");
    assert_eq!(hex(|out| FindCoordinatorRequest { group_id: "g" }.encode(out, 2)), "00016700");
    let commit = OffsetCommitRequest {
        group_id: "g",
        generation: 3,
        member_id: "m",
        instance_id: None,
        topic: "t",
        partitions: &[PartitionCommit { partition: 1, offset: 5, leader_epoch: 6, metadata: "n".into() }],
    };
    assert_eq!(
        hex(|out| commit.encode(out, 7)),
        "000167 00000003 00016d ffff 00000001 000174 00000001 00000001 0000000000000005 00000006 00016e"
            .replace(' ', "")
    );
    let offsets = OffsetFetchRequest { group_id: "g", topic: "t", partitions: &[0, 1] };
    assert_eq!(hex(|out| offsets.encode(out, 5)), "000167 00000001 000174 00000002 00000000 00000001".replace(' ', ""));
    let list = ListOffsetsRequest { isolation: 1, topic: "t", partitions: &[(2, 9)], timestamp: LATEST };
    assert_eq!(
        hex(|out| list.encode(out, 3)),
        "ffffffff 01 00000001 000174 00000001 00000002 ffffffffffffffff".replace(' ', "")
    );
    assert_eq!(
        hex(|out| list.encode(out, 4)),
        "ffffffff 01 00000001 000174 00000001 00000002 00000009 ffffffffffffffff".replace(' ', "")
    );
    let metadata = MetadataRequest { topics: &["t"] };
    assert_eq!(hex(|out| metadata.encode(out, 7)), "0000000100017400");
    assert_eq!(hex(|out| metadata.encode(out, 8)), "000000010001740000 00".replace(' ', ""));
    assert_eq!(
        hex(|out| metadata.encode(out, 10)),
        "02 00000000000000000000000000000000 0274 00 00 00 00 00".replace(' ', "")
    );
    let fetch = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation: 1,
        topic: "t",
        partitions: &[FetchFrom { partition: 4, offset: 9, leader_epoch: 6 }],
        partition_max_bytes: 1 << 20,
    };
    assert_eq!(
        hex(|out| fetch.encode(out, 11)),
        "ffffffff 000001f4 00000001 00100000 01 00000000 ffffffff 00000001 000174 00000001 00000004 00000006 \
         0000000000000009 ffffffffffffffff 00100000 00000000 0000"
            .replace(' ', "")
    );
    // As Kafka 4.3.1's own FetchRequestData writes it.
    assert_eq!(
        hex(|out| FetchByIdRequest { topic_id: TOPIC_ID, fetch }.encode(out, 13)),
        "ffffffff 000001f4 00000001 00100000 01 00000000 ffffffff 02 000102030405060708090a0b0c0d0e0f 02 00000004 \
         00000006 0000000000000009 ffffffff ffffffffffffffff 00100000 00 00 01 01 00"
            .replace(' ', "")
    );
    assert_eq!(hex(|out| ApiVersionsRequest.encode(out, 0)), "");
}

const TOPIC_ID: u128 = 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f;
/// As Kafka 3.9.1's own FetchResponseData writes it behind header v1: a partition with records and an aborted
/// transaction, one with an error, null fields and all tagged ones (diverging epoch, current leader, snapshot id).
const FETCHED_BY_ID: &str = "00000007 00 00000000 0000 00000000 02 000102030405060708090a0b0c0d0e0f 03 \
    00000001 0000 0000000000000009 0000000000000008 0000000000000001 02 0000000000000005 0000000000000002 00 \
    ffffffff 04 010203 00 \
    00000000 0067 ffffffffffffffff ffffffffffffffff ffffffffffffffff 00 ffffffff 00 \
    03 00 0d 00000003 000000000000004d 00 01 09 00000002 00000006 00 02 0d 0000000000000004 00000001 00 00 00";

#[test]
fn responses_are_read_as_the_protocol_has_them() {
    let join = bytes("00000000 0000 00000002 000572616e6765 00016d 00016d 00000001 00016d ffff 0000000100");
    assert_eq!(
        JoinGroupResponse::decode(&mut Reader::new(&join), 5),
        Ok(JoinGroupResponse {
            error: 0,
            generation: 2,
            protocol: "range".into(),
            leader: "m".into(),
            member_id: "m".into(),
            members: vec![JoinedMember { member_id: "m".into(), instance_id: None, subscription: vec![0] }],
        })
    );
    let offsets = bytes("00000000 00000001 000174 00000001 00000007 000000000000000a 00000006 0000 0000 0000");
    assert_eq!(
        OffsetFetchResponse::decode(&mut Reader::new(&offsets), 5),
        Ok(OffsetFetchResponse {
            error: 0,
            partitions: vec![FetchedOffset {
                partition: 7,
                offset: 10,
                leader_epoch: 6,
                metadata: String::new(),
                error: 0
            }],
        })
    );
    let metadata = bytes(
        "00000000 02 00000001 0268 00002384 00 00 0263 00000001 02 0000 0274 000102030405060708090a0b0c0d0e0f 00 \
         02 0000 00000003 00000001 00000006 02 00000001 02 00000001 01 00 80000000 00 00",
    );
    assert_eq!(
        MetadataResponse::decode(&mut Reader::new(&metadata), 10),
        Err(WireError::Truncated { what: "i32", needed: 4, available: 1 }),
        "version 10 still has the cluster's authorized operations"
    );
    let metadata = [metadata.as_slice(), &[0, 0, 0, 0]].concat();
    assert_eq!(
        MetadataResponse::decode(&mut Reader::new(&metadata), 10),
        Ok(MetadataResponse {
            brokers: vec![(1, "h".into(), 9092)],
            cluster_id: Some("c".into()),
            topics: vec![TopicMetadata {
                error: 0,
                name: "t".into(),
                id: 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f,
                partitions: vec![PartitionMetadata { error: 0, index: 3, leader: 1, leader_epoch: 6 }],
            }],
        })
    );
}

/// All bytes here are what Kafka 4.3.1's own classes write.
#[test]
fn leader_epochs_have_the_bytes_of_kafkas_own_classes() {
    let question =
        |partition, current_leader_epoch, leader_epoch| EpochQuestion { partition, current_leader_epoch, leader_epoch };
    let request = OffsetForLeaderEpochRequest { topic: "t", partitions: &[question(2, 9, 8), question(3, -1, 0)] };
    let body = "00000001 000174 00000002 00000002 00000009 00000008 00000003 ffffffff 00000000".replace(' ', "");
    assert_eq!(hex(|out| request.encode(out, 2)), body);
    assert_eq!(hex(|out| request.encode(out, 3)), format!("ffffffff{body}"));
    let ends = bytes(
        "00000000 00000001 000174 00000002 0000 00000002 00000007 00000000000003e8 \
         004a 00000003 ffffffff ffffffffffffffff",
    );
    let expected = OffsetForLeaderEpochResponse {
        partitions: vec![
            EpochEnd { error: 0, partition: 2, leader_epoch: 7, end_offset: 1000 },
            EpochEnd { error: 74, partition: 3, leader_epoch: -1, end_offset: -1 },
        ],
    };
    for version in 2..=3 {
        let mut reader = Reader::new(&ends);
        assert_eq!(OffsetForLeaderEpochResponse::decode(&mut reader, version), Ok(expected.clone()));
        assert!(reader.rest().is_empty());
    }
    let ask = |partition| EpochQuestion { partition, current_leader_epoch: 9, leader_epoch: 8 };
    assert_eq!(expected.of(&ask(2)), Ok(expected.partitions[0]));
    assert_eq!([3, 4].map(|partition| expected.of(&ask(partition))), [Err(74), Err(-1)]);
    let later = EpochQuestion { leader_epoch: 6, ..ask(2) };
    assert_eq!(expected.of(&later), Err(-1), "of an epoch after the one asked about");
    let twice = OffsetForLeaderEpochResponse { partitions: [&expected.partitions[..1]; 2].concat() };
    assert_eq!(twice.of(&ask(2)), Err(-1));
    for cut in 0..ends.len() {
        assert!(OffsetForLeaderEpochResponse::decode(&mut Reader::new(&ends[..cut]), 3).is_err(), "{cut}");
    }
    let listed = bytes("00000000 00000001 000174 00000001 00000002 0000 ffffffffffffffff 00000000000003e8 00000009");
    for (version, length, leader_epoch) in [(3, listed.len() - 4, -1), (4, listed.len(), 9)] {
        let partitions = vec![ListedOffset { partition: 2, error: 0, offset: 1000, leader_epoch }];
        let expected = ListOffsetsResponse { topics: vec!["t".to_owned()], partitions };
        let mut reader = Reader::new(&listed[..length]);
        assert_eq!(ListOffsetsResponse::decode(&mut reader, version), Ok(expected));
        assert!(reader.rest().is_empty());
    }
    let metadata = bytes(
        "00000000 00000001 00000001 000168 00002384 ffff 000163 00000001 00000001 0000 000174 00 \
         00000001 0000 00000003 00000001 00000006 00000001 00000001 00000001 00000001 00000000",
    );
    let metadata = MetadataResponse::decode(&mut Reader::new(&metadata), 7).unwrap();
    let partition = PartitionMetadata { error: 0, index: 3, leader: 1, leader_epoch: 6 };
    assert_eq!(metadata.topics[0].partitions, [partition]);
    let offsets = bytes("00000000 00000001 000174 00000001 00000007 000000000000000a 00000006 00016e 0000 0000");
    let offsets = OffsetFetchResponse::decode(&mut Reader::new(&offsets), 5).unwrap();
    assert_eq!((offsets.partitions[0].offset, offsets.partitions[0].leader_epoch), (10, 6));
}

#[test]
fn what_dead_letters_need_to_know_of_topics() {
    assert_eq!(hex(|out| TopicDetailsRequest { topic: "t" }.encode(out, 7)), "00000001000174 00".replace(' ', ""));
    assert_eq!(hex(|out| TopicDetailsRequest { topic: "t" }.encode(out, 8)), "00000001000174 000001".replace(' ', ""));
    let details = bytes(
        "00000000 00000001 00000001 000168 00002384 ffff 000163 00000009 00000001 0000 000174 00 \
         00000001 0000 00000000 00000001 00000000 00000003 00000001 00000002 00000003 00000000 00000000 \
         00000018 80000000",
    );
    let told = TopicDetailsResponse { controller: 9, error: 0, partitions: 1, replicas: 3, operations: Some(0x18) };
    assert_eq!(TopicDetailsResponse::decode(&mut Reader::new(&details), 8), Ok(told));
    let asked = DescribeConfigsRequest { topic: "t", name: "n" };
    assert_eq!(hex(|out| asked.encode(out, 1)), "00000001 02 000174 00000001 00016e 00".replace(' ', ""));
    let config = bytes("00000000 00000001 0000 ffff 02 000174 00000001 00016e 000135 00 05 00 00000000");
    assert_eq!(
        DescribeConfigsResponse::decode(&mut Reader::new(&config), 1),
        Ok(DescribeConfigsResponse { error: 0, value: Some("5".into()) })
    );
}

#[test]
fn a_fetch_answer_keeps_its_buffer_and_names_the_places_in_it() {
    let body = bytes(
        "deadbeef 00000000 0000 00000000 00000001 000174 00000002 \
         00000001 0000 0000000000000009 0000000000000008 0000000000000001 00000001 0000000000000005 0000000000000002 \
         ffffffff 00000003 010203 \
         00000000 0003 ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffff ffffffff ffffffff",
    );
    let answer = FetchAnswer::decode(FetchBuffer::new(body.clone(), 4, 11)).unwrap();
    assert_eq!(answer.bytes, body);
    let [first, second] = answer.partitions.as_slice() else { panic!("two partitions") };
    assert_eq!(answer.bytes[first.records.clone()], [1, 2, 3]);
    assert_eq!((first.partition, first.high_watermark, first.last_stable_offset), (1, 9, 8));
    assert_eq!(first.aborted, [(5, 2)]);
    assert_eq!((second.partition, second.error, second.records.len()), (0, 3, 0));
    let longer = [body.as_slice(), &[0]].concat();
    assert!(FetchAnswer::decode(FetchBuffer::new(longer, 4, 11)).is_err(), "bytes behind the answer");
}

#[test]
fn a_fetch_answer_by_id_is_read_with_its_tagged_fields() {
    let body = bytes(FETCHED_BY_ID);
    let answer = FetchAnswer::decode(FetchBuffer::new(body.clone(), 5, 13)).unwrap();
    assert_eq!((answer.error, &answer.bytes), (0, &body));
    let [first, second] = answer.partitions.as_slice() else { panic!("two partitions") };
    assert_eq!(answer.bytes[first.records.clone()], [1, 2, 3]);
    assert_eq!((first.partition, first.error, first.high_watermark, first.last_stable_offset), (1, 0, 9, 8));
    assert_eq!((first.log_start_offset, first.aborted.as_slice()), (1, [(5, 2)].as_slice()));
    assert_eq!((second.partition, second.error, second.records.len()), (0, INCONSISTENT_TOPIC_ID, 0));
    assert_eq!((second.high_watermark, second.aborted.len()), (-1, 0));
    for cut in 5..body.len() {
        let cut = FetchAnswer::decode(FetchBuffer::new(body[..cut].to_vec(), 5, 13));
        assert!(cut.is_err(), "{cut:?}");
    }
    let longer = [body.as_slice(), &[0]].concat();
    assert!(FetchAnswer::decode(FetchBuffer::new(longer, 5, 13)).is_err(), "bytes behind the answer");
    // Lengths that nothing stands behind: an array of 2^32 - 2 topics, records of 2^32 - 2 bytes.
    for (place, what) in [(15, "topics"), (95, "records")] {
        let mut bytes = body[..place].to_vec();
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        let fault = FetchAnswer::decode(FetchBuffer::new(bytes, 5, 13));
        assert!(matches!(fault, Err(WireError::Truncated { .. })), "{what}: {fault:?}");
    }
}

#[test]
fn a_broker_says_which_versions_it_takes() {
    let answer = bytes("0000 00000002 0001 0004 000d 0012 0000 0004");
    let answer = ApiVersionsResponse::decode(&mut Reader::new(&answer), 0).unwrap();
    assert_eq!(answer, ApiVersionsResponse { error: 0, ranges: vec![(1, 4, 13), (18, 0, 4)] });
    assert_eq!([1, 18, 2].map(|key| answer.of(key)), [Some((4, 13)), Some((0, 4)), None]);
    for (key, ours, common) in [
        (1, (13, 13), Some(13)),
        (1, (2, 4), Some(4)),
        (1, (12, 17), Some(13)),
        (1, (14, 17), None),
        (1, (2, 3), None),
        (2, (0, 9), None),
    ] {
        assert_eq!(answer.newest_common(key, ours), common, "{key} {ours:?}");
    }
}

/// Every decoder, so that a new one is not forgotten.
fn decode_all(data: &[u8]) {
    let reader = || Reader::new(data);
    drop(FindCoordinatorResponse::decode(&mut reader(), 2));
    drop(JoinGroupResponse::decode(&mut reader(), 5));
    drop(SyncGroupResponse::decode(&mut reader(), 3));
    drop(HeartbeatResponse::decode(&mut reader(), 3));
    drop(LeaveGroupResponse::decode(&mut reader(), 2));
    drop(OffsetCommitResponse::decode(&mut reader(), 7));
    drop(OffsetFetchResponse::decode(&mut reader(), 5));
    for version in 3..=4 {
        drop(ListOffsetsResponse::decode(&mut reader(), version));
    }
    drop(OffsetForLeaderEpochResponse::decode(&mut reader(), 3));
    for version in 7..=10 {
        drop(MetadataResponse::decode(&mut reader(), version));
    }
    for version in 7..=8 {
        drop(TopicDetailsResponse::decode(&mut reader(), version));
    }
    drop(DescribeConfigsResponse::decode(&mut reader(), 1));
    drop(ApiVersionsResponse::decode(&mut reader(), 0));
    for version in [11, 13] {
        drop(FetchAnswer::decode(FetchBuffer::new(data.to_vec(), 0, version)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn noise_panics_nothing(data: Vec<u8>) {
        decode_all(&data);
    }

    #[test]
    fn a_damaged_fetch_answer_names_no_place_outside_itself(place in 0usize..200, byte: u8, version in 0usize..2) {
        let mut body = bytes(FETCHED_BY_ID);
        let place = place % body.len();
        body[place] = byte;
        let total = body.len();
        if let Ok(answer) = FetchAnswer::decode(FetchBuffer::new(body, 5, [11, 13][version])) {
            prop_assert!(answer.partitions.iter().all(|fetched| fetched.records.end <= total));
        }
    }

    #[test]
    fn a_cut_answer_is_an_error(cut in 0usize..40) {
        let join = bytes("00000000 0000 00000002 000572616e6765 00016d 00016d 00000001 00016d ffff 0000000100");
        prop_assume!(cut < join.len());
        prop_assert!(JoinGroupResponse::decode(&mut Reader::new(&join[..cut]), 5).is_err());
    }
}

#[test]
fn versions_are_those_that_all_brokers_have() {
    let ranges = [
        FetchRequest::API_VERSION_RANGE,
        FetchByIdRequest::API_VERSION_RANGE,
        JoinGroupRequest::API_VERSION_RANGE,
        MetadataRequest::API_VERSION_RANGE,
        ListOffsetsRequest::API_VERSION_RANGE,
        OffsetForLeaderEpochRequest::API_VERSION_RANGE,
    ];
    let spans: Vec<(i16, i16)> = ranges.iter().map(|range| (range.min().0.0, range.max().0.0)).collect();
    assert_eq!(spans, [(11, 11), (13, 13), (5, 5), (7, 10), (2, 4), (2, 3)]);
}
