//! From the environment to a [`Config`]: all variables, then what they say together.

use std::time::Duration;

use super::parse::{self, SecurityProtocol};
use super::reader::{ConfigError, Fault, Faulty, Reader, Source};
use super::variables::{self as var, Entry, variable_names};
use super::{
    ClickHouseConfig, ClientCertificate, Config, KafkaConfig, KafkaSecurity, NamedFile, Sasl, SaslMechanism, Secret,
    TlsFiles,
};

/// A configuration and what a person should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// To be logged once the log is open.
    pub warnings: Vec<Warning>,
}

/// Something that works and is probably not meant. Its text never holds a value that could be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A variable that this program does not read and whose name is close to one that it does.
    #[error("{name} is not read; {meant} is meant?")]
    LookAlike {
        /// The unknown name.
        name: String,
        /// The known one.
        meant: String,
    },
    /// A request to ClickHouse may outlast what a rebalance waits for.
    #[error(
        "CLICKHOUSE_TIMEOUT_MS ({timeout_ms}) is not below 70 % of KAFKA_REBALANCE_TIMEOUT_MS ({rebalance_ms}): \
         a slow insert can cost the membership and be repeated by another replica"
    )]
    InsertOutlastsRebalance {
        /// `CLICKHOUSE_TIMEOUT_MS`.
        timeout_ms: u128,
        /// `KAFKA_REBALANCE_TIMEOUT_MS`.
        rebalance_ms: u128,
    },
    /// A request to ClickHouse may outlast the shutdown.
    #[error(
        "SHUTDOWN_TIMEOUT_MS ({shutdown_ms}) is below CLICKHOUSE_TIMEOUT_MS ({timeout_ms}): \
         a slow insert is cut off at shutdown and repeated later"
    )]
    InsertOutlastsShutdown {
        /// `CLICKHOUSE_TIMEOUT_MS`.
        timeout_ms: u128,
        /// `SHUTDOWN_TIMEOUT_MS`.
        shutdown_ms: u128,
    },
    /// Roots without a connection that asks for them.
    #[error("CLICKHOUSE_CA_FILE is set, but no address of CLICKHOUSE_URL is https")]
    UnusedCaFile,
    /// A password that anybody on the way can read.
    #[error("the Kafka password is sent in the clear: PLAIN over SASL_PLAINTEXT; prefer SASL_SSL or SCRAM")]
    PasswordInTheClear,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_env() -> Result<Loaded, ConfigError> {
        let mut loaded = Self::load(&|name| std::env::var_os(name))?;
        // A name that is no Unicode is none of ours, nor close to one.
        let names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        loaded.warnings.extend(look_alikes(names.iter().map(String::as_str)));
        Ok(loaded)
    }

    /// Reads all variables through `source`. An empty variable counts as unset, except `CLICKHOUSE_PASSWORD` and
    /// `KAFKA_DLQ_TOPIC`.
    ///
    /// # Errors
    /// With every fault at once.
    pub fn load(source: Source<'_>) -> Result<Loaded, ConfigError> {
        let mut reader = Reader::new(source);
        let config = read(&mut reader);
        let faults = reader.finish();
        match config {
            Ok(config) if faults.is_empty() => {
                let warnings = warnings(&config);
                Ok(Loaded { config, warnings })
            }
            Ok(_) | Err(Faulty) => Err(ConfigError { faults }),
        }
    }
}

/// `HEALTH_PORT` alone, for a command that needs nothing else.
///
/// # Errors
/// When it is no port.
pub fn health_port(source: Source<'_>) -> Result<u16, ConfigError> {
    let mut reader = Reader::new(source);
    let port = reader.value(&var::HEALTH_PORT);
    port.map_err(|Faulty| ConfigError { faults: reader.finish() })
}

/// The variables of ClickHouse alone, for a command that needs no others.
///
/// # Errors
/// With every fault of theirs at once.
pub fn clickhouse_config(source: Source<'_>) -> Result<ClickHouseConfig, ConfigError> {
    let mut reader = Reader::new(source);
    let config = clickhouse(&mut reader);
    let faults = reader.finish();
    config.ok().filter(|_| faults.is_empty()).ok_or(ConfigError { faults })
}

