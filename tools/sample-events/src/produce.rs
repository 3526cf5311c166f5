//! Sends the events to Kafka: acks from all replicas, one batch a partition and request.
//!
//! A batch is sent again only when the broker said that it did not take it. When the answer is lost, nobody can know:
//! its events are then counted as uncertain and not sent again, so that no event is there twice by our doing.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use rskafka::protocol::error::Error as Code;
use sandarb_consumer::kafka::protocol::produce::RawProduceRequest;
use sandarb_consumer::kafka::records::write::{BatchWriter, Codec, NewRecord, WriteError};
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{Source, org_number};

pub use cluster::ClusterError;
use cluster::{Cluster, Topic};

mod cluster;

/// What to send, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses `host:port` of some brokers.
    pub bootstrap: Vec<String>,
    /// The topic.
    pub topic: String,
    /// Creates the topic with so many partitions, unless it exists.
    pub create_partitions: Option<i32>,
    /// The events.
    pub source: Source,
    /// The first event's index.
    pub start: u64,
    /// How many events.
    pub count: u64,
    /// Events a second, evenly; `None`: as fast as they are taken.
    pub rate: Option<f64>,
    /// How the batches are compressed.
    pub codec: Codec,
    /// Events a batch, about.
    pub batch: NonZeroUsize,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Produced {
    /// Events the brokers have confirmed.
    pub confirmed: u64,
    /// Indices of the events whose confirmation was lost: they are in the topic once or not at all.
    pub uncertain: Vec<u64>,
}

/// Why the events could not all be sent.
#[derive(Debug, Error)]
pub enum ProduceError {
    /// Brokers or topic cannot be used.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The broker refuses the batch for good.
    #[error("partition {partition} refuses a batch of {bytes} bytes: {code}{}", cure(*code))]
    Refused {
        /// The partition.
        partition: i32,
        /// The batch's size.
        bytes: usize,
        /// The broker's error.
        code: Code,
    },
    /// It was tried again for too long.
    #[error("gave up after {} s without progress; last cause: {cause}", PATIENCE.as_secs())]
    Stuck {
        /// What went wrong last.
        cause: String,
    },
    /// An event does not fit into a batch.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Sends the events in the order of their indices. The partition follows from the organisation, which is the key.
///
/// # Errors
/// [`ProduceError`]; events sent before stay sent.
pub async fn produce(options: &Options) -> Result<Produced, ProduceError> {
    let mut cluster = Cluster::new(options.bootstrap.clone());
    let topic = cluster.topic(&options.topic, options.create_partitions).await?;
    let mut sender = Sender { cluster, topic, name: &options.topic, stale: false, produced: Produced::default() };
    let partitions = sender.topic.leaders.len();
    let mut writers: Vec<Open> = (0..partitions).map(|_| Open::new(options.codec)).collect();
    let round = options.batch.get() as u64 * partitions as u64;
    let started = Instant::now();
    let mut value = Vec::with_capacity(2048);
    let mut next = 0;
    let mut sent = started;
    while next < options.count {
        let until = match options.rate {
            None => options.count,
            Some(rate) => {
                let due = started + Duration::from_secs_f64(next as f64 / rate);
                sleep_until(due.max(sent + LINGER)).await;
                sent = Instant::now();
                let due = (started.elapsed().as_secs_f64() * rate) as u64 + 1;
                due.clamp(next + 1, options.count)
            }
        };
        let until = until.min(next + round);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        while next < until {
            let index = options.start + next;
            let event = options.source.event(index);
            value.clear();
            event.write_json(&mut value);
            // Every event of ours has a numbered organisation.
            let place = org_number(&event.org_id).unwrap_or(0) % partitions as u64;
            let open = &mut writers[place as usize];
            open.writer.append(&NewRecord {
                timestamp: now,
                key: Some(event.org_id.as_bytes()),
                value: Some(&value),
                headers: &[],
            })?;
            open.indices.push(index);
            next += 1;
            if open.writer.bytes() > MAX_BATCH_BYTES {
                break;
            }
        }
        let batches = writers.iter_mut().enumerate().filter_map(|(place, open)| open.close(place as i32)).collect();
        sender.send(batches).await?;
    }
    Ok(sender.produced)
}

/// From one request of a load with a rate to the next: what is due meanwhile goes together, or a broker would be busy with
/// requests of an event or two.
const LINGER: Duration = Duration::from_millis(10);

/// A batch being filled.
struct Open {
    writer: BatchWriter,
    indices: Vec<u64>,
}

impl Open {
    fn new(codec: Codec) -> Self {
        Self { writer: BatchWriter::new(codec), indices: Vec::new() }
    }

    fn close(&mut self, partition: i32) -> Option<Closed> {
        (!self.writer.is_empty()).then(|| Closed {
            partition,
            bytes: self.writer.finish(),
            indices: std::mem::take(&mut self.indices),
        })
    }
}

/// A batch on its way.
struct Closed {
    partition: i32,
    bytes: Vec<u8>,
    indices: Vec<u64>,
}

struct Sender<'a> {
    cluster: Cluster,
    topic: Topic,
    name: &'a str,
    /// A broker said that it no longer leads what it was sent.
    stale: bool,
    produced: Produced,
}

