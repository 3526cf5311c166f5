//! Configuration: environment variables, parsed once.
//!
//! `variables` is the one table (name, default, parser, help); `load` turns the environment into a [`Config`] and
//! lists every fault at once; `print` makes the table of `--help` and of the README.

mod load;
mod parse;
mod print;
mod reader;
mod secret;
mod variables;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use load::{Loaded, Warning, clickhouse_config, health_port, look_alikes};
pub use print::{help_table, readme_table};
pub use reader::{ConfigError, Fault, Source};
pub use secret::{Secret, SecretError};
pub use variables::{DefaultValue, Entry, Exposure, TABLE, variable_names};

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
    /// Where events that cannot become rows go; `None`: nowhere, they are counted, logged and skipped.
    pub dead_letter_topic: Option<String>,
    /// Whether it stops when nearly every event is bad.
    pub dead_letter_guard: bool,
    /// The consumer group.
    pub group_id: String,
    /// TLS and login.
    pub security: KafkaSecurity,
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
    /// The roots for https addresses; unset = the public ones.
    pub ca_file: Option<NamedFile>,
    /// What is in the frames of the blocks.
    pub compression: Compression,
}

/// What is in the frames that blocks are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// LZ4 blocks.
    Lz4,
    /// The bytes as they are. The checksums stay.
    None,
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

/// `KAFKA_SECURITY_PROTOCOL` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaSecurity {
    /// Bare TCP (`PLAINTEXT`, `SASL_PLAINTEXT`).
    Plaintext {
        /// How to log in, if at all.
        sasl: Option<Sasl>,
    },
    /// TLS (`SSL`, `SASL_SSL`).
    Tls {
        /// Roots and client certificate.
        files: TlsFiles,
        /// How to log in, if at all.
        sasl: Option<Sasl>,
    },
}

impl KafkaSecurity {
    /// The TLS files, when the connection is to be encrypted.
    pub fn tls(&self) -> Option<&TlsFiles> {
        match self {
            Self::Plaintext { .. } => None,
            Self::Tls { files, .. } => Some(files),
        }
    }

    /// The login, when there is one.
    pub fn sasl(&self) -> Option<&Sasl> {
        match self {
            Self::Plaintext { sasl } | Self::Tls { sasl, .. } => sasl.as_ref(),
        }
    }
}

/// A login by user name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sasl {
    /// How the password is proven.
    pub mechanism: SaslMechanism,
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// `KAFKA_SASL_MECHANISM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password itself (RFC 4616).
    Plain,
    /// SCRAM with SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

/// What a TLS client trusts and shows. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// The trusted roots; unset = the public ones (webpki-roots).
    pub ca: Option<NamedFile>,
    /// The client certificate, for servers that ask for one.
    pub client: Option<ClientCertificate>,
}

/// A client certificate chain and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain, the leaf first.
    pub certificate: NamedFile,
    /// The key (PKCS#8, PKCS#1 or SEC1).
    pub key: NamedFile,
}

/// A file and the variable that named it, so that an error can name both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The variable.
    pub variable: &'static str,
    /// The file.
    pub path: PathBuf,
}

impl std::fmt::Display for NamedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.variable)
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

#[cfg(test)]
mod tests;