/// Which of these names, foreign ones among them, look like slips of the pen for one of ours. What Kubernetes puts into
/// each container for a service called `kafka` (`KAFKA_PORT`, `KAFKA_SERVICE_HOST`) does not.
pub fn look_alikes<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Warning> {
    let known = variable_names();
    let mut found = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        if known.iter().any(|ours| ours == name) {
            continue;
        }
        for prefix in ["KAFKA_", "CLICKHOUSE_"] {
            let Some(rest) = upper.strip_prefix(prefix) else { continue };
            let near = known.iter().filter_map(|ours| {
                let distance = edit_distance(rest, ours.strip_prefix(prefix)?);
                (distance <= 2 && distance * 3 <= rest.len()).then_some((distance, ours))
            });
            if let Some((_, meant)) = near.min() {
                found.push(Warning::LookAlike { name: name.to_owned(), meant: meant.clone() });
            }
        }
    }
    found.sort_by_key(ToString::to_string);
    found
}

fn read(reader: &mut Reader<'_>) -> Result<Config, Faulty> {
    let batch_timeout = reader.value(&var::BATCH_TIMEOUT_MS);
    let kafka = kafka(reader, batch_timeout);
    let clickhouse = clickhouse(reader);
    let batch_size = reader.value(&var::BATCH_SIZE);
    let health_port = reader.value(&var::HEALTH_PORT);
    let health_http_status = reader.value(&var::HEALTH_HTTP_STATUS);
    let log_level = reader.value(&var::LOG_LEVEL);
    let memory_budget = reader.optional(&var::MEMORY_BUDGET_BYTES);
    let shutdown_timeout = reader.value(&var::SHUTDOWN_TIMEOUT_MS);
    let batch_size = batch_size?;
    Ok(Config {
        kafka: kafka?,
        clickhouse: clickhouse?,
        batch_size,
        batch_timeout: batch_timeout?,
        health_port: health_port?,
        health_http_status: health_http_status?,
        log_level: log_level?,
        memory_budget: memory_budget?
            .unwrap_or_else(|| MIN_BUDGET.max(batch_size.get().saturating_mul(BUDGET_PER_ROW))),
        shutdown_timeout: shutdown_timeout?,
    })
}

fn kafka(reader: &mut Reader<'_>, batch_timeout: Result<Duration, Faulty>) -> Result<KafkaConfig, Faulty> {
    let bootstrap = reader.value(&var::KAFKA_BOOTSTRAP_SERVERS);
    let topic = reader.value(&var::KAFKA_TOPIC);
    let dead_letter_topic = dead_letter_topic(reader, &topic);
    let dead_letter_guard = reader.value(&var::KAFKA_DLQ_GUARD);
    let group_id = reader.value(&var::KAFKA_GROUP_ID);
    let offset_reset = reader.value(&var::KAFKA_AUTO_OFFSET_RESET);
    let assignors = reader.value(&var::KAFKA_ASSIGNMENT_STRATEGY);
    let group_instance_id = reader.optional(&var::KAFKA_GROUP_INSTANCE_ID);
    let client_id = reader.value(&var::KAFKA_CLIENT_ID);
    let times = group_times(reader);
    let isolation = reader.value(&var::KAFKA_ISOLATION_LEVEL);
    let fetch_min_bytes = reader.value(&var::KAFKA_FETCH_MIN_BYTES);
    let fetch_max_wait = fetch_max_wait(reader, batch_timeout);
    let security = security(reader);
    let (session_timeout, heartbeat_interval, rebalance_timeout) = times?;
    Ok(KafkaConfig {
        bootstrap: bootstrap?,
        topic: topic?,
        dead_letter_topic: dead_letter_topic?,
        dead_letter_guard: dead_letter_guard?,
        group_id: group_id?,
        security: security?,
        offset_reset: offset_reset?,
        client_id: client_id?,
        group_instance_id: group_instance_id?,
        assignors: assignors?,
        session_timeout,
        heartbeat_interval,
        rebalance_timeout,
        isolation: isolation?,
        fetch_min_bytes: fetch_min_bytes?,
        fetch_max_wait: fetch_max_wait?,
    })
}

/// Where bad events go, if anywhere.
fn dead_letter_topic(reader: &mut Reader<'_>, topic: &Result<String, Faulty>) -> Result<Option<String>, Faulty> {
    let given = reader.switchable(&var::KAFKA_DLQ_TOPIC)?;
    let Ok(topic) = topic else { return Ok(given.flatten()) };
    match given {
        Some(Some(given)) if given == *topic => Err(reader.fault(Fault::Together(format!(
            "KAFKA_DLQ_TOPIC is KAFKA_TOPIC ({given}): bad events would come back for ever; name another topic, or leave \
             it empty to skip them"
        )))),
        Some(given) => Ok(given),
        None => match parse::topic(&format!("{topic}.dlq")) {
            Ok(derived) => Ok(Some(derived)),
            Err(_) => Err(reader.fault(Fault::Together(format!(
                "KAFKA_TOPIC with .dlq behind it is longer than a topic's name may be ({} of 249 characters); set \
                 KAFKA_DLQ_TOPIC",
                topic.len() + 4
            )))),
        },
    }
}

