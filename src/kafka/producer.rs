//! Writes finished record batches into one topic, acknowledged by all in-sync replicas, and creates the topic when there
//! is none.

use std::collections::BTreeMap;
use std::time::Duration;

use rskafka::protocol::error::Error as ApiError;
use rskafka::protocol::messages::{CreateTopicConfig, CreateTopicRequest, CreateTopicsRequest};
use rskafka::protocol::primitives::{Boolean, Int16, Int32, NullableString, String_};
use thiserror::Error;

use crate::kafka::cluster::{Cluster, REQUEST_LIMIT};
use crate::kafka::connection::Connection;
use crate::kafka::error::{KafkaError, code_name};
use crate::kafka::protocol::describe_configs::DescribeConfigsRequest;
use crate::kafka::protocol::produce::RawProduceRequest;
use crate::kafka::protocol::topic_details::{TopicDetailsRequest, TopicDetailsResponse, WRITE};

/// Why a batch was not acknowledged. It may have been written all the same, unless the broker refused it.
#[derive(Debug, Error)]
pub enum ProduceError {
    /// No answer, or no way to a broker.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// There is no such topic.
    #[error("the topic {topic} does not exist")]
    Missing {
        /// The topic.
        topic: String,
    },
    /// This user may not do it.
    #[error("no right to {what} the topic {topic}; grant it: {}", acl(.what, .topic))]
    Forbidden {
        /// The topic.
        topic: String,
        /// The operation, as `kafka-acls` calls it, or two with "and" between them.
        what: &'static str,
    },
    /// Larger than the topic's max.message.bytes.
    #[error("larger than max.message.bytes of the topic {topic} allows")]
    TooLarge {
        /// The topic.
        topic: String,
    },
    /// The partition has no leader now.
    #[error("partition {partition} of the topic {topic} has no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Refused for another reason.
    #[error("the topic {topic}: {} {text}{}", code_name(*.code), hint(*.code))]
    Refused {
        /// The topic.
        topic: String,
        /// The error code.
        code: i16,
        /// What the broker said.
        text: String,
    },
}

impl ProduceError {
    fn of_code(code: i16, topic: &str, what: &'static str, text: Option<String>) -> Self {
        let topic = topic.to_owned();
        match code {
            3 => Self::Missing { topic },
            10 | 18 => Self::TooLarge { topic },
            // TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED.
            29 | 31 => Self::Forbidden { topic, what },
            code => Self::Refused { topic, code, text: text.unwrap_or_default() },
        }
    }

    /// Whether it will hardly pass without a person.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }
}

/// What a refusal that names no cause is mostly for.
fn hint(code: i16) -> &'static str {
    match code {
        // INVALID_RECORD.
        87 => " (a compacted topic takes no record without a key: give the topic cleanup.policy=delete)",
        _ => "",
    }
}

/// The command that grants an operation, or two.
fn acl(what: &str, topic: &str) -> String {
    let operations = what.replace(" and ", " --operation ");
    format!("kafka-acls --add --allow-principal User:… --operation {operations} --topic {topic}")
}

const WRITE_AND_CREATE: &str = "Write and Create";

/// How the topic is created, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Partitions.
    pub partitions: i32,
    /// Replicas of each; -1 leaves it to the broker.
    pub replicas: i16,
    /// `max.message.bytes`; `None` leaves it to the broker.
    pub max_message_bytes: Option<u64>,
}

/// The producer. One request at a time.
#[derive(Debug)]
pub struct Producer {
    cluster: Cluster,
    topic: String,
    /// The leader of each partition, by index; empty while unknown.
    leaders: Vec<i32>,
    connections: BTreeMap<i32, Connection>,
}

/// How long the broker may wait for its replicas.
const REPLICATION_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take with that and with the request itself.
const PRODUCE_LIMIT: Duration = Duration::from_secs(20);
const ALL_IN_SYNC: i16 = -1;
/// What a batch around a record, and the headers of a letter, may take beyond the record itself.
const HEADROOM: u64 = 64 * 1024;

