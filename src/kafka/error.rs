//! Errors of the Kafka side.

use std::time::Duration;

use rskafka::protocol::error::Error as ApiError;
use thiserror::Error;

use crate::config::HostPort;
use crate::kafka::protocol::wire::WireError;
use crate::net::ConnectError;

/// Why a request to a broker, or the way to one, failed. Always worth another try, on a new connection.
#[derive(Debug, Error)]
pub enum KafkaError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker did not take the login.
    #[error(
        "{peer} refuses the login: {cause}; check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
    )]
    Login {
        /// Host and port.
        peer: String,
        /// What the broker said.
        cause: String,
    },
    /// Connected, but the peer does not speak Kafka's protocol, or an incompatible one.
    #[error(
        "{peer} does not answer like a Kafka broker: {cause} (is this the right port, and the right security protocol?)"
    )]
    Handshake {
        /// Host and port.
        peer: String,
        /// What the messenger said.
        cause: String,
    },
    /// The connection broke, or the answer could not be read.
    #[error("{api} to {peer} failed: {cause}")]
    Request {
        /// Host and port.
        peer: String,
        /// The request.
        api: &'static str,
        /// What the messenger said.
        cause: String,
    },
    /// No answer in time. The connection is of no further use: answers come in order.
    #[error("{peer} did not answer {api} within {limit:?}")]
    TimedOut {
        /// Host and port.
        peer: String,
        /// The request.
        api: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// An answer above the limit; it was not read.
    #[error("the answer of {peer} to {api} is larger than {limit} bytes")]
    AnswerTooLarge {
        /// Host and port.
        peer: String,
        /// The request.
        api: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The answer is not what the protocol says.
    #[error("{peer} answered {api} with malformed bytes: {cause}")]
    Malformed {
        /// Host and port.
        peer: String,
        /// The request.
        api: &'static str,
        /// What is wrong.
        cause: WireError,
    },
    /// The broker answered with an error code.
    #[error("{peer} answered {api} with {}", code_name(*.code))]
    Code {
        /// Host and port.
        peer: String,
        /// The request.
        api: &'static str,
        /// The code.
        code: i16,
    },
    /// The broker takes no version of a request that this program writes.
    #[error("{peer} takes {} of {api}, and this program writes {} to {}: use brokers from Kafka 2.3 on", versions(*.theirs), .ours.0, .ours.1)]
    NoCommonVersion {
        /// Host and port.
        peer: String,
        /// The request.
        api: &'static str,
        /// The oldest and newest version of the broker; `None` when it does not know the request.
        theirs: Option<(i16, i16)>,
        /// The oldest and newest version of this program.
        ours: (i16, i16),
    },
    /// The answer lacks, doubles or contradicts what was asked: it says nothing, and is asked for again.
    #[error("{peer} answered {api} with what was not asked: {what}")]
    Unasked {
        /// Host and port.
        peer: String,
        /// The request.
        api: &'static str,
        /// What is wrong with the answer.
        what: String,
    },
    /// A broker knows no coordinator for the group.
    #[error("{peer} knows no coordinator for the group {group}: {}; {}", code_name(*.code), coordinator_hint(*.code))]
    NoCoordinator {
        /// Host and port.
        peer: String,
        /// The group id.
        group: String,
        /// The error code.
        code: i16,
    },
    /// The metadata names a broker that it does not list.
    #[error("broker {node} is not in the cluster's metadata (yet)")]
    UnknownBroker {
        /// Its node id.
        node: i32,
    },
}

fn versions(range: Option<(i16, i16)>) -> String {
    range.map_or_else(|| "no version".to_owned(), |(oldest, newest)| format!("versions {oldest} to {newest}"))
}

impl KafkaError {
    /// A broker's answer to FindCoordinator that names none.
    pub fn no_coordinator(peer: &HostPort, group: &str, code: i16) -> Self {
        Self::NoCoordinator { peer: peer.to_string(), group: group.to_owned(), code }
    }

    /// An answer that is none to what was asked.
    pub fn unasked(peer: &HostPort, api: &'static str, what: impl Into<String>) -> Self {
        Self::Unasked { peer: peer.to_string(), api, what: what.into() }
    }
}

fn coordinator_hint(code: i16) -> &'static str {
    match code {
        15 => {
            "if this lasts, the topic __consumer_offsets cannot be created or has no leader: is \
             offsets.topic.replication.factor larger than the number of brokers?"
        }
        30 => "grant READ on the group (KAFKA_GROUP_ID): kafka-acls --add --operation Read --group …",
        _ => "see the broker's log",
    }
}

