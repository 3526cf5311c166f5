//! `check`: looks at everything that a run needs, one line each, and changes nothing.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::watch;

use crate::clickhouse::block::readable;
use crate::clickhouse::error::{Failure, Outcome};
use crate::clickhouse::inserter::Inserter;
use crate::clickhouse::schema::{Dedup, DescribeError, Schema, Why};
use crate::clickhouse::targets::BlindView;
use crate::clickhouse::types::DataType;
use crate::clickhouse::zones::{is_utc, zones};
use crate::config::{ClickHouseConfig, Config, Isolation, Loaded, Warning};
use crate::decode::{Origin, Place, Rows};
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::ConnectOptions;
use crate::kafka::error::{KafkaError, code_name, read_acl};
use crate::kafka::producer::{ProduceError, Producer};
use crate::kafka::protocol::topic_details::READ;
use crate::kafka::sample::{SampleSettings, sample};
use crate::progress::InsertProgress;

/// The lines of a check.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<String>,
    failed: bool,
}

impl Report {
    /// Whether a run could work.
    pub fn is_good(&self) -> bool {
        !self.failed
    }

    /// All lines, each with its end.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn ok(&mut self, what: &str, text: impl Display) {
        self.lines.push(format!("ok   {what}: {}", one_line(text)));
    }

    fn warn(&mut self, what: &str, text: impl Display) {
        self.lines.push(format!("warn {what}: {}", one_line(text)));
    }

    fn fail(&mut self, what: &str, text: impl Display) {
        self.failed = true;
        self.lines.push(format!("FAIL {what}: {}", one_line(text)));
    }
}

/// The largest answer of a broker that is taken.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
const SHOWN_REASONS: usize = 10;

/// Checks configuration, Kafka and ClickHouse; with `count`, so many events are read and decoded as well.
pub async fn run(loaded: &Loaded, count: Option<u64>) -> Report {
    let Loaded { config, warnings } = loaded;
    let mut report = Report::default();
    report.ok("configuration", "complete");
    warnings.iter().for_each(|warning: &Warning| report.warn("configuration", warning));
    let kafka = check_kafka(config, &mut report).await;
    let schema = check_clickhouse(config, &mut report).await;
    match (count, kafka, schema) {
        (Some(count), Some((mut cluster, cluster_id)), Some(schema)) => {
            let origin = Origin { cluster_id, topic: config.kafka.topic.clone() };
            check_sample(config, &mut cluster, origin, &schema, count, &mut report).await;
        }
        (Some(_), _, _) => report.fail("sample", "needs the topic and the table"),
        (None, _, _) => {}
    }
    report
}

async fn check_kafka(config: &Config, report: &mut Report) -> Option<(Cluster, String)> {
    let kafka = &config.kafka;
    let options = match ConnectOptions::new(kafka, MAX_ANSWER) {
        Ok(options) => options,
        Err(error) => {
            report.fail("brokers", error);
            return None;
        }
    };
    let mut cluster = Cluster::new(kafka.bootstrap.clone(), options);
    let answer = match cluster.metadata(&[&kafka.topic]).await {
        Ok(answer) => answer,
        Err(error) => {
            report.fail("brokers", format!("{error}; check KAFKA_BOOTSTRAP_SERVERS and that the brokers run"));
            return None;
        }
    };
    let cluster_id = answer.cluster_id.unwrap_or_default();
    report.ok("brokers", format!("{} in cluster {cluster_id}", answer.brokers.len()));
    check_group(&mut cluster, &kafka.group_id, report).await;
    let target = kafka.dead_letter_topic.clone();
    let mut producer = Producer::new(cluster.fresh(), target.clone().unwrap_or_else(|| kafka.topic.clone()));
    let there = check_topic(&mut producer, &kafka.topic, report).await;
    match target {
        None => report.warn(
            "dead letters",
            "KAFKA_DLQ_TOPIC is empty: bad events are counted, logged with their place and skipped",
        ),
        Some(topic) => match producer.check_rights(&kafka.topic).await {
            Ok(()) => report.ok("dead letters", format!("can be written to {topic}, which is created when needed")),
            Err(error @ ProduceError::Kafka(_)) => report.fail("dead letters", error),
            Err(error) => report.warn("dead letters", format!("a bad event would make its partition wait: {error}")),
        },
    }
    there.then_some((cluster, cluster_id))
}

async fn check_group(cluster: &mut Cluster, group: &str, report: &mut Report) {
    match cluster.find_coordinator(group).await {
        Ok((_, address)) => report.ok("group", format!("{group}, coordinated by {address}")),
        Err(KafkaError::NoCoordinator { code: 30, .. }) => {
            let cure = format!("kafka-acls --add --allow-principal User:… --operation Read --group {group}");
            report.fail("group", format!("no right to {group} (KAFKA_GROUP_ID); grant it: {cure}"));
        }
        Err(KafkaError::NoCoordinator { code, .. }) => {
            report.warn("group", format!("{group} has no coordinator yet: {}", code_name(code)));
        }
        Err(error) => report.fail("group", error),
    }
}