impl Producer {
    /// A producer that has not connected yet.
    pub fn new(cluster: Cluster, topic: String) -> Self {
        Self { cluster, topic, leaders: Vec::new(), connections: BTreeMap::new() }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Writes a batch to the partition `key` modulo the topic's partitions. May be cancelled; then the batch may have
    /// been written.
    ///
    /// # Errors
    /// When it was not acknowledged; what is known of leaders and the connection used are forgotten then.
    pub async fn send(&mut self, key: i32, batch: Vec<u8>) -> Result<(), ProduceError> {
        if self.leaders.is_empty() {
            self.leaders = self.find_leaders().await?;
        }
        let count = i32::try_from(self.leaders.len()).unwrap_or(i32::MAX).max(1);
        let partition = key.rem_euclid(count);
        let leader = usize::try_from(partition).ok().and_then(|at| self.leaders.get(at)).copied().unwrap_or(-1);
        let sent = self.send_to(leader, partition, batch).await;
        if sent.is_err() {
            self.leaders.clear();
        }
        sent
    }

    async fn send_to(&mut self, leader: i32, partition: i32, batch: Vec<u8>) -> Result<(), ProduceError> {
        if leader < 0 {
            return Err(ProduceError::NoLeader { topic: self.topic.clone(), partition });
        }
        let request = RawProduceRequest {
            acks: ALL_IN_SYNC,
            timeout_ms: i32::try_from(REPLICATION_LIMIT.as_millis()).unwrap_or(i32::MAX),
            topic: self.topic.clone(),
            batches: vec![(partition, batch)],
        };
        // Out of the map while in use: cancelled or failed, a connection is of no further use.
        let kept = match self.connections.remove(&leader) {
            Some(connection) => match connection.request(request.clone(), PRODUCE_LIMIT).await {
                Ok(answer) => Some((connection, answer)),
                // It stood idle, and the broker had closed it.
                Err(KafkaError::Request { .. }) => None,
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let (connection, answer) = match kept {
            Some(kept) => kept,
            None => {
                let connection = Connection::open(&self.cluster.address(leader)?, self.cluster.options()).await?;
                let answer = connection.request(request, PRODUCE_LIMIT).await?;
                (connection, answer)
            }
        };
        self.connections.insert(leader, connection);
        let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        match partitions.next().map(|partition| partition.error) {
            Some(None) => Ok(()),
            Some(Some(error)) => Err(ProduceError::of_code(code(error), &self.topic, "Write", None)),
            // Nothing said is nothing acknowledged.
            None => Err(ProduceError::of_code(-1, &self.topic, "Write", None)),
        }
    }

    async fn find_leaders(&mut self) -> Result<Vec<i32>, ProduceError> {
        let answer = self.cluster.metadata(&[&self.topic]).await?;
        let found = answer.topics.into_iter().find(|topic| topic.name == self.topic);
        let found = found.ok_or_else(|| ProduceError::Missing { topic: self.topic.clone() })?;
        if found.error != 0 {
            return Err(ProduceError::of_code(found.error, &self.topic, "Describe", None));
        }
        let mut leaders: Vec<(i32, i32)> = found.partitions.iter().map(|one| (one.index, one.leader)).collect();
        leaders.sort_unstable();
        if leaders.is_empty() {
            return Err(ProduceError::Missing { topic: self.topic.clone() });
        }
        Ok(leaders.into_iter().map(|(_, leader)| leader).collect())
    }

    /// Creates the topic after the example of `source`: as many partitions and replicas, as large messages, kept for
    /// ever. That it exists already is as good.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn create_like(&mut self, source: &str) -> Result<NewTopic, ProduceError> {
        self.create(source, false).await
    }

    /// Whether batches could be written: the topic is there and may be written to, or may be created.
    ///
    /// # Errors
    /// With what is in the way.
    pub async fn check_rights(&mut self, source: &str) -> Result<(), ProduceError> {
        let topic = self.topic.clone();
        let details = self.details(&topic).await?;
        match details.error {
            0 if details.operations.is_none_or(|operations| operations & WRITE != 0) => Ok(()),
            0 => Err(ProduceError::Forbidden { topic, what: "Write" }),
            3 => match self.create(source, true).await {
                // Without a topic to read there is nothing to try.
                Err(ProduceError::Missing { topic }) if topic == source => Ok(()),
                tried => tried.map(|_| ()),
            },
            // Whether there is one is not told to those who may not see it.
            code => Err(ProduceError::of_code(code, &topic, WRITE_AND_CREATE, None)),
        }
    }

    async fn create(&mut self, source: &str, only_try: bool) -> Result<NewTopic, ProduceError> {
        let like = self.details(source).await?;
        if like.error != 0 {
            return Err(ProduceError::of_code(like.error, source, "Describe", None));
        }
        let address = match self.cluster.address(like.controller) {
            Ok(address) => address,
            Err(_) => self.cluster.any().await?.peer().clone(),
        };
        let connection = Connection::open(&address, self.cluster.options()).await?;
        let max_message_bytes = max_message_bytes(&connection, source).await;
        let new = NewTopic {
            partitions: like.partitions.max(1),
            replicas: i16::try_from(like.replicas).unwrap_or(-1),
            max_message_bytes,
        };
        let answer = connection.request(request(&self.topic, &new, only_try), PRODUCE_LIMIT).await?;
        let topic = answer.topics.into_iter().next();
        self.leaders.clear();
        match topic.map(|topic| (topic.error, topic.error_message)) {
            Some((None | Some(ApiError::TopicAlreadyExists), _)) => Ok(new),
            Some((Some(error), text)) => {
                let text = text.and_then(|text| text.0);
                Err(ProduceError::of_code(code(error), &self.topic, "Create", text))
            }
            None => Err(ProduceError::of_code(-1, &self.topic, "Create", None)),
        }
    }

    /// What the brokers tell of a topic.
    ///
    /// # Errors
    /// When none can be asked.
    pub async fn details(&mut self, topic: &str) -> Result<TopicDetailsResponse, KafkaError> {
        // Learns the brokers' addresses, and replaces a connection that stood idle.
        self.cluster.metadata(&[]).await?;
        self.cluster.any().await?.request(TopicDetailsRequest { topic }, REQUEST_LIMIT).await
    }
}

/// `max.message.bytes` of a topic with room for what a letter adds; `None` where the broker does not tell.
async fn max_message_bytes(connection: &Connection, topic: &str) -> Option<u64> {
    let request = DescribeConfigsRequest { topic, name: "max.message.bytes" };
    match connection.request(request, REQUEST_LIMIT).await {
        Ok(answer) if answer.error == 0 => {
            let bytes: u64 = answer.value?.parse().ok()?;
            Some(bytes.saturating_add(HEADROOM).min(MAX_MESSAGE_BYTES))
        }
        Ok(answer) => {
            tracing::debug!(topic, error = code_name(answer.error), "cannot learn max.message.bytes");
            None
        }
        Err(error) => {
            tracing::debug!(topic, %error, "cannot learn max.message.bytes");
            None
        }
    }
}

const MAX_MESSAGE_BYTES: u64 = 0x7fff_ffff;

fn request(topic: &str, new: &NewTopic, only_try: bool) -> CreateTopicsRequest {
    let config = |name: &str, value: String| CreateTopicConfig {
        name: String_(name.to_owned()),
        value: NullableString(Some(value)),
        tagged_fields: None,
    };
    let mut configs = vec![
        config("retention.ms", "-1".to_owned()),
        config("retention.bytes", "-1".to_owned()),
        // The cluster's default may be compaction, which would keep one letter a key.
        config("cleanup.policy", "delete".to_owned()),
    ];
    configs.extend(new.max_message_bytes.map(|bytes| config("max.message.bytes", bytes.to_string())));
    CreateTopicsRequest {
        topics: vec![CreateTopicRequest {
            name: String_(topic.to_owned()),
            num_partitions: Int32(new.partitions),
            replication_factor: Int16(new.replicas),
            assignments: Vec::new(),
            configs,
            tagged_fields: None,
        }],
        timeout_ms: Int32(i32::try_from(REPLICATION_LIMIT.as_millis()).unwrap_or(i32::MAX)),
        validate_only: Some(Boolean(only_try)),
        tagged_fields: None,
    }
}

/// The number of an error code.
fn code(error: ApiError) -> i16 {
    match error {
        ApiError::Unknown(code) => code,
        known => (-1..=109).find(|code| ApiError::new(*code) == Some(known)).unwrap_or(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_their_number() {
        for number in (-1..=20).chain([29, 31, 36, 87, 500]).filter(|number| *number != 0) {
            assert_eq!(ApiError::new(number).map(code), Some(number));
        }
    }

    #[test]
    fn what_a_code_means_and_what_to_do() {
        let of = |code| ProduceError::of_code(code, "t.dlq", "Write", None);
        assert!(matches!(of(3), ProduceError::Missing { .. }));
        assert!(matches!(of(10), ProduceError::TooLarge { .. }));
        assert!(of(29).needs_a_person() && !of(19).needs_a_person());
        assert!(
            of(29).to_string().contains("kafka-acls --add --allow-principal User:… --operation Write --topic t.dlq")
        );
        assert!(of(19).to_string().contains("NotEnoughReplicas (19)"), "{}", of(19));
        let both = ProduceError::of_code(29, "t.dlq", WRITE_AND_CREATE, None).to_string();
        assert!(both.ends_with("--operation Write --operation Create --topic t.dlq"), "{both}");
    }
}
