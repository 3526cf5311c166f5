//! The group's messages against librdkafka's own: tests/data/librdkafka/group.txt holds what a leader and a static
//! follower of librdkafka 2.x and a Kafka 4.3.1 broker said to each other (capture.py beside it records it anew).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that meets the unexpected fails")]

use std::collections::BTreeMap;

use sandarb_consumer::kafka::group::subscription::{
    Subscription, TopicPartitions, decode_assignment, encode_assignment,
};
use sandarb_consumer::kafka::protocol::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use sandarb_consumer::kafka::protocol::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use sandarb_consumer::kafka::protocol::join_group::{JoinGroupRequest, JoinGroupResponse};
use sandarb_consumer::kafka::protocol::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use sandarb_consumer::kafka::protocol::offset_commit::{OffsetCommitRequest, OffsetCommitResponse, PartitionCommit};
use sandarb_consumer::kafka::protocol::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
use sandarb_consumer::kafka::protocol::sync_group::{SyncGroupRequest, SyncGroupResponse};
use sandarb_consumer::kafka::protocol::wire::{Reader, WireError};

const CAPTURE: &str = include_str!("data/librdkafka/group.txt");
const GROUP: &str = "golden-group";
const TOPIC: &str = "golden";
/// As capture.py commits it: confluent-kafka sends the terminating zero of its C string along.
const NOTE: &str = "a note\0";

struct Message {
    request: bool,
    api: &'static str,
    version: i16,
    body: Vec<u8>,
}

fn messages() -> Vec<Message> {
    let message = |line: &'static str| {
        let words: Vec<&str> = line.split(' ').collect();
        let &[what, api, version, _client, body] = words.as_slice() else { panic!("{line}") };
        let digit = |place: usize| u8::from_str_radix(body.get(place..place + 2).unwrap(), 16).unwrap();
        let body = (0..body.len()).step_by(2).map(digit).collect();
        Message { request: what == "request", api, version: version.parse().unwrap(), body }
    };
    CAPTURE.lines().map(message).collect()
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// librdkafka's subscription: ours, but for the rack, which is empty there and null here.
fn subscription() -> Vec<u8> {
    let mut bytes = Subscription::encode_eager(&[TOPIC]);
    let rack = bytes.len() - 2;
    assert_eq!(bytes.split_off(rack), [0xff, 0xff]);
    bytes.extend([0, 0]);
    bytes
}

/// The captured values in our encoding.
fn ours(message: &Message) -> Result<Vec<u8>, WireError> {
    let mut reader = Reader::new(&message.body);
    assert_eq!(reader.string()?, GROUP);
    let version = message.version;
    Ok(match message.api {
        "FindCoordinator" => encoded(|out| FindCoordinatorRequest { group_id: GROUP }.encode(out, version)),
        "JoinGroup" => {
            let (session_timeout_ms, rebalance_timeout_ms) = (reader.i32()?, reader.i32()?);
            assert_eq!((session_timeout_ms, rebalance_timeout_ms), (30_000, 60_000));
            let (member_id, instance_id) = (reader.string()?, reader.nullable_string()?);
            let protocols = [("range", subscription()), ("roundrobin", subscription())];
            let request = JoinGroupRequest {
                group_id: GROUP,
                session_timeout_ms,
                rebalance_timeout_ms,
                member_id,
                instance_id,
                protocols: &protocols,
            };
            encoded(|out| request.encode(out, version))
        }
        "SyncGroup" => {
            let (generation, member_id, instance_id) = (reader.i32()?, reader.string()?, reader.nullable_string()?);
            let assignments = reader.array(|reader| {
                let member = reader.string()?.to_owned();
                Ok((member, encode_assignment(&decode_assignment(reader.bytes()?)?)))
            })?;
            let assignments = assignments.as_slice();
            let request = SyncGroupRequest { group_id: GROUP, generation, member_id, instance_id, assignments };
            encoded(|out| request.encode(out, version))
        }
        "Heartbeat" => {
            let (generation, member_id, instance_id) = (reader.i32()?, reader.string()?, reader.nullable_string()?);
            let request = HeartbeatRequest { group_id: GROUP, generation, member_id, instance_id };
            encoded(|out| request.encode(out, version))
        }
        // librdkafka knows it up to version 1; version 2 has the same body.
        "LeaveGroup" => {
            let member_id = reader.string()?;
            encoded(|out| LeaveGroupRequest { group_id: GROUP, member_id }.encode(out, 2))
        }
        "OffsetCommit" => {
            let (generation, member_id, instance_id) = (reader.i32()?, reader.string()?, reader.nullable_string()?);
            let commit = |partition, offset, note: &str| PartitionCommit {
                partition,
                offset,
                leader_epoch: -1,
                metadata: note.into(),
            };
            // What capture.py commits: the leader two partitions, the static follower one.
            let partitions = match instance_id {
                None => vec![commit(0, 3, NOTE), commit(2, 5, "")],
                Some(id) => {
                    assert_eq!(id, "fixed");
                    vec![commit(3, 7, "")]
                }
            };
            let request = OffsetCommitRequest {
                group_id: GROUP,
                generation,
                member_id,
                instance_id,
                topic: TOPIC,
                partitions: &partitions,
            };
            encoded(|out| request.encode(out, version))
        }
        "OffsetFetch" => {
            let topics = reader.array(|reader| Ok((reader.string()?.to_owned(), reader.array(Reader::i32)?)))?;
            let [(topic, partitions)] = topics.as_slice() else { panic!("{topics:?}") };
            encoded(|out| OffsetFetchRequest { group_id: GROUP, topic, partitions }.encode(out, version))
        }
        other => panic!("{other}"),
    })
}