/// What to do about commits that are refused with a code.
pub fn commit_hint(code: i16) -> &'static str {
    match code {
        3 => "does the topic still exist?",
        7 | 13 | 14 | 15 | 16 => {
            "has the topic __consumer_offsets a leader and enough replicas in sync (min.insync.replicas)?"
        }
        12 => "the broker takes no text beside an offset: raise its offset.metadata.max.bytes",
        22 | 25 | 27 | 82 => {
            "is another process using the same KAFKA_GROUP_INSTANCE_ID, or the group rebalancing all the time?"
        }
        28 => "the broker refuses the commit as too large: see offset.metadata.max.bytes and max.message.bytes",
        29 => "grant READ on the topic: kafka-acls --add --operation Read --topic …",
        30 => "grant READ on the group: kafka-acls --add --operation Read --group …",
        _ => "see the coordinator's log",
    }
}

/// The group refuses this member, and trying again would not change that: exit code 3.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the consumer group {group} refuses this member: {api} answered {}; {}", code_name(*.code), cure(*.code))]
pub struct GroupRefused {
    /// The group id.
    pub group: String,
    /// The request that was refused.
    pub api: &'static str,
    /// The error code.
    pub code: i16,
}

/// Why there is nothing to read: it is waited for, but a person has to act.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicFault {
    /// The metadata knows no such topic.
    #[error("the topic {topic} does not exist; create it, or correct KAFKA_TOPIC; waiting for it")]
    Missing {
        /// The topic.
        topic: String,
    },
    /// The broker hides the topic from this user, whether or not it exists.
    #[error("no right to the topic {topic} (KAFKA_TOPIC); waiting for it; grant it: {}", read_acl(.topic))]
    Forbidden {
        /// The topic.
        topic: String,
    },
}

/// The command that grants reading a topic.
pub fn read_acl(topic: &str) -> String {
    format!("kafka-acls --add --allow-principal User:… --operation Read --topic {topic}")
}

/// The name and number of an error code, as the protocol has it.
pub fn code_name(code: i16) -> String {
    match ApiError::new(code) {
        None => "no error (0)".to_owned(),
        Some(ApiError::Unknown(code)) => match code {
            110 => "FENCED_MEMBER_EPOCH (110)".to_owned(),
            111 => "UNRELEASED_INSTANCE_ID (111)".to_owned(),
            112 => "UNSUPPORTED_ASSIGNOR (112)".to_owned(),
            113 => "STALE_MEMBER_EPOCH (113)".to_owned(),
            code => format!("error {code}"),
        },
        Some(known) => format!("{known:?} ({code})"),
    }
}

/// What a person can do about a refusal.
fn cure(code: i16) -> &'static str {
    match code {
        23 => {
            "its members use other assignors: give KAFKA_ASSIGNMENT_STRATEGY one that all of them offer, or stop the \
             others first"
        }
        24 => "KAFKA_GROUP_ID is not a valid group id",
        26 => {
            "the broker allows other session timeouts: change KAFKA_SESSION_TIMEOUT_MS (or the broker's \
             group.min.session.timeout.ms and group.max.session.timeout.ms)"
        }
        30 => "grant READ on the group to this user (kafka-acls --add --operation Read --group …)",
        35 => "the broker is too old: 2.3 or newer is needed",
        82 | 111 => "another process uses the same KAFKA_GROUP_INSTANCE_ID: each replica needs its own",
        _ => "see the broker's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cause_and_cure() {
        let refused = GroupRefused { group: "g".into(), api: "JoinGroup", code: 23 };
        let text = refused.to_string();
        assert!(text.contains("InconsistentGroupProtocol (23)"), "{text}");
        assert!(text.contains("KAFKA_ASSIGNMENT_STRATEGY"), "{text}");
        assert_eq!(code_name(111), "UNRELEASED_INSTANCE_ID (111)");
        assert_eq!(code_name(999), "error 999");
    }
}