async fn check_topic(producer: &mut Producer, topic: &str, report: &mut Report) -> bool {
    let acl = read_acl(topic);
    match producer.details(topic).await {
        Ok(details) if details.error == 3 => {
            report.fail("topic", format!("{topic} does not exist; create it or correct KAFKA_TOPIC"));
        }
        Ok(details) if details.error == 29 || details.operations.is_some_and(|operations| operations & READ == 0) => {
            report.fail("topic", format!("no right to read {topic}; grant it: {acl}"));
        }
        Ok(details) if details.error != 0 => report.fail("topic", format!("{topic}: {}", code_name(details.error))),
        Ok(details) => {
            let (partitions, replicas) = (details.partitions, details.replicas);
            report.ok("topic", format!("{topic}, {partitions} partitions, {replicas} replicas"));
            return true;
        }
        Err(error) => report.fail("topic", error),
    }
    false
}

async fn check_clickhouse(config: &Config, report: &mut Report) -> Option<Arc<Schema>> {
    let (progress, _) = watch::channel(InsertProgress::default());
    let mut inserter = match Inserter::new(config.clickhouse.clone(), progress) {
        Ok(inserter) => inserter,
        Err(error) => {
            report.fail("ClickHouse", error);
            return None;
        }
    };
    if let Err(failure) = inserter.probe().await {
        report.fail("ClickHouse", format!("{failure}; {}", failure.cure()));
        return None;
    }
    report.ok("ClickHouse", format!("answers, and lets {} in", config.clickhouse.user));
    let schema = match inserter.describe().await {
        Ok(schema) => schema,
        Err(DescribeError::Failed(failure)) if failure.is_denied() => {
            // INSERT is what a run needs, and lets the user see the columns as well.
            report.fail("table", format!("no right to see its columns; {}", grant(config, "INSERT", &failure)));
            return None;
        }
        Err(error) => {
            report.fail("table", error);
            return None;
        }
    };
    let name = format!("{}.{}", schema.database, schema.table);
    report.ok("table", format!("{name}, {}", schema.engine));
    report_addresses(config, &schema, report).await;
    report_rights(config, &mut inserter, &schema, report).await;
    report_columns(&schema, report);
    report_zones(&mut inserter, &schema, report).await;
    report_dedup(&mut inserter, &schema, &name, report).await;
    let seconds = inserter.max_execution_time();
    let settings = inserter.settings(&schema, &seconds);
    let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    report.ok("settings", format!("sent with each insert: {}", settings.join(", ")));
    Some(schema)
}

/// Asks each of several addresses by itself: a run may come to use any of them.
async fn report_addresses(config: &Config, schema: &Schema, report: &mut Report) {
    let ClickHouseConfig { addresses, .. } = &config.clickhouse;
    if addresses.len() < 2 {
        return;
    }
    for address in addresses {
        let name = format!("ClickHouse at {}", address.host);
        let own = ClickHouseConfig { addresses: vec![address.clone()], ..config.clickhouse.clone() };
        let (progress, _) = watch::channel(InsertProgress::default());
        let mut inserter = match Inserter::new(own, progress) {
            Ok(inserter) => inserter,
            Err(error) => {
                report.fail(&name, error);
                continue;
            }
        };
        if let Err(failure) = inserter.probe().await {
            report.fail(&name, format!("{failure}; {}", failure.cure()));
            continue;
        }
        match inserter.describe().await {
            Ok(found) if found.columns == schema.columns => report.ok(&name, "answers, and has the same table"),
            Ok(_) => report.fail(&name, "its table has other columns than the first address's"),
            Err(error) => report.fail(&name, error),
        }
    }
}

/// The statement that gives the user a right to the table, and what the server said without it.
fn grant(config: &Config, right: &str, failure: &Failure) -> String {
    let ClickHouseConfig { database, table, user, .. } = &config.clickhouse;
    let (database, table, user) = (readable(database), readable(table), readable(user));
    format!("grant it: GRANT {right} ON {database}.{table} TO {user} ({failure})")
}

async fn report_rights(config: &Config, inserter: &mut Inserter, schema: &Schema, report: &mut Report) {
    match inserter.insert_nothing(schema).await {
        Ok(()) => report.ok("inserts", "an insert of no rows was taken"),
        Err(failure) if failure.is_denied() => {
            report.fail("inserts", format!("no right to insert; {}", grant(config, "INSERT", &failure)));
        }
        Err(failure) if failure.is_unconfirmed() => report.fail("inserts", DescribeError::Unconfirmed),
        Err(failure @ Failure { outcome: Outcome::Retry | Outcome::Overloaded, .. }) => {
            report.warn("inserts", format!("one would fail now and be tried again: {failure}; {}", failure.cure()));
        }
        Err(failure) => report.fail("inserts", format!("{failure}; {}", failure.cure())),
    }
    match inserter.blind_views(schema).await {
        Ok(views) => {
            for BlindView { view, hidden, failure } in views {
                let cure = grant(config, "SELECT", &failure);
                if hidden {
                    let unless = "unless it is SQL SECURITY DEFINER, or reads other columns";
                    report.warn("inserts", format!("refused for the view {view}, {unless}; {cure}"));
                } else {
                    report.fail("inserts", format!("refused for the view {view}, which reads as the user; {cure}"));
                }
            }
        }
        Err(error) => report.warn("inserts", format!("cannot look at what the table's views may read: {error}")),
    }
}

