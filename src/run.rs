//! Wires the parts together: what starts first, how long it tries, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::admin::{self, BindError, Health};
use crate::batch::Shape;
use crate::clickhouse::inserter::Inserter;
use crate::clickhouse::schema::{Dedup, DescribeError, Schema};
use crate::config::{Config, Isolation};
use crate::dead_letter::{DeadLetters, no_rejects};
use crate::decode::Origin;
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::{ConnectOptions, SecurityError};
use crate::kafka::consumer::{Consumer, ConsumerSettings};
use crate::kafka::error::{GroupRefused, KafkaError};
use crate::kafka::fetching::FetchSettings;
use crate::kafka::group::state::GroupSettings;
use crate::kafka::lag::watch_ends;
use crate::kafka::producer::Producer;
use crate::ledger::Tally;
use crate::pipeline::{Pipeline, PipelineSettings};
use crate::progress::{self, InsertProgress, KafkaProgress, Memory, PipelineProgress, Progress};
use crate::reason_log::{Standing, watch_reasons};
use crate::shutdown::{self, requested};
use crate::stall::watch_loop;

/// Why the program ends other than by a clean stop.
#[derive(Debug, Error)]
pub enum RunError {
    /// The health port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refuses its signals, or the name of its port.
    #[error("the system refuses signals or sockets: {0}")]
    System(#[from] std::io::Error),
    /// TLS files or secrets cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Kafka could not be reached in all tries of the start.
    #[error("Kafka is not usable after {tries} tries: {cause}; check KAFKA_BOOTSTRAP_SERVERS and that the brokers run")]
    Kafka {
        /// How many.
        tries: u32,
        /// The last failure.
        cause: KafkaError,
    },
    /// ClickHouse could not be used in all tries of the start.
    #[error("ClickHouse is not usable after {tries} tries: {cause}")]
    ClickHouse {
        /// How many.
        tries: u32,
        /// The last failure.
        cause: DescribeError,
    },
    /// The table cannot be filled, or its server not be relied on.
    #[error(transparent)]
    Table(DescribeError),
    /// The group refuses this member for good.
    #[error(transparent)]
    Refused(#[from] GroupRefused),
    /// The clean stop took too long.
    #[error(
        "did not stop cleanly within SHUTDOWN_TIMEOUT_MS ({limit:?}); nothing is lost: what was not committed is read again"
    )]
    SlowStop {
        /// The limit.
        limit: Duration,
    },
}

impl RunError {
    /// The process's exit code: 1 services or time, 2 configuration, 3 the group.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Table(_) | Self::Security(_) => 2,
            Self::Refused(_) => 3,
            Self::Bind(_) | Self::System(_) | Self::Kafka { .. } | Self::ClickHouse { .. } | Self::SlowStop { .. } => 1,
        }
    }
}

/// Tries of the start, and the pause between them.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(2);
const PROGRESS_LINE: Duration = Duration::from_secs(10);

