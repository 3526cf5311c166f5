//! What the endpoints say, as a function of what the parts published.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;
use tokio::sync::watch;
use tokio::time::Instant;

use super::metrics;
use crate::config::HealthHttpStatus;
use crate::progress::Progress;
use crate::reason_log::Standing;
use crate::reasons::{Class, Reason, Snapshot};
use crate::telemetry::timestamp;

/// Where the endpoints get their answers from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    progress: Progress,
    standing: watch::Receiver<Standing>,
    http_status: HealthHttpStatus,
    started_at: SystemTime,
    started: Instant,
}

impl Health {
    /// For a program that starts now.
    pub fn new(progress: Progress, standing: watch::Receiver<Standing>, http_status: HealthHttpStatus) -> Self {
        Self { progress, standing, http_status, started_at: SystemTime::now(), started: Instant::now() }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { unexplained: self.standing.borrow().unexplained.clone(), ..Snapshot::of(&self.progress) }
    }

    /// The body of /health, and whether it goes out as 200 (else 503).
    pub(super) fn health(&self) -> (bool, String) {
        let report = self.snapshot().health(self.started_at, Instant::now());
        let healthy = report.status == Status::Healthy;
        (healthy || self.http_status == HealthHttpStatus::Always200, report.to_json())
    }

    /// Why the program is not ready, one line each; nothing when it is.
    pub(super) fn reasons(&self) -> Vec<String> {
        let reasons = self.snapshot().reasons(Instant::now());
        let standing = self.standing.borrow();
        let line = |reason: &Reason| match standing.since.get(&(reason.class, reason.subject.clone())) {
            Some(since) => format!("{} (since {})", reason.text(), timestamp(since.time)),
            None => reason.text(),
        };
        reasons.iter().map(line).collect()
    }

    /// The body of /metrics.
    pub(super) fn metrics(&self) -> String {
        metrics::text(&self.snapshot(), self.started_at, Instant::now())
    }

    /// The body of /status.
    pub(super) fn status(&self) -> Result<String, serde_json::Error> {
        let now = Instant::now();
        let snapshot = self.snapshot();
        let mut report = snapshot.status(self.started_at, now.saturating_duration_since(self.started).as_secs(), now);
        let standing = self.standing.borrow();
        for waiting in &mut report.waiting {
            let since = standing.since.get(&(waiting.class, waiting.subject.clone()));
            waiting.since = since.map(|since| timestamp(since.time));
            let lasted = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since.instant));
            waiting.seconds = lasted.as_secs();
        }
        serde_json::to_string_pretty(&report).map(|json| json + "\n")
    }
}

impl Snapshot {
    /// The nine fields of /health.
    pub fn health(&self, started_at: SystemTime, now: Instant) -> HealthReport {
        HealthReport {
            status: self.verdict(now),
            kafka_connected: self.kafka_connected(now),
            clickhouse_connected: self.insert.connected,
            events_consumed: self.pipeline.settled.events(),
            events_inserted: self.pipeline.settled.rows,
            batches_flushed: self.insert.batches,
            errors: self.errors(),
            last_flush_at: self.insert.last_stored_at.map_or_else(String::new, timestamp),
            started_at: timestamp(started_at),
        }
    }

