//! The newest records of a topic, read without joining a group: no offset is committed, nobody else is disturbed.

use std::collections::BTreeMap;

use crate::kafka::checked::missing;
use crate::kafka::cluster::{Cluster, REQUEST_LIMIT};
use crate::kafka::connection::Connection;
use crate::kafka::error::KafkaError;
use crate::kafka::protocol::fetch::{FetchAnswer, FetchFrom, FetchRequest};
use crate::kafka::protocol::list_offsets::{EARLIEST, LATEST, ListOffsetsRequest};
use crate::kafka::records::RecordsError;
use crate::kafka::records::compression::Decompressor;
use crate::kafka::records::reader::{Answer, AnswerReader, Item, Record, Section};
use crate::offsets::next_after;

/// What is read, and how.
#[derive(Debug, Clone)]
pub struct SampleSettings {
    /// The topic.
    pub topic: String,
    /// 0 read_uncommitted, 1 read_committed.
    pub isolation: i8,
    /// About how many records, in all.
    pub count: u64,
    /// The most bytes that one record batch may decompress to.
    pub batch_limit: usize,
}

/// Why a sample ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// A broker does not answer, or says no.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A record batch that cannot be read.
    #[error("partition {partition}: {cause}")]
    Records {
        /// Its partition.
        partition: i32,
        /// What is wrong.
        cause: RecordsError,
    },
}

/// Bytes of one answer; a larger record batch comes whole all the same.
const FETCH_BYTES: i32 = 1 << 20;
const MAX_WAIT_MS: i32 = 500;

/// Reads the newest records of each partition, an even share of `count` each, and hands them over.
///
/// # Errors
/// With the first request that fails.
pub async fn sample(
    cluster: &mut Cluster,
    settings: &SampleSettings,
    mut take: impl FnMut(&Record<'_>),
) -> Result<(), SampleError> {
    let answer = cluster.metadata(&[&settings.topic]).await?;
    let topic = answer.topics.into_iter().find(|topic| topic.name == settings.topic);
    let partitions = topic.map_or_else(Vec::new, |topic| topic.partitions);
    let share = settings.count.div_ceil((partitions.len() as u64).max(1));
    let mut leaders: BTreeMap<i32, Connection> = BTreeMap::new();
    let mut left = settings.count;
    for partition in partitions {
        let connection = match leaders.entry(partition.leader) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Connection::open(&cluster.address(partition.leader)?, cluster.options()).await?)
            }
        };
        let wanted = share.min(left);
        left -= read_partition(connection, settings, partition.index, wanted, &mut take).await?;
    }
    Ok(())
}

/// Hands over at most `wanted` of a partition's newest records; how many there were.
async fn read_partition(
    connection: &Connection,
    settings: &SampleSettings,
    partition: i32,
    wanted: u64,
    take: &mut impl FnMut(&Record<'_>),
) -> Result<u64, SampleError> {
    let mut ends = [0; 2];
    for (end, timestamp) in ends.iter_mut().zip([EARLIEST, LATEST]) {
        let (isolation, topic) = (settings.isolation, settings.topic.as_str());
        let request = ListOffsetsRequest { isolation, topic, partitions: &[(partition, -1)], timestamp };
        let listed = connection.request(request, REQUEST_LIMIT).await?;
        let peer = || connection.peer().to_string();
        let unasked = |what| KafkaError::Unasked { peer: peer(), api: "ListOffsets", what };
        if listed.topics != [topic] || listed.partitions.len() != 1 {
            return Err(unasked(format!("topics {:?}, partitions {:?}", listed.topics, listed.partitions)).into());
        }
        *end = listed.of(partition).map_err(|code| refused(connection, "ListOffsets", code))?;
        if *end < 0 {
            return Err(unasked(format!("the offset {end} of partition {partition}")).into());
        }
    }
    let [start, end] = ends;
    let mut position = start.max(end.saturating_sub(i64::try_from(wanted).unwrap_or(i64::MAX)));
    let mut taken = 0;
    while position < end && taken < wanted {
        let before = position;
        let answer = fetch(connection, settings, partition, position).await?;
        let mut reader = AnswerReader::new(answer, Decompressor::default(), settings.batch_limit);
        while reader.advance().map_err(|cause| SampleError::Records { partition, cause })? {
            match reader.item() {
                Some(Item::Record(record)) if taken < wanted => {
                    taken += 1;
                    position = next_after(record.offset);
                    take(&record);
                }
                Some(Item::Passed { next, .. }) => position = position.max(next),
                _ => {}
            }
        }
        if position == before {
            break; // nothing came within the broker's waiting time
        }
    }
    Ok(taken)
}

async fn fetch(
    connection: &Connection,
    settings: &SampleSettings,
    partition: i32,
    position: i64,
) -> Result<Answer, SampleError> {
    let partitions = [FetchFrom { partition, offset: position, leader_epoch: -1 }];
    let request = FetchRequest {
        max_wait_ms: MAX_WAIT_MS,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        isolation: settings.isolation,
        topic: &settings.topic,
        partitions: &partitions,
        partition_max_bytes: FETCH_BYTES,
    };
    let buffer = connection.request(&request, REQUEST_LIMIT).await?;
    let peer = connection.peer().to_string();
    let FetchAnswer { bytes, partitions, .. } = FetchAnswer::decode(buffer).map_err(|cause| KafkaError::Malformed {
        peer: peer.clone(),
        api: "Fetch",
        cause,
    })?;
    let answered = partitions.iter().map(|fetched| fetched.partition);
    let unasked = |what| KafkaError::Unasked { peer: peer.clone(), api: "Fetch", what };
    if !missing(&[partition], answered).map_err(unasked)?.is_empty() {
        return Err(unasked(format!("it lacks partition {partition}")).into());
    }
    if let Some(code) = partitions.iter().map(|fetched| fetched.error).find(|code| *code != 0) {
        return Err(refused(connection, "Fetch", code).into());
    }
    let sections = partitions.into_iter().map(|fetched| Section { fetch_offset: position, fetched }).collect();
    Ok(Answer { bytes, sections })
}

fn refused(connection: &Connection, api: &'static str, code: i16) -> KafkaError {
    KafkaError::Code { peer: connection.peer().to_string(), api, code }
}
