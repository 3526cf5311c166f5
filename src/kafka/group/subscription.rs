//! The consumer protocol embedded in JoinGroup and SyncGroup: subscriptions and assignments as bytes.
//!
//! Source: Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment` (KIP-429, KIP-792, KIP-881). Fields
//! are only ever appended, so a version newer than ours is read as ours with the rest ignored.

use std::collections::BTreeMap;

use crate::kafka::protocol::wire::{
    Reader, WireError, put_array, put_bytes, put_i16, put_i32, put_nullable_string, put_string,
};

/// Partitions by topic.
pub type TopicPartitions = BTreeMap<String, Vec<i32>>;

/// What a member tells the leader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// The topics it reads.
    pub topics: Vec<String>,
    /// What it holds (cooperative protocols only; eager members hold nothing while they join).
    pub owned: TopicPartitions,
    /// The generation in which it held that, -1 without one.
    pub generation: i32,
}

impl Subscription {
    /// Version 3 for an eager member. The bytes are the same at each join, as a follower that comes back unchanged is
    /// answered without a rebalance; the generation is -1 and the user data empty but not null, as librdkafka has it.
    pub fn encode_eager(topics: &[&str]) -> Vec<u8> {
        let mut sorted = topics.to_vec();
        sorted.sort_unstable();
        let mut out = Vec::new();
        put_i16(&mut out, 3);
        put_array(&mut out, sorted.into_iter(), put_string);
        put_bytes(&mut out, &[]); // user data
        put_i32(&mut out, 0); // owned partitions: given up before joining
        put_i32(&mut out, -1); // generation
        put_nullable_string(&mut out, None); // rack
        out
    }

    /// Reads any version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        if version < 0 {
            return Err(WireError::Length { what: "subscription version", length: version.into() });
        }
        let topics = reader.array(|reader| Ok(reader.string()?.to_owned()))?;
        reader.nullable_bytes()?; // user data
        let owned = if version >= 1 { topic_partitions(&mut reader)? } else { TopicPartitions::new() };
        let generation = if version >= 2 { reader.i32()? } else { -1 };
        Ok(Self { topics, owned, generation })
    }
}

/// An assignment as version 0, which every client reads.
pub fn encode_assignment(assigned: &TopicPartitions) -> Vec<u8> {
    let mut out = Vec::new();
    put_i16(&mut out, 0);
    put_array(&mut out, assigned.iter(), |out, (topic, partitions)| {
        put_string(out, topic);
        put_array(out, partitions.iter(), |out, partition| put_i32(out, *partition));
    });
    put_bytes(&mut out, &[]); // user data
    out
}

/// Reads an assignment of any version. No bytes at all, which a member gets that its leader forgot, is an empty one.
pub fn decode_assignment(bytes: &[u8]) -> Result<TopicPartitions, WireError> {
    if bytes.is_empty() {
        return Ok(TopicPartitions::new());
    }
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    if version < 0 {
        return Err(WireError::Length { what: "assignment version", length: version.into() });
    }
    topic_partitions(&mut reader)
}

fn topic_partitions(reader: &mut Reader<'_>) -> Result<TopicPartitions, WireError> {
    let pairs = reader.array(|reader| Ok((reader.string()?.to_owned(), reader.array(Reader::i32)?)))?;
    let mut by_topic = TopicPartitions::new();
    for (topic, partitions) in pairs {
        by_topic.entry(topic).or_default().extend(partitions);
    }
    Ok(by_topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subscription_is_version_3_as_librdkafka_writes_it() {
        let bytes = Subscription::encode_eager(&["b", "a"]);
        assert_eq!(
            bytes,
            [
                0, 3, // version
                0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b', // topics, sorted
                0, 0, 0, 0, // user data: empty, not null
                0, 0, 0, 0, // owned
                0xff, 0xff, 0xff, 0xff, // generation
                0xff, 0xff, // rack
            ]
        );
        let read = Subscription::decode(&bytes);
        assert_eq!(
            read,
            Ok(Subscription { topics: vec!["a".into(), "b".into()], owned: TopicPartitions::new(), generation: -1 })
        );
    }

    #[test]
    fn old_and_future_versions_are_read() {
        let v0 = [0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Subscription::decode(&v0).map(|read| (read.topics, read.generation)), Ok((vec!["t".into()], -1)));
        let mut v9 = Subscription::encode_eager(&["t"]);
        v9[1] = 9;
        v9.extend([1, 2, 3]);
        assert_eq!(Subscription::decode(&v9).map(|read| read.topics), Ok(vec!["t".into()]));
        assert!(Subscription::decode(&[0xff, 0xff]).is_err());
        assert!(Subscription::decode(b"garbage that is no subscription").is_err());
    }

    #[test]
    fn assignments_come_back_and_nothing_is_an_empty_one() {
        let assigned = TopicPartitions::from([("t".to_owned(), vec![0, 5]), ("u".to_owned(), vec![1])]);
        assert_eq!(decode_assignment(&encode_assignment(&assigned)), Ok(assigned));
        assert_eq!(decode_assignment(&[]), Ok(TopicPartitions::new()));
    }
}