impl Sender<'_> {
    /// Returns when the fate of every batch is known, or known to be unknowable.
    async fn send(&mut self, mut batches: Vec<Closed>) -> Result<(), ProduceError> {
        let deadline = Instant::now() + PATIENCE;
        if std::mem::take(&mut self.stale) {
            self.topic = self.cluster.topic(self.name, None).await?;
        }
        loop {
            let mut refused = None;
            let mut left = Vec::new();
            for (leader, batches) in self.by_leader(batches) {
                self.send_to(leader, batches, &mut left, &mut refused).await?;
            }
            if left.is_empty() {
                return Ok(());
            }
            let cause = refused.unwrap_or_else(|| "no leader".to_owned());
            if Instant::now() >= deadline {
                return Err(ProduceError::Stuck { cause });
            }
            eprintln!("sample-events: {} batches again: {cause}", left.len());
            sleep(PAUSE).await;
            match self.cluster.topic(self.name, None).await {
                Ok(topic) => self.topic = topic,
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(error) => eprintln!("sample-events: {error}"),
            }
            batches = left;
        }
    }

    fn by_leader(&self, batches: Vec<Closed>) -> BTreeMap<i32, Vec<Closed>> {
        let mut by_leader: BTreeMap<i32, Vec<Closed>> = BTreeMap::new();
        for batch in batches {
            let leader = self.topic.leaders.get(batch.partition as usize).copied().unwrap_or(NO_LEADER);
            by_leader.entry(leader).or_default().push(batch);
        }
        by_leader
    }

    /// What was definitely not taken is put into `left`, with the reason.
    async fn send_to(
        &mut self,
        leader: i32,
        batches: Vec<Closed>,
        left: &mut Vec<Closed>,
        refused: &mut Option<String>,
    ) -> Result<(), ProduceError> {
        let connection = match self.cluster.connection(leader).await {
            Ok(connection) => connection,
            Err(error) => {
                *refused = Some(error.to_string());
                left.extend(batches);
                return Ok(());
            }
        };
        let request = RawProduceRequest {
            acks: -1,
            timeout_ms: BROKER_TIMEOUT_MS,
            topic: self.name.to_owned(),
            batches: batches.iter().map(|batch| (batch.partition, batch.bytes.clone())).collect(),
        };
        let answer = match timeout(ANSWER_TIMEOUT, connection.request(request)).await {
            Ok(Ok(answer)) => answer,
            lost => {
                let cause = match lost {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
                };
                let indices: Vec<u64> = batches.into_iter().flat_map(|batch| batch.indices).collect();
                eprintln!("sample-events: the fate of {} events is unknown: {cause}", indices.len());
                self.produced.uncertain.extend(indices);
                self.cluster.forget(leader);
                return Ok(());
            }
        };
        let codes: BTreeMap<i32, Option<Code>> = answer
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .map(|partition| (partition.index.0, partition.error))
            .collect();
        for batch in batches {
            match codes.get(&batch.partition) {
                Some(None) => self.produced.confirmed += batch.indices.len() as u64,
                Some(Some(code)) if not_taken(*code) => {
                    *refused = Some(format!("partition {}: {code}", batch.partition));
                    left.push(batch);
                }
                Some(Some(code)) if may_be_taken(*code) => {
                    eprintln!("sample-events: the fate of {} events is unknown: {code}", batch.indices.len());
                    self.stale = true;
                    self.produced.uncertain.extend(batch.indices);
                }
                None => self.produced.uncertain.extend(batch.indices),
                Some(Some(code)) => {
                    let (partition, bytes) = (batch.partition, batch.bytes.len());
                    return Err(ProduceError::Refused { partition, bytes, code: *code });
                }
            }
        }
        Ok(())
    }
}

/// Errors that may pass, and with which the broker has appended nothing.
fn not_taken(code: Code) -> bool {
    matches!(
        code,
        Code::LeaderNotAvailable | Code::UnknownTopicOrPartition | Code::NotEnoughReplicas | Code::CorruptMessage
    )
}

/// Errors after which the batch may be in the log all the same: a leader that steps down while a batch waits for its
/// replicas answers like one that has never led the partition.
fn may_be_taken(code: Code) -> bool {
    matches!(
        code,
        Code::RequestTimedOut
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotLeaderOrFollower
            | Code::KafkaStorageError
    )
}

fn cure(code: Code) -> &'static str {
    match code {
        Code::MessageTooLarge => "; make batches smaller with --batch, or raise the topic's max.message.bytes",
        Code::TopicAuthorizationFailed => "; the broker demands rights that this tool has no login for",
        _ => "",
    }
}

const NO_LEADER: i32 = -1;
/// Below the broker's default message.max.bytes (1,048,588), so that even an incompressible batch passes.
const MAX_BATCH_BYTES: usize = 900_000;
const BROKER_TIMEOUT_MS: i32 = 30_000;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);
