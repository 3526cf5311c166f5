//! Why events wait: a pure function of what the parts published. Whoever has a reason to wait publishes it through
//! [`crate::progress`]; readiness, the log and the metrics all follow from the one list that is made here.

use std::time::Duration;

use tokio::time::Instant;

use crate::progress::{InsertProgress, KafkaProgress, PipelineProgress, Progress};

/// What kind of work waits. The name is the value of the label `what` of `sandarb_consumer_blocked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// No broker, or no group coordinator, has answered lately.
    Kafka,
    /// This member has no confirmed place in the group.
    Group,
    /// Offsets are not committed.
    Commits,
    /// The topic cannot be read as a whole.
    Topic,
    /// A partition cannot be read.
    Partitions,
    /// ClickHouse has not answered lately.
    ClickHouse,
    /// ClickHouse answers and stores nothing.
    Inserts,
    /// Events are held back.
    Events,
    /// Dead-letter records cannot be written.
    DeadLetters,
}

impl Class {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 9] = [
        Self::Kafka,
        Self::Group,
        Self::Commits,
        Self::Topic,
        Self::Partitions,
        Self::ClickHouse,
        Self::Inserts,
        Self::Events,
        Self::DeadLetters,
    ];

    /// The name in metrics, logs and /status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Group => "group",
            Self::Commits => "commits",
            Self::Topic => "topic",
            Self::Partitions => "partitions",
            Self::ClickHouse => "clickhouse",
            Self::Inserts => "inserts",
            Self::Events => "events",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// One reason why events wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What kind of work waits.
    pub class: Class,
    /// Whose: `partition 3`, `Kafka`, `ClickHouse`, …
    pub subject: String,
    /// The present cause, with the address where there is one.
    pub cause: String,
    /// What to do about it; empty where the cause says so itself.
    pub action: &'static str,
    /// Failed attempts of this kind since the process began, where they are counted.
    pub failures: u64,
    /// Nothing has failed: an answer is just not there yet, as in every start.
    pub waiting: bool,
}

impl Reason {
    fn new(class: Class, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        let (subject, cause) = (subject.into(), cause.into());
        Self { class, subject, cause, action: "", failures: 0, waiting: false }
    }

    /// The line for /readyz.
    pub fn text(&self) -> String {
        let Self { subject, cause, action, .. } = self;
        if action.is_empty() { format!("{subject}: {cause}") } else { format!("{subject}: {cause}; {action}") }
    }
}

/// What the parts published, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The group's and the consumer's.
    pub kafka: KafkaProgress,
    /// The inserter's.
    pub insert: InsertProgress,
    /// The pipeline's.
    pub pipeline: PipelineProgress,
    /// The longest stall of the loop lately.
    pub stall: Duration,
    /// Events wait, and no part says why.
    pub unexplained: Option<Reason>,
}

impl Snapshot {
    /// The latest.
    pub fn of(progress: &Progress) -> Self {
        Self {
            kafka: progress.kafka.borrow().clone(),
            insert: progress.insert.borrow().clone(),
            pipeline: progress.pipeline.borrow().clone(),
            stall: *progress.stall.borrow(),
            unexplained: None,
        }
    }

    /// Rejected events, failed insert attempts and Kafka errors.
    pub fn errors(&self) -> u64 {
        self.pipeline
            .settled
            .rejected
            .sum()
            .saturating_add(self.insert.failed_attempts)
            .saturating_add(self.kafka.errors)
    }

    /// Whether Kafka has given proof of life lately.
    pub fn kafka_connected(&self, now: Instant) -> bool {
        self.kafka.good_until.is_some_and(|until| now < until)
    }

    /// Why events wait; nothing when they move or there are none. At most one reason for each class and subject.
    pub fn reasons(&self, now: Instant) -> Vec<Reason> {
        let Self { kafka, insert, pipeline, .. } = self;
        let mut reasons = Vec::new();
        reasons.extend(self.contact(now));
        reasons.extend(self.place(now));
        let commits = kafka.commits_failing.iter().filter(|commits| now >= commits.report_from);
        reasons.extend(commits.map(|commits| Reason::new(Class::Commits, "commits", &commits.cause)));
        reasons.extend(kafka.blocked.iter().map(|why| Reason::new(Class::Topic, "Kafka", why)));
        // A reason goes with its partition.
        let partitions = kafka.blocked_partitions.iter().filter(|(index, _)| kafka.partitions.contains(index));
        reasons
            .extend(partitions.map(|(index, why)| Reason::new(Class::Partitions, format!("partition {index}"), why)));
        if !insert.connected {
            let cause = insert.failure.clone();
            let waiting = cause.is_none();
            let cause = cause.unwrap_or_else(|| "no answer yet".to_owned());
            let failures = insert.failed_attempts;
            reasons.push(Reason { failures, waiting, ..Reason::new(Class::ClickHouse, "ClickHouse", cause) });
        }
        reasons.extend(insert.blocked.iter().map(|why| {
            let failures = insert.failed_attempts;
            Reason { failures, ..Reason::new(Class::Inserts, "ClickHouse", why) }
        }));
        reasons.extend(pipeline.blocked.iter().map(|why| Reason::new(Class::Events, "events", why)));
        let letters = pipeline.letters_blocked.iter();
        reasons.extend(letters.map(|why| Reason::new(Class::DeadLetters, "dead letters", why)));
        if reasons.is_empty() {
            reasons.extend(self.unexplained.clone());
        }
        reasons
    }

    fn contact(&self, now: Instant) -> Option<Reason> {
        if self.kafka_connected(now) {
            return None;
        }
        let kafka = &self.kafka;
        let cause = match (&kafka.failure, kafka.good_until) {
            (Some(failure), _) => failure.clone(),
            (None, Some(_)) => "the group coordinator has not answered lately".to_owned(),
            (None, None) => "no answer yet".to_owned(),
        };
        let waiting = (kafka.failure.is_none() || kafka.failure_passes) && kafka.good_until.is_none();
        Some(Reason { failures: kafka.errors, waiting, ..Reason::new(Class::Kafka, "Kafka", cause) })
    }

    /// Whether this member has a place in the group that the coordinator confirms. Without one nothing is read or stored.
    fn place(&self, now: Instant) -> Option<Reason> {
        let kafka = &self.kafka;
        let what = match (kafka.placeless_from, kafka.confirmed_until) {
            (Some(from), _) if now >= from => match kafka.state {
                "joining" => "waiting for the group to gather",
                "assigning" | "syncing" => "waiting for the assignment of the group's leader",
                "starting" => "waiting for the topic's metadata and the committed offsets",
                "rebalancing" => "the group rebalances, and what is on the wire to ClickHouse is not done",
                _ => "no place in the group",
            },
            (_, Some(until)) if now >= until => {
                "the coordinator does not confirm the membership; nothing new is stored"
            }
            _ => return None,
        };
        let cause = match &kafka.failure {
            Some(failure) => format!("{what}: {failure}"),
            None => what.to_owned(),
        };
        Some(Reason { failures: kafka.errors, ..Reason::new(Class::Group, "group", cause) })
    }
}

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod tests;
