//! Brokers, the topic and its leaders.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rskafka::messenger::{Messenger, RequestError, SyncVersionsError};
use rskafka::protocol::error::Error as Code;
use rskafka::protocol::messages::{
    CreateTopicRequest, CreateTopicsRequest, IsolationLevel, ListOffsetsRequest, ListOffsetsRequestPartition,
    ListOffsetsRequestTopic, MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use rskafka::protocol::primitives::{Boolean, Int16, Int32, Int64, String_};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

/// Why brokers or topic cannot be used.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// None of the given addresses answers.
    #[error("no broker at {addresses} answers: {cause}")]
    Unreachable {
        /// The addresses, with commas.
        addresses: String,
        /// What the last one tried said.
        cause: String,
    },
    /// No connection to a broker that the cluster names.
    #[error("broker {node} at {address} is not usable: {cause}")]
    Broker {
        /// Its id.
        node: i32,
        /// Its advertised address.
        address: String,
        /// What went wrong.
        cause: String,
    },
    /// The partitions of the topic have no leaders, or there is no such topic.
    #[error("topic {topic} is not usable: {cause} (--create-partitions N creates it)")]
    Topic {
        /// The topic.
        topic: String,
        /// What the broker says.
        cause: String,
    },
    /// The topic was not created.
    #[error("topic {topic} was not created: {cause}")]
    NotCreated {
        /// The topic.
        topic: String,
        /// What the broker says.
        cause: String,
    },
}

/// The leaders of a topic's partitions, by index.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub(super) leaders: Vec<i32>,
}

/// Connections to the brokers, made when needed.
#[derive(Debug)]
pub(super) struct Cluster {
    bootstrap: Vec<String>,
    addresses: HashMap<i32, String>,
    connections: HashMap<i32, Arc<Messenger<TcpStream>>>,
}

impl Cluster {
    pub(super) fn new(bootstrap: Vec<String>) -> Self {
        Self { bootstrap, addresses: HashMap::new(), connections: HashMap::new() }
    }

    /// The connection to this broker, a new one if there is none.
    pub(super) async fn connection(&mut self, node: i32) -> Result<Arc<Messenger<TcpStream>>, ClusterError> {
        if let Some(connection) = self.connections.get(&node) {
            return Ok(Arc::clone(connection));
        }
        let address = self.addresses.get(&node).cloned().unwrap_or_else(|| "an address not known yet".to_owned());
        match connect(&address).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.connections.insert(node, Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => Err(ClusterError::Broker { node, address, cause: error.to_string() }),
        }
    }

    /// Drops the connection to this broker.
    pub(super) fn forget(&mut self, node: i32) {
        self.connections.remove(&node);
    }