/// Runs until a signal stops it.
pub async fn run(config: Config) -> Result<(), RunError> {
    // /health answers from the first moment, whatever the services do.
    let listener = admin::bind(config.health_port).await?;
    let port = listener.local_addr()?.port();
    let mut stop = shutdown::signals()?;
    let (kafka, kafka_out) = watch::channel(KafkaProgress::default());
    let (insert, insert_out) = watch::channel(InsertProgress::default());
    let memory = Memory { budget: config.memory_budget, ..Memory::default() };
    let (pipeline, pipeline_out) = watch::channel(PipelineProgress {
        memory,
        settled: Tally { rejected: no_rejects(), ..Tally::default() },
        ..PipelineProgress::default()
    });
    let (stall, stall_out) = watch::channel(Duration::ZERO);
    let progress = Progress { kafka: kafka_out, insert: insert_out, pipeline: pipeline_out, stall: stall_out };
    let (standing, standing_out) = watch::channel(Standing::default());
    let health = Health::new(progress.clone(), standing_out, config.health_http_status);
    let (end_admin, admin_end) = watch::channel(false);
    tokio::spawn(admin::serve(listener, health, admin_end));
    tokio::spawn(watch_reasons(progress.clone(), standing, config.batch_timeout));
    tokio::spawn(progress::log_lines(progress.clone(), PROGRESS_LINE));
    tokio::spawn(watch_loop(stall));
    info!(
        version = env!("CARGO_PKG_VERSION"),
        port,
        topic = config.kafka.topic,
        group = config.kafka.group_id,
        table = config.clickhouse.table,
        batch_size = config.batch_size.get(),
        "starting"
    );

    let limits = limits(&config);
    let options = ConnectOptions::new(&config.kafka, limits.answer)?;
    let mut cluster = Cluster::new(config.kafka.bootstrap.clone(), options);
    let mut inserter = Inserter::new(config.clickhouse.clone(), insert.clone()).map_err(SecurityError::from)?;
    tokio::spawn(inserter.prober().run());
    let met = tokio::select! {
        met = async { tokio::try_join!(
            meet_kafka(&mut cluster, &config.kafka.topic, &kafka),
            meet_clickhouse(&mut inserter, &insert),
        ) } => met?,
        () = requested(&mut stop) => {
            info!("stopped before the start was complete");
            return Ok(());
        }
    };
    let (cluster_id, schema) = met;
    let origin = Origin { cluster_id, topic: config.kafka.topic.clone() };
    let dead_letters = dead_letters(&config, &cluster, &origin, &pipeline);
    tokio::spawn(watch_ends(cluster.fresh(), config.kafka.topic.clone(), kafka.clone()));
    let consumer = Consumer::start(consumer_settings(&config, &limits), cluster, kafka);
    let settings = PipelineSettings {
        origin,
        shape: Shape {
            rows: config.batch_size.get(),
            bytes: limits.columns,
            age: config.batch_timeout,
            compression: config.clickhouse.compression,
        },
        guard: config.kafka.dead_letter_guard,
        insert_limit: config.clickhouse.timeout,
    };
    let running = Pipeline::new(settings, consumer, inserter, dead_letters, schema, pipeline).run(stop.clone());
    let limit = config.shutdown_timeout;
    let late = async {
        requested(&mut stop).await;
        sleep(limit).await;
    };
    let ended = tokio::select! {
        ended = running => ended.map_err(RunError::from),
        () = late => Err(RunError::SlowStop { limit }),
    };
    end_admin.send_replace(true);
    progress::log_ledger(&progress, if ended.is_ok() { "stopped" } else { "ended" });
    ended
}

/// The way to the dead-letter topic; `None` when there is none. The rights are tried beside the start.
fn dead_letters(
    config: &Config,
    cluster: &Cluster,
    origin: &Origin,
    progress: &watch::Sender<PipelineProgress>,
) -> Option<DeadLetters> {
    let topic = config.kafka.dead_letter_topic.as_ref()?;
    let open = || DeadLetters::new(Producer::new(cluster.fresh(), topic.clone()), origin.clone(), progress.clone());
    let mut trial = open();
    tokio::spawn(async move { trial.check_rights().await });
    Some(open())
}

/// How the memory budget is shared out, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    /// Answers that lie here unread.
    fetches: usize,
    /// The largest answer that is taken at all.
    answer: usize,
    /// One decompressed record batch.
    decompressed: usize,
    /// The open columns.
    columns: usize,
}

fn limits(config: &Config) -> Shares {
    let budget = config.memory_budget;
    Shares { fetches: budget / 4, answer: budget / 2, decompressed: budget / 2, columns: budget / 4 }
}

fn consumer_settings(config: &Config, shares: &Shares) -> ConsumerSettings {
    let kafka = &config.kafka;
    ConsumerSettings {
        group: GroupSettings {
            group_id: kafka.group_id.clone(),
            topic: kafka.topic.clone(),
            instance_id: kafka.group_instance_id.clone(),
            assignors: kafka.assignors.clone(),
            session_timeout: kafka.session_timeout,
            heartbeat_interval: kafka.heartbeat_interval,
            rebalance_timeout: kafka.rebalance_timeout,
        },
        fetch: FetchSettings {
            topic: kafka.topic.clone(),
            isolation: match kafka.isolation {
                Isolation::ReadUncommitted => 0,
                Isolation::ReadCommitted => 1,
            },
            min_bytes: kafka.fetch_min_bytes,
            max_wait: kafka.fetch_max_wait,
            buffer_bytes: shares.fetches,
            reset: kafka.offset_reset,
        },
        batch_limit: shares.decompressed,
    }
}

