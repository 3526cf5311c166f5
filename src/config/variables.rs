//! The one table of environment variables. `--help`, the README's table and the parsing all come from it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::parse::{self, Parsed, SecurityProtocol};
use super::{
    AssignorName, ClickHouseAddress, Compression, HealthHttpStatus, HostPort, Isolation, LogLevel, OffsetReset,
    SaslMechanism,
};

/// What is known of a variable apart from its type.
#[derive(Debug)]
pub struct Entry {
    /// The variable's name.
    pub name: &'static str,
    /// What holds while it is unset.
    pub default: DefaultValue,
    /// Whether errors may show its value.
    pub exposure: Exposure,
    /// The values it takes, in words.
    pub allowed: &'static str,
    /// What it does, in a sentence without a full stop.
    pub help: &'static str,
}

impl Entry {
    /// Whether `NAME_FILE` may name a file that holds the value.
    pub fn may_be_file(&self) -> bool {
        self.exposure == Exposure::Secret
    }
}

/// What holds while a variable is unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// A value, as it would be written.
    Value(&'static str),
    /// A value that depends on other variables, in words.
    Derived(&'static str),
    /// Nothing.
    Unset,
}

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// As it is.
    Open,
    /// Without the user and the parameters that a URL may hold.
    Address,
    /// Never.
    Secret,
}

/// A variable with the type of its values.
#[derive(Debug)]
pub(super) struct Variable<T: 'static> {
    pub(super) entry: Entry,
    pub(super) parse: fn(&str) -> Parsed<T>,
}

/// The names of all variables the program reads, those of secret files included.
pub fn variable_names() -> Vec<String> {
    let files = |entry: &&&Entry| entry.may_be_file();
    TABLE
        .iter()
        .map(|entry| entry.name.to_owned())
        .chain(TABLE.iter().filter(files).map(|entry| format!("{}_FILE", entry.name)))
        .collect()
}

macro_rules! variables {
    ($($name:ident: $type:ty = $parse:expr, $exposure:ident, $default:expr, $allowed:literal, $help:literal;)*) => {
        $(pub(super) static $name: Variable<$type> = Variable {
            entry: Entry {
                name: stringify!($name),
                default: $default,
                exposure: Exposure::$exposure,
                allowed: $allowed,
                help: $help,
            },
            parse: $parse,
        };)*

        /// All variables, in the order in which they are shown.
        pub static TABLE: &[&Entry] = &[$(&$name.entry),*];
    };
}

use DefaultValue::{Derived, Unset, Value};