/// The heartbeat interval while none is set, unless that is more than a third of the session timeout.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Session timeout, heartbeat interval, rebalance timeout.
fn group_times(reader: &mut Reader<'_>) -> Result<(Duration, Duration, Duration), Faulty> {
    let session = reader.value(&var::KAFKA_SESSION_TIMEOUT_MS);
    let heartbeat = match (reader.optional(&var::KAFKA_HEARTBEAT_INTERVAL_MS), session) {
        (Ok(Some(heartbeat)), _) => Ok(heartbeat),
        (Ok(None), Ok(session)) => Ok(HEARTBEAT_INTERVAL.min(Duration::from_millis(millis(session) / 3))),
        (Err(faulty), _) | (Ok(None), Err(faulty)) => Err(faulty),
    };
    let rebalance = reader.value(&var::KAFKA_REBALANCE_TIMEOUT_MS);
    if let (Ok(session), Ok(heartbeat)) = (session, heartbeat)
        && heartbeat * 3 > session
    {
        reader.fault(Fault::Together(format!(
            "KAFKA_HEARTBEAT_INTERVAL_MS ({}) is above a third of KAFKA_SESSION_TIMEOUT_MS ({}): \
             one lost heartbeat could cost the membership; lower the first or raise the second",
            heartbeat.as_millis(),
            session.as_millis()
        )));
    }
    if let (Ok(rebalance), Ok(heartbeat)) = (rebalance, heartbeat)
        && heartbeat * 2 > rebalance
    {
        reader.fault(Fault::Together(format!(
            "KAFKA_HEARTBEAT_INTERVAL_MS ({}) is above half of KAFKA_REBALANCE_TIMEOUT_MS ({}): \
             a rebalance would be over before this replica hears of it; lower the first or raise the second",
            heartbeat.as_millis(),
            rebalance.as_millis()
        )));
    }
    Ok((session?, heartbeat?, rebalance?))
}

fn fetch_max_wait(reader: &mut Reader<'_>, batch_timeout: Result<Duration, Faulty>) -> Result<Duration, Faulty> {
    let wait = reader.optional(&var::KAFKA_FETCH_MAX_WAIT_MS)?;
    let batch_timeout = batch_timeout?;
    match wait {
        None => Ok(DEFAULT_FETCH_WAIT.min(batch_timeout / 4).max(Duration::from_millis(1))),
        Some(wait) if wait <= batch_timeout => Ok(wait),
        Some(wait) => Err(reader.fault(Fault::Together(format!(
            "KAFKA_FETCH_MAX_WAIT_MS ({}) is above BATCH_TIMEOUT_MS ({}): a batch would close before its broker answers; \
             lower the first or raise the second",
            wait.as_millis(),
            batch_timeout.as_millis()
        )))),
    }
}

fn security(reader: &mut Reader<'_>) -> Result<KafkaSecurity, Faulty> {
    let protocol = reader.value(&var::KAFKA_SECURITY_PROTOCOL);
    let mechanism = reader.optional(&var::KAFKA_SASL_MECHANISM);
    let username = reader.optional(&var::KAFKA_SASL_USERNAME);
    let password = reader.secret(&var::KAFKA_SASL_PASSWORD);
    let ca = reader.file(&var::KAFKA_SSL_CA_FILE);
    let certificate = reader.file(&var::KAFKA_SSL_CERT_FILE);
    let key = reader.file(&var::KAFKA_SSL_KEY_FILE);
    let protocol = protocol?;
    let with_sasl = matches!(protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl);
    let with_tls = matches!(protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl);
    let sasl = if with_sasl {
        login(reader, mechanism, username, password).map(Some)
    } else if matches!(mechanism, Ok(Some(_))) || matches!(username, Ok(Some(_))) || matches!(password, Ok(Some(_))) {
        Err(reader.fault(Fault::Together(
            "KAFKA_SASL_* is set, but KAFKA_SECURITY_PROTOCOL asks for no login; set it to SASL_SSL or SASL_PLAINTEXT, \
             or unset KAFKA_SASL_*"
                .to_owned(),
        )))
    } else {
        Ok(None)
    };
    let files = if with_tls {
        tls_files(reader, ca, certificate, key).map(Some)
    } else if matches!(ca, Ok(Some(_))) || matches!(certificate, Ok(Some(_))) || matches!(key, Ok(Some(_))) {
        Err(reader.fault(Fault::Together(
            "KAFKA_SSL_* is set, but KAFKA_SECURITY_PROTOCOL asks for no encryption; set it to SSL or SASL_SSL, \
             or unset KAFKA_SSL_*"
                .to_owned(),
        )))
    } else {
        Ok(None)
    };
    let (sasl, files) = (sasl?, files?);
    Ok(match files {
        Some(files) => KafkaSecurity::Tls { files, sasl },
        None => KafkaSecurity::Plaintext { sasl },
    })
}

