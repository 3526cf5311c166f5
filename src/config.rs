//! Configuration: environment variables, parsed once.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Everything the program can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the events come from.
    pub kafka: KafkaConfig,
    /// Where the rows go.
    pub clickhouse: ClickHouseConfig,
    /// Rows that close a batch.
    pub batch_size: NonZeroUsize,
    /// Time after its first consumed offset that closes a batch.
    pub batch_timeout: Duration,
    /// The port of /health, /livez, /readyz.
    pub health_port: u16,
    /// Whether /health answers 503 when unhealthy.
    pub health_http_status: HealthHttpStatus,
    /// The least level that is logged.
    pub log_level: LogLevel,
    /// Bytes over fetch buffers, decompression, open columns and bodies.
    pub memory_budget: usize,
    /// How long a clean stop may take.
    pub shutdown_timeout: Duration,
}

/// The Kafka side.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Bootstrap addresses, resolved again at each connect.
    pub bootstrap: Vec<HostPort>,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// Where to start without a committed offset.
    pub offset_reset: OffsetReset,
    /// Sent with each request.
    pub client_id: String,
    /// Static membership (KIP-345), when set.
    pub group_instance_id: Option<String>,
    /// Offered assignors, in order of preference.
    pub assignors: Vec<AssignorName>,
    /// The broker expires a member after this long without a heartbeat.
    pub session_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// How long the group waits for its members to rejoin.
    pub rebalance_timeout: Duration,
    /// Whether records of open and aborted transactions are seen.
    pub isolation: Isolation,
    /// Fetch: bytes the broker collects before it answers.
    pub fetch_min_bytes: i32,
    /// Fetch: the longest the broker waits for them.
    pub fetch_max_wait: Duration,
}

/// The ClickHouse side.
#[derive(Debug, Clone)]
pub struct ClickHouseConfig {
    /// HTTP addresses.
    pub addresses: Vec<ClickHouseAddress>,
    /// The database.
    pub database: String,
    /// The table, whose columns decide what an event fills.
    pub table: String,
    /// The user.
    pub user: String,
    /// The password; empty = none is sent.
    pub password: Secret,
    /// The time limit of one request.
    pub timeout: Duration,
}

/// A ClickHouse HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickHouseAddress {
    /// https instead of http.
    pub tls: bool,
    /// Host and port.
    pub host: HostPort,
}

/// A host (name, IPv4 or IPv6 literal without brackets) and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A secret, given as a value or as a file that is read again at each use, so that it can be rotated. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The value itself.
    Value(String),
    /// The file that holds it; one trailing line break does not count.
    File(PathBuf),
}

/// Why a secret's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret in {}: {source}", path.display())]
pub struct SecretError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: std::io::Error,
}

impl Secret {
    /// The value now: a file is read anew, so that it can be rotated.
    pub fn read(&self) -> Result<String, SecretError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File(path) => {
                let mut text =
                    std::fs::read_to_string(path).map_err(|source| SecretError { path: path.clone(), source })?;
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Ok(text)
            }
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value(_) => "Secret(…)",
            Self::File(_) => "Secret(file …)",
        })
    }
}

/// `KAFKA_AUTO_OFFSET_RESET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// The end of the log.
    Latest,
    /// Its start.
    Earliest,
    /// Wait, unhealthy, for a person.
    None,
}

/// An assignor the program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignorName {
    /// `range`.
    Range,
    /// `roundrobin`.
    RoundRobin,
}

/// `KAFKA_ISOLATION_LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything in the log.
    ReadUncommitted,
    /// Only records of committed transactions and of none.
    ReadCommitted,
}

/// `HEALTH_HTTP_STATUS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthHttpStatus {
    /// 503 while unhealthy.
    Strict,
    /// 200 always, for liveness probes that still look at /health.
    Always200,
}

/// `LOG_LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only errors: a person must act.
    Error,
    /// Nothing lost, but look.
    Warning,
    /// The usual.
    Info,
    /// For finding faults.
    Debug,
}