    /// Everything, for people.
    pub fn status(&self, started_at: SystemTime, uptime_seconds: u64, now: Instant) -> StatusReport {
        let reasons = self.reasons(now);
        let lags = self.kafka.lags().collect();
        let held_by_transactions = self.kafka.held_by_transactions().collect();
        let Self { kafka, insert, pipeline, stall, .. } = self.clone();
        StatusReport {
            status: self.verdict(now),
            reasons: reasons.iter().map(Reason::text).collect(),
            waiting: reasons.into_iter().map(ReasonStatus::of).collect(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: timestamp(started_at),
            uptime_seconds,
            loop_stall_seconds: stall.as_secs_f64(),
            kafka: KafkaStatus {
                connected: self.kafka_connected(now),
                failure: kafka.failure,
                contact_limit_seconds: kafka.contact_limit.as_secs_f64(),
                round_trip_seconds: kafka.round_trip.map(|took| took.as_secs_f64()),
                state: kafka.state,
                member_id: kafka.member_id,
                generation: kafka.generation,
                partitions: kafka.partitions,
                rebalances: kafka.rebalances,
                lags,
                lag_failure: kafka.lag_failure,
                held_by_transactions,
                errors: kafka.errors,
                blocked: kafka.blocked,
                blocked_partitions: kafka.blocked_partitions,
            },
            clickhouse: ClickHouseStatus {
                connected: insert.connected,
                failure: insert.failure,
                rows_inserted: insert.rows,
                batches_inserted: insert.batches,
                last_insert_at: insert.last_stored_at.map(timestamp),
                failed_attempts: insert.failed_attempts,
                dedup: insert.dedup.clone(),
                blocked: insert.blocked,
            },
            events: EventStatus {
                consumed: pipeline.settled.events(),
                inserted: pipeline.settled.rows,
                tombstones: pipeline.settled.tombstones,
                rejected: pipeline.settled.rejected.sum(),
                open: pipeline.open,
                read: pipeline.read,
                read_again: pipeline.read_again,
                uncommitted_batches: pipeline.uncommitted_batches,
                dead_lettered: pipeline.dead_lettered,
                blocked: pipeline.blocked,
                dead_letters_blocked: pipeline.letters_blocked,
            },
        }
    }

    fn verdict(&self, now: Instant) -> Status {
        if self.reasons(now).is_empty() { Status::Healthy } else { Status::Unhealthy }
    }
}

/// The body of /health: these fields, in this order, are what the Python consumer answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    status: Status,
    kafka_connected: bool,
    clickhouse_connected: bool,
    events_consumed: u64,
    events_inserted: u64,
    batches_flushed: u64,
    errors: u64,
    /// Empty before the first insert.
    last_flush_at: String,
    started_at: String,
}

impl HealthReport {
    /// One line of JSON, spaced as Python's `json.dumps` does it: probes that look for `"status": "healthy"` in the text
    /// go on working.
    pub fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        let written = self.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced));
        match (written, String::from_utf8(bytes)) {
            (Ok(()), Ok(json)) => json,
            // A struct of numbers, booleans and strings always has a JSON form; and if not, this is unhealthy.
            (Err(_), _) | (_, Err(_)) => "{\"status\": \"unhealthy\"}".to_owned(),
        }
    }
}

/// The body of /status. For people: fields may be added.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    status: Status,
    reasons: Vec<String>,
    /// The same reasons, taken apart.
    waiting: Vec<ReasonStatus>,
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    loop_stall_seconds: f64,
    kafka: KafkaStatus,
    clickhouse: ClickHouseStatus,
    events: EventStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ReasonStatus {
    #[serde(serialize_with = "class_name")]
    class: Class,
    subject: String,
    cause: String,
    action: &'static str,
    /// Absent in the moment before it is noted.
    since: Option<String>,
    seconds: u64,
    /// Failed attempts of this kind since the process began, where they are counted.
    failures: u64,
}

impl ReasonStatus {
    fn of(reason: Reason) -> Self {
        let Reason { class, subject, cause, action, failures, .. } = reason;
        Self { class, subject, cause, action, since: None, seconds: 0, failures }
    }
}

fn class_name<S: Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name())
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct KafkaStatus {
    connected: bool,
    /// Why the last attempt failed; absent once a later one went well.
    failure: Option<String>,
    /// How long after its last answer the coordinator counts as away: at least five round trips.
    contact_limit_seconds: f64,
    /// The measured round trip; null before the first answer.
    round_trip_seconds: Option<f64>,
    state: &'static str,
    member_id: String,
    generation: i32,
    partitions: Vec<i32>,
    rebalances: u64,
    /// Offsets between the committed one and the end of the log.
    lags: BTreeMap<i32, i64>,
    /// Why not all of them are known anew; null once they are.
    lag_failure: Option<String>,
    /// Offsets behind those, that open transactions keep from being read.
    held_by_transactions: BTreeMap<i32, i64>,
    errors: u64,
    blocked: Option<String>,
    blocked_partitions: BTreeMap<i32, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ClickHouseStatus {
    connected: bool,
    /// Why the last contact failed; absent once a later one went well.
    failure: Option<String>,
    rows_inserted: u64,
    batches_inserted: u64,
    last_insert_at: Option<String>,
    failed_attempts: u64,
    dedup: Option<String>,
    blocked: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct EventStatus {
    /// Settled: inserted or rejected.
    consumed: u64,
    inserted: u64,
    tombstones: u64,
    rejected: u64,
    /// Read and not settled.
    open: u64,
    read: u64,
    read_again: u64,
    uncommitted_batches: usize,
    dead_lettered: u64,
    blocked: Option<String>,
    dead_letters_blocked: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Healthy,
    Unhealthy,
}

/// `, ` between fields and `: ` behind names.
struct Spaced;

impl Formatter for Spaced {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