    /// The topic, created with `create` partitions if it is not there; waits until every partition has a leader that
    /// knows that it is: one that does not yet would answer a batch like one that has taken it and then stepped down.
    pub(super) async fn topic(&mut self, name: &str, create: Option<i32>) -> Result<Topic, ClusterError> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        let mut create = create;
        loop {
            let metadata = self.metadata(name).await?;
            let found = metadata.topics.iter().find(|topic| topic.name.0 == name);
            let cause = match (found.map(leaders), create.take()) {
                (Some(Ok(leaders)), _) => match self.ask_leaders(name, &leaders).await {
                    Ok(()) => return Ok(Topic { leaders }),
                    Err(cause) => cause,
                },
                (Some(Err(Cause::Code(Code::UnknownTopicOrPartition))) | None, Some(partitions)) => {
                    self.create(name, partitions, metadata.controller_id.map_or(-1, |id| id.0)).await?;
                    "just created".to_owned()
                }
                (Some(Err(cause)), _) => cause.to_string(),
                (None, None) => "the broker does not know it".to_owned(),
            };
            if Instant::now() >= deadline {
                return Err(ClusterError::Topic { topic: name.to_owned(), cause });
            }
            sleep(TOPIC_PAUSE).await;
        }
    }

    /// Whether the brokers say so themselves, by the start of each partition's log; else why not.
    async fn ask_leaders(&mut self, name: &str, leaders: &[i32]) -> Result<(), String> {
        let mut by_leader: BTreeMap<i32, Vec<ListOffsetsRequestPartition>> = BTreeMap::new();
        for (index, &leader) in (0..).zip(leaders) {
            by_leader.entry(leader).or_default().push(ListOffsetsRequestPartition {
                partition_index: Int32(index),
                timestamp: Int64(EARLIEST),
                max_num_offsets: None,
            });
        }
        for (leader, partitions) in by_leader {
            let request = ListOffsetsRequest {
                replica_id: Int32(-1),
                isolation_level: Some(IsolationLevel::ReadUncommitted),
                topics: vec![ListOffsetsRequestTopic { name: String_(name.to_owned()), partitions }],
            };
            let connection = self.connection(leader).await.map_err(|error| error.to_string())?;
            let answer = match timeout(REQUEST_TIMEOUT, connection.request(request)).await {
                Ok(answer) => answer.map_err(ConnectError::from),
                Err(late) => Err(late.into()),
            };
            let answer = answer.map_err(|error| {
                self.forget(leader);
                format!("broker {leader}: {error}")
            })?;
            for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                if let Some(code) = partition.error_code {
                    return Err(format!("partition {}: {code}", partition.partition_index.0));
                }
            }
        }
        Ok(())
    }

    async fn create(&mut self, name: &str, partitions: i32, controller: i32) -> Result<(), ClusterError> {
        let failed = |cause: String| ClusterError::NotCreated { topic: name.to_owned(), cause };
        let connection = self.connection(controller).await?;
        let request = CreateTopicsRequest {
            topics: vec![CreateTopicRequest {
                name: String_(name.to_owned()),
                num_partitions: Int32(partitions),
                // The broker's default (KIP-464, brokers from 2.4).
                replication_factor: Int16(-1),
                assignments: Vec::new(),
                configs: Vec::new(),
                tagged_fields: None,
            }],
            timeout_ms: Int32(10_000),
            validate_only: None,
            tagged_fields: None,
        };
        let answer = timeout(REQUEST_TIMEOUT, connection.request(request)).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        match answer.topics.first().and_then(|topic| topic.error) {
            None | Some(Code::TopicAlreadyExists) => Ok(()),
            Some(code) => Err(failed(code.to_string())),
        }
    }

    /// Asks the bootstrap addresses in turn, each on a new connection: they are few, and asked seldom.
    async fn metadata(&mut self, name: &str) -> Result<MetadataResponse, ClusterError> {
        let mut cause = String::new();
        for address in &self.bootstrap {
            match ask_metadata(address, name).await {
                Ok(metadata) => {
                    let addresses = metadata.brokers.iter();
                    self.addresses = addresses
                        .map(|broker| (broker.node_id.0, format!("{}:{}", broker.host.0, broker.port.0)))
                        .collect();
                    return Ok(metadata);
                }
                Err(error) => cause = error.to_string(),
            }
        }
        Err(ClusterError::Unreachable { addresses: self.bootstrap.join(","), cause })
    }
}

#[derive(Debug, Error)]
enum ConnectError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut(#[from] Elapsed),
    #[error("{0}")]
    Versions(#[from] SyncVersionsError),
    #[error("{0}")]
    Request(#[from] RequestError),
}

async fn connect(address: &str) -> Result<Messenger<TcpStream>, ConnectError> {
    let stream = timeout(REQUEST_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let mut messenger = Messenger::new(stream, MAX_ANSWER_BYTES, Arc::from("sample-events"));
    timeout(REQUEST_TIMEOUT, messenger.sync_versions()).await??;
    Ok(messenger)
}

async fn ask_metadata(address: &str, topic: &str) -> Result<MetadataResponse, ConnectError> {
    let connection = connect(address).await?;
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: String_(topic.to_owned()) }]),
        allow_auto_topic_creation: Some(Boolean(false)),
    };
    Ok(timeout(REQUEST_TIMEOUT, connection.request(request)).await??)
}

#[derive(Debug, Error)]
enum Cause {
    #[error("{0}")]
    Code(Code),
    #[error("partition {0} has no leader")]
    NoLeader(i32),
}

fn leaders(topic: &MetadataResponseTopic) -> Result<Vec<i32>, Cause> {
    if let Some(code) = topic.error {
        return Err(Cause::Code(code));
    }
    let mut leaders = vec![-1; topic.partitions.len()];
    for partition in &topic.partitions {
        let index = partition.partition_index.0;
        match usize::try_from(index).ok().and_then(|place| leaders.get_mut(place)) {
            Some(leader) if partition.leader_id.0 >= 0 => *leader = partition.leader_id.0,
            _ => return Err(Cause::NoLeader(index)),
        }
    }
    Ok(leaders)
}

/// The timestamp that stands for the start of a log.
const EARLIEST: i64 = -2;
const MAX_ANSWER_BYTES: usize = 16 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const TOPIC_TIMEOUT: Duration = Duration::from_secs(30);
const TOPIC_PAUSE: Duration = Duration::from_millis(100);