#[test]
fn requests_have_the_bytes_that_librdkafka_sends() {
    let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
    for message in messages().iter().filter(|message| message.request) {
        assert_eq!(ours(message).unwrap(), message.body, "{} v{}", message.api, message.version);
        *compared.entry(message.api).or_default() += 1;
    }
    let apis: Vec<&str> = compared.keys().copied().collect();
    assert_eq!(
        apis,
        ["FindCoordinator", "Heartbeat", "JoinGroup", "LeaveGroup", "OffsetCommit", "OffsetFetch", "SyncGroup"]
    );
    assert!(compared["JoinGroup"] >= 3, "new, with its id, and again: {compared:?}");
}

#[test]
fn the_brokers_answers_are_read_to_their_ends() {
    let mut errors: Vec<(&str, i16)> = Vec::new();
    let mut sizes = Vec::new();
    let (mut shares, mut notes) = (Vec::new(), Vec::new());
    for message in messages().iter().filter(|message| !message.request) {
        let mut reader = Reader::new(&message.body);
        let version = message.version;
        let error = match message.api {
            "FindCoordinator" => {
                let answer = FindCoordinatorResponse::decode(&mut reader, version).unwrap();
                assert!(answer.error != 0 || (answer.node_id, answer.host.as_str()) == (1, "127.0.0.1"), "{answer:?}");
                answer.error
            }
            "JoinGroup" => {
                let answer = JoinGroupResponse::decode(&mut reader, version).unwrap();
                for member in &answer.members {
                    assert_eq!(Subscription::decode(&member.subscription).unwrap().topics, [TOPIC]);
                }
                sizes.push(answer.members.len());
                answer.error
            }
            "SyncGroup" => {
                let answer = SyncGroupResponse::decode(&mut reader, version).unwrap();
                shares.push(decode_assignment(&answer.assignment).unwrap());
                answer.error
            }
            "Heartbeat" => HeartbeatResponse::decode(&mut reader, version).unwrap().error,
            "LeaveGroup" => LeaveGroupResponse::decode(&mut reader, version).unwrap().error,
            "OffsetCommit" => {
                let answer = OffsetCommitResponse::decode(&mut reader, version).unwrap();
                assert!(answer.partitions.iter().all(|(_, error)| *error == 0), "{answer:?}");
                0
            }
            "OffsetFetch" => {
                let answer = OffsetFetchResponse::decode(&mut reader, version).unwrap();
                notes.extend(
                    answer.partitions.into_iter().filter(|at| at.offset >= 0).map(|at| (at.offset, at.metadata)),
                );
                answer.error
            }
            other => panic!("{other}"),
        };
        assert!(reader.rest().is_empty(), "{} bytes behind {}", reader.rest().len(), message.api);
        errors.push((message.api, error));
    }
    assert!(errors.contains(&("JoinGroup", 79)), "a member id is asked for first");
    assert!(errors.contains(&("Heartbeat", 27)), "and a rebalance announced");
    assert!(sizes.contains(&1) && sizes.contains(&2), "{sizes:?}");
    let share = |partitions: &[i32]| TopicPartitions::from([(TOPIC.to_owned(), partitions.to_vec())]);
    assert_eq!(shares, [share(&[0, 1, 2, 3]), share(&[2, 3]), share(&[0, 1])]);
    notes.sort_unstable();
    assert_eq!(notes, [(3, NOTE.to_owned()), (5, String::new())]);
}