fn login(
    reader: &mut Reader<'_>,
    mechanism: Result<Option<SaslMechanism>, Faulty>,
    username: Result<Option<String>, Faulty>,
    password: Result<Option<Secret>, Faulty>,
) -> Result<Sasl, Faulty> {
    let because = "KAFKA_SECURITY_PROTOCOL asks for a login";
    let mechanism = reader.needed(&var::KAFKA_SASL_MECHANISM, mechanism, because);
    let username = reader.needed(&var::KAFKA_SASL_USERNAME, username, because);
    let password = reader.needed(&var::KAFKA_SASL_PASSWORD, password, because);
    Ok(Sasl { mechanism: mechanism?, username: username?, password: password? })
}

fn tls_files(
    reader: &mut Reader<'_>,
    ca: Result<Option<NamedFile>, Faulty>,
    certificate: Result<Option<NamedFile>, Faulty>,
    key: Result<Option<NamedFile>, Faulty>,
) -> Result<TlsFiles, Faulty> {
    let client = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        (None, None) => None,
        (certificate, _) => {
            let (variable, because) = if certificate.is_some() {
                (&var::KAFKA_SSL_KEY_FILE, "KAFKA_SSL_CERT_FILE is set")
            } else {
                (&var::KAFKA_SSL_CERT_FILE, "KAFKA_SSL_KEY_FILE is set")
            };
            let Entry { name, allowed, .. } = variable.entry;
            return Err(reader.fault(Fault::Missing { name, because, allowed }));
        }
    };
    Ok(TlsFiles { ca: ca?, client })
}

fn clickhouse(reader: &mut Reader<'_>) -> Result<ClickHouseConfig, Faulty> {
    let addresses = reader.value(&var::CLICKHOUSE_URL);
    let database = reader.name(&var::CLICKHOUSE_DATABASE);
    let user = reader.name(&var::CLICKHOUSE_USER);
    let password = reader.secret(&var::CLICKHOUSE_PASSWORD);
    let table = reader.name(&var::CLICKHOUSE_TABLE);
    let timeout = reader.value(&var::CLICKHOUSE_TIMEOUT_MS);
    let ca_file = reader.file(&var::CLICKHOUSE_CA_FILE);
    let compression = reader.value(&var::CLICKHOUSE_COMPRESSION);
    Ok(ClickHouseConfig {
        addresses: addresses?,
        database: database?,
        table: table?,
        user: user?,
        password: password?.unwrap_or_else(|| Secret::Value(String::new())),
        timeout: timeout?,
        ca_file: ca_file?,
        compression: compression?,
    })
}

fn warnings(config: &Config) -> Vec<Warning> {
    let (kafka, clickhouse) = (&config.kafka, &config.clickhouse);
    let timeout_ms = clickhouse.timeout.as_millis();
    let mut found = Vec::new();
    if clickhouse.timeout * 10 >= kafka.rebalance_timeout * 7 {
        let rebalance_ms = kafka.rebalance_timeout.as_millis();
        found.push(Warning::InsertOutlastsRebalance { timeout_ms, rebalance_ms });
    }
    if config.shutdown_timeout < clickhouse.timeout {
        let shutdown_ms = config.shutdown_timeout.as_millis();
        found.push(Warning::InsertOutlastsShutdown { timeout_ms, shutdown_ms });
    }
    if clickhouse.ca_file.is_some() && clickhouse.addresses.iter().all(|address| !address.tls) {
        found.push(Warning::UnusedCaFile);
    }
    if let KafkaSecurity::Plaintext { sasl: Some(Sasl { mechanism: SaslMechanism::Plain, .. }) } = &kafka.security {
        found.push(Warning::PasswordInTheClear);
    }
    found
}

/// Levenshtein's distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            *cell = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

const MIN_BUDGET: usize = 8 * 1024 * 1024;
const BUDGET_PER_ROW: usize = 2 * 1024;
const DEFAULT_FETCH_WAIT: Duration = Duration::from_millis(500);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