/// Asks Kafka for its cluster id, some tries long.
async fn meet_kafka(
    cluster: &mut Cluster,
    topic: &str,
    progress: &watch::Sender<KafkaProgress>,
) -> Result<String, RunError> {
    let mut tries = 1;
    loop {
        match cluster.metadata(&[topic]).await {
            Ok(answer) => {
                let cluster_id = answer.cluster_id.unwrap_or_else(String::new);
                info!(cluster_id, brokers = answer.brokers.len(), "Kafka answers");
                progress.send_modify(|progress| progress.failure = None);
                return Ok(cluster_id);
            }
            Err(cause) if tries >= TRIES => return Err(RunError::Kafka { tries, cause }),
            Err(cause) => {
                progress.send_modify(|progress| {
                    progress.failure = Some(cause.to_string());
                    progress.errors += 1;
                });
                warn!(attempt = tries, of = TRIES, error = %cause, "Kafka is not usable yet; check KAFKA_BOOTSTRAP_SERVERS");
            }
        }
        tries += 1;
        sleep(PAUSE).await;
    }
}

/// Says where a retry after an unknown outcome may store or count rows twice.
async fn warn_of_doubles(inserter: &mut Inserter, schema: &Schema) {
    let cure = |engine: &str| {
        if engine.ends_with("MergeTree") {
            "set non_replicated_deduplication_window on it"
        } else {
            "only tables of a MergeTree engine can"
        }
    };
    if schema.dedup == Dedup::Off {
        warn!(
            table = schema.table,
            cure = cure(&schema.engine),
            "the table does not recognise repeated inserts: a retry can store rows twice"
        );
    }
    match inserter.view_targets().await {
        Ok(targets) => {
            for target in targets.iter().filter(|target| target.dedup == Some(Dedup::Off)) {
                warn!(
                    view = target.view,
                    cure = cure(&target.engine),
                    "a view's target does not recognise repeated inserts: it can count twice"
                );
            }
        }
        Err(error) => info!(%error, "cannot look at the table's views"),
    }
}

/// Asks ClickHouse for the table, some tries long; a table that is not there is waited for.
async fn meet_clickhouse(
    inserter: &mut Inserter,
    progress: &watch::Sender<InsertProgress>,
) -> Result<Arc<Schema>, RunError> {
    let mut tries = 1;
    loop {
        match inserter.describe().await {
            Ok(schema) => {
                progress.send_modify(|progress| progress.blocked = None);
                if inserter.confirms(&schema).await == Some(false) {
                    return Err(RunError::Table(DescribeError::Unconfirmed));
                }
                info!(table = schema.table, columns = schema.columns.len(), dedup = %schema.dedup, "ClickHouse answers");
                warn_of_doubles(inserter, &schema).await;
                return Ok(schema);
            }
            Err(
                cause @ (DescribeError::Unfillable(_) | DescribeError::NoColumns { .. } | DescribeError::TooOld { .. }),
            ) => {
                return Err(RunError::Table(cause));
            }
            Err(cause @ (DescribeError::Missing { .. } | DescribeError::Hidden { .. })) => {
                progress.send_modify(|progress| progress.blocked = Some(cause.to_string()));
                tries = 0;
            }
            Err(cause) if tries >= TRIES => return Err(RunError::ClickHouse { tries, cause }),
            Err(cause) => {
                progress.send_modify(|progress| progress.failure = Some(cause.to_string()));
                warn!(attempt = tries, of = TRIES, error = %cause, "ClickHouse is not usable yet");
            }
        }
        tries += 1;
        sleep(PAUSE).await;
    }
}