variables! {
    KAFKA_BOOTSTRAP_SERVERS: Vec<HostPort> = parse::bootstrap, Address,
        Value("broker01:9090,broker02:9090,broker03:9090,broker04:9090,broker05:9090"),
        "comma-separated host:port (port 9092 where left out; IPv6 in brackets)",
        "Kafka brokers to ask first; resolved again at each connect";
    KAFKA_TOPIC: String = parse::topic, Open, Value("sandarb_events"),
        "1 to 249 of a-z A-Z 0-9 . _ - (. and .. alone are no names)",
        "Topic to consume";
    KAFKA_GROUP_ID: String = parse::name, Open, Value("sandarb-clickhouse-consumer"),
        "any text without control characters",
        "Consumer group, the same for all replicas";
    KAFKA_AUTO_OFFSET_RESET: OffsetReset = parse::offset_reset, Open, Value("latest"),
        "latest (largest, end), earliest (smallest, beginning), none (error)",
        "Where to start a partition without a committed offset; none waits for a person";
    CLICKHOUSE_URL: Vec<ClickHouseAddress> = parse::clickhouse_urls, Address,
        Value("http://host.docker.internal:8123"),
        "comma-separated http://host:port or https://host:port (80 and 443 where left out); no user, no path but /, \
         no parameters",
        "ClickHouse HTTP addresses";
    CLICKHOUSE_DATABASE: String = parse::name, Open, Value("sandarb"),
        "any text without control characters",
        "ClickHouse database";
    CLICKHOUSE_USER: String = parse::name, Open, Value("default"),
        "any text without control characters",
        "ClickHouse user";
    CLICKHOUSE_PASSWORD: String = parse::name, Secret, Value("sandarb"),
        "any text without control characters; empty sends none",
        "ClickHouse password";
    BATCH_SIZE: NonZeroUsize = parse::count::<1_000_000>, Open, Value("2000"),
        "a whole number from 1 to 1000000",
        "Most rows of one insert";
    BATCH_TIMEOUT_MS: Duration = parse::millis::<1, 3_600_000>, Open, Value("5000"),
        "a whole number from 1 to 3600000",
        "Longest time in ms from the first event of a batch to its insert";
    HEALTH_PORT: u16 = parse::port, Open, Value("8079"),
        "a whole number from 0 to 65535 (0: any free port, named in the log)",
        "Port of /health, /livez, /readyz, /status and /metrics";
    LOG_LEVEL: LogLevel = parse::log_level, Open, Value("INFO"),
        "DEBUG, INFO, WARNING (WARN), ERROR (CRITICAL), in any case",
        "Least level that is logged";
    CLICKHOUSE_TABLE: String = parse::name, Open, Value("events"),
        "any text without control characters",
        "ClickHouse table; its columns decide what an event fills";
    CLICKHOUSE_TIMEOUT_MS: Duration = parse::millis::<100, 3_600_000>, Open, Value("20000"),
        "a whole number from 100 to 3600000",
        "Time limit of one request to ClickHouse in ms";
    CLICKHOUSE_CA_FILE: PathBuf = parse::file, Open, Unset,
        "the path of a readable PEM file",
        "Trusted roots for https addresses of ClickHouse instead of the public ones";
    CLICKHOUSE_COMPRESSION: Compression = parse::compression, Open, Value("lz4"),
        "lz4, none",
        "What blocks are sent in; none costs less CPU and about twice the bytes";
    MEMORY_BUDGET_BYTES: usize = parse::size::<1_048_576, 1_099_511_627_776>, Open,
        Derived("max(8 MiB, BATCH_SIZE × 2 KiB)"),
        "a whole number from 1048576 to 1099511627776",
        "Memory for fetched data, open columns and request bodies in bytes";
    SHUTDOWN_TIMEOUT_MS: Duration = parse::millis::<100, 3_600_000>, Open, Value("25000"),
        "a whole number from 100 to 3600000",
        "Longest time in ms from SIGTERM to the end";
    HEALTH_HTTP_STATUS: HealthHttpStatus = parse::health_http_status, Open, Value("strict"),
        "strict, always200",
        "strict answers /health with 503 while unhealthy, always200 always with 200";
    KAFKA_DLQ_TOPIC: String = parse::topic, Open, Derived("KAFKA_TOPIC with .dlq behind it"),
        "a topic name other than KAFKA_TOPIC; empty: bad events are counted, logged with their place and skipped",
        "Topic for events that cannot become rows; created when it is needed first";
    KAFKA_DLQ_GUARD: bool = parse::on_off, Open, Value("on"),
        "on, off",
        "on stops when nearly every event is bad, off makes dead-letter records of all of them";
    KAFKA_ASSIGNMENT_STRATEGY: Vec<AssignorName> = parse::assignors, Open, Value("range,roundrobin"),
        "comma-separated: range, roundrobin",
        "Partition assignment strategies to offer, the preferred one first";
    KAFKA_GROUP_INSTANCE_ID: String = parse::name, Open, Unset,
        "any text without control characters",
        "Static membership; must differ between replicas";
    KAFKA_CLIENT_ID: String = parse::name, Open, Value("sandarb-consumer"),
        "any text without control characters",
        "Name shown in the brokers' logs and quotas";
    KAFKA_SESSION_TIMEOUT_MS: Duration = parse::millis::<1_000, 1_800_000>, Open, Value("30000"),
        "a whole number from 1000 to 1800000",
        "Time in ms without a heartbeat after which the group drops this replica";
    KAFKA_HEARTBEAT_INTERVAL_MS: Duration = parse::millis::<100, 600_000>, Open,
        Derived("min(3000, KAFKA_SESSION_TIMEOUT_MS / 3)"),
        "a whole number from 100 to 600000",
        "Time in ms between heartbeats; at most a third of the session timeout";
    KAFKA_REBALANCE_TIMEOUT_MS: Duration = parse::millis::<1_000, 3_600_000>, Open, Value("60000"),
        "a whole number from 1000 to 3600000",
        "Time in ms that the group waits for its members to rejoin";
    KAFKA_ISOLATION_LEVEL: Isolation = parse::isolation, Open, Value("read_committed"),
        "read_committed, read_uncommitted",
        "Whether records of open and aborted transactions are left out";
    KAFKA_FETCH_MIN_BYTES: i32 = parse::fetch_bytes, Open, Value("65536"),
        "a whole number from 1 to 2147483647",
        "Bytes a broker collects before it answers a fetch";
    KAFKA_FETCH_MAX_WAIT_MS: Duration = parse::millis::<1, 3_600_000>, Open,
        Derived("min(500, BATCH_TIMEOUT_MS / 4)"),
        "a whole number from 1 to 3600000",
        "Longest time in ms a broker waits for those bytes; at most BATCH_TIMEOUT_MS";
    KAFKA_SECURITY_PROTOCOL: SecurityProtocol = parse::security_protocol, Open, Value("PLAINTEXT"),
        "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
        "How to connect to Kafka";
    KAFKA_SASL_MECHANISM: SaslMechanism = parse::sasl_mechanism, Open, Unset,
        "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
        "How to log in to Kafka";
    KAFKA_SASL_USERNAME: String = parse::name, Open, Unset,
        "any text without control characters",
        "Kafka user";
    KAFKA_SASL_PASSWORD: String = parse::name, Secret, Unset,
        "any text without control characters",
        "Kafka password";
    KAFKA_SSL_CA_FILE: PathBuf = parse::file, Open, Unset,
        "the path of a readable PEM file",
        "Trusted roots for Kafka instead of the public ones";
    KAFKA_SSL_CERT_FILE: PathBuf = parse::file, Open, Unset,
        "the path of a readable PEM file",
        "Client certificate chain for Kafka";
    KAFKA_SSL_KEY_FILE: PathBuf = parse::file, Open, Unset,
        "the path of a readable PEM file",
        "Private key of the client certificate for Kafka";
}