fn report_columns(schema: &Schema, report: &mut Report) {
    let filled: Vec<String> =
        schema.columns.iter().map(|column| format!("{} {}", column.name, column.type_name)).collect();
    report.ok("columns", format!("filled by the JSON keys of their names: {}", filled.join(", ")));
    for column in &schema.left_out {
        let name = &column.name;
        match &column.why {
            Why::Materialized => report.ok("columns", format!("{name} is left out: the server computes it")),
            Why::Alias => report.ok("columns", format!("{name} is left out: it is an ALIAS")),
            Why::Unsupported(cause) => report.warn("columns", format!("{name} always gets its DEFAULT: {cause}")),
        }
    }
}

/// A text without an offset is UTC, whatever zone its column shows.
async fn report_zones(inserter: &mut Inserter, schema: &Schema, report: &mut Report) {
    let mut by_zone: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for column in schema.columns.iter().filter(|column| column.data_type != DataType::Json) {
        for zone in zones(&column.type_name) {
            let names = by_zone.entry(zone).or_default();
            if names.last() != Some(&column.name.as_str()) {
                names.push(&column.name);
            }
        }
    }
    let mut warn = |names: &[&str], zone: &str, of: &str| {
        if !is_utc(zone) {
            let names = names.join(", ");
            report.warn(
                "time zone",
                format!("{names}: a time without an offset is taken as UTC, not as {zone}, the zone of {of}"),
            );
        }
    };
    for (zone, names) in &by_zone {
        match zone {
            Some(zone) => warn(names, zone, "the column"),
            None => match inserter.time_zone().await {
                Ok(zone) => warn(names, &zone, "the server"),
                Err(error) => warn(names, &format!("? ({error})"), "the server"),
            },
        }
    }
}

async fn report_dedup(inserter: &mut Inserter, schema: &Schema, name: &str, report: &mut Report) {
    let cure = |table: &str, engine: &str| {
        let doubles = "a retry after an unknown outcome may store rows twice";
        if engine.ends_with("MergeTree") {
            format!("{doubles}; ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 10000")
        } else {
            format!("{doubles}; a table of engine {engine} cannot recognise them, one of a MergeTree engine can")
        }
    };
    match schema.dedup {
        Dedup::Off => report.warn("deduplication", format!("off: {}", cure(name, &schema.engine))),
        Dedup::Behind if schema.engine == "Distributed" => report.warn(
            "deduplication",
            "by the tables on the shards: look at their non_replicated_deduplication_window there, and let the sharding \
             key be a function of the row",
        ),
        dedup => report.ok("deduplication", dedup),
    }
    match inserter.view_targets().await {
        Ok(targets) => {
            for target in targets {
                let view = target.view;
                match target.dedup {
                    Some(Dedup::Off) => {
                        let cure = cure("its target table", &target.engine);
                        report.warn("deduplication", format!("off behind the view {view}: {cure}"));
                    }
                    Some(dedup) => report.ok("deduplication", format!("behind the view {view}: {dedup}")),
                    None => report.warn("deduplication", format!("cannot find the target of the view {view}")),
                }
            }
        }
        Err(error) => report.warn("deduplication", format!("cannot look at the table's views: {error}")),
    }
}

async fn check_sample(
    config: &Config,
    cluster: &mut Cluster,
    origin: Origin,
    schema: &Arc<Schema>,
    count: u64,
    report: &mut Report,
) {
    let settings = SampleSettings {
        topic: config.kafka.topic.clone(),
        isolation: match config.kafka.isolation {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        },
        count,
        batch_limit: config.memory_budget,
    };
    let mut rows = Rows::new(schema, origin).needing_a_column();
    let (mut accepted, mut tombstones) = (0_u64, 0_u64);
    let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
    let read = sample(cluster, &settings, |record| {
        let Some(value) = record.value else {
            tombstones += 1;
            return;
        };
        let place = Place { partition: record.partition, offset: record.offset, timestamp_ms: record.timestamp };
        match rows.push(&place, value) {
            Ok(()) => accepted += 1,
            Err(reject) => {
                let column = reject.column.map(|column| format!(" in {column}")).unwrap_or_default();
                *rejected.entry(format!("{}{column}", reject.class)).or_default() += 1;
            }
        }
        // Nothing of it is kept.
        rows.clear();
    })
    .await;
    if let Err(error) = read {
        report.fail("sample", error);
    }
    let bad: u64 = rejected.values().sum();
    report.ok("sample", format!("{accepted} events would be rows, {bad} dead letters, {tombstones} have no value"));
    for (why, times) in rejected.iter().take(SHOWN_REASONS) {
        report.warn("sample", format!("{times} events: {why}"));
    }
    let unknown = rows.unknown_keys();
    for (key, times) in unknown.counts() {
        report.warn("sample", format!("{times} events have the key {key:?}, which no column has"));
    }
}

fn one_line(text: impl Display) -> String {
    text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
