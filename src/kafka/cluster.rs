//! The brokers: which there are, and any one of them for questions that all can answer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::HostPort;
use crate::kafka::checked::metadata_fault;
use crate::kafka::connection::{ConnectOptions, Connection};
use crate::kafka::error::KafkaError;
use crate::kafka::protocol::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::kafka::protocol::metadata::{MetadataRequest, MetadataResponse};

/// The limit of requests that no broker waits with.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// What is known of the cluster, and a connection to some broker of it.
///
/// The bootstrap addresses stay in use: when no known broker answers, they are resolved and tried again, so that a
/// cluster whose addresses all changed is found again (KIP-899).
#[derive(Debug)]
pub struct Cluster {
    bootstrap: Vec<HostPort>,
    options: ConnectOptions,
    brokers: BTreeMap<i32, HostPort>,
    connection: Option<Connection>,
    turn: usize,
}

impl Cluster {
    /// A cluster of which only the bootstrap addresses are known.
    pub fn new(bootstrap: Vec<HostPort>, options: ConnectOptions) -> Self {
        Self { bootstrap, options, brokers: BTreeMap::new(), connection: None, turn: 0 }
    }

    /// The same cluster with connections of its own.
    pub fn fresh(&self) -> Self {
        Self {
            bootstrap: self.bootstrap.clone(),
            options: self.options.clone(),
            brokers: self.brokers.clone(),
            connection: None,
            turn: self.turn,
        }
    }

    /// The same cluster with connections of its own, which are given this long to come about, and to answer what no broker
    /// waits with.
    pub fn within(&self, limit: Duration) -> Self {
        let mut cluster = self.fresh();
        cluster.options.limit = limit;
        cluster
    }

    /// How connections are made.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// The address of a broker.
    pub fn address(&self, node: i32) -> Result<HostPort, KafkaError> {
        self.brokers.get(&node).cloned().ok_or(KafkaError::UnknownBroker { node })
    }

    /// Metadata of these topics; the brokers are learned on the way.
    pub async fn metadata(&mut self, topics: &[&str]) -> Result<MetadataResponse, KafkaError> {
        let answer = loop {
            let fresh = self.connection.is_none();
            let connection = self.any().await?;
            let asked = connection.request(MetadataRequest { topics }, REQUEST_LIMIT).await;
            let asked = asked.and_then(|answer| match metadata_fault(topics, &answer) {
                None => Ok(answer),
                Some(what) => Err(KafkaError::Unasked { peer: connection.peer().to_string(), api: "Metadata", what }),
            });
            match asked {
                Ok(answer) => break answer,
                Err(error) => {
                    self.connection = None;
                    // A connection that stood idle may have been closed meanwhile: that says nothing of the cluster.
                    if fresh {
                        return Err(error);
                    }
                }
            }
        };
        self.learn(&answer);
        Ok(answer)
    }

    /// Asks for the coordinator of a group: its node id and address.
    ///
    /// # Errors
    /// [`KafkaError::NoCoordinator`] when the broker knows none; the next try goes to another broker.
    pub async fn find_coordinator(&mut self, group_id: &str) -> Result<(i32, HostPort), KafkaError> {
        let limit = self.options.round_trip.limit(self.options.limit);
        loop {
            let fresh = self.connection.is_none();
            let connection = self.any().await?;
            let peer = connection.peer().clone();
            match connection.request(FindCoordinatorRequest { group_id }, limit).await {
                Ok(answer) => {
                    let found = coordinator(&peer, group_id, answer);
                    if found.is_err() {
                        self.connection = None;
                    }
                    return found;
                }
                Err(error) => {
                    self.connection = None;
                    if fresh {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Lets go of the connection: the next question goes to another broker.
    pub(super) fn leave(&mut self) {
        self.connection = None;
    }

    fn learn(&mut self, answer: &MetadataResponse) {
        if answer.brokers.is_empty() {
            return;
        }
        self.brokers = answer
            .brokers
            .iter()
            .filter_map(|(node, host, port)| {
                let port = u16::try_from(*port).ok()?;
                Some((*node, HostPort { host: host.clone(), port }))
            })
            .collect();
    }

    /// The connection at hand, or a new one: known brokers first, then the bootstrap list, starting with another each
    /// time.
    pub(super) async fn any(&mut self) -> Result<&Connection, KafkaError> {
        if self.connection.is_none() {
            let mut candidates: Vec<HostPort> = self.brokers.values().cloned().collect();
            if !candidates.is_empty() {
                self.turn = (self.turn + 1) % candidates.len();
                let turn = self.turn;
                candidates.rotate_left(turn);
            }
            // Early, as all known addresses may be of brokers that are elsewhere by now, and each takes its time to fail.
            let bootstrap = self.bootstrap.iter().filter(|host| !self.brokers.values().any(|b| b == *host));
            let early = candidates.len().min(1);
            candidates.splice(early..early, bootstrap.cloned());
            let mut last = None;
            for host in &candidates {
                match Connection::open(host, &self.options).await {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot use this broker");
                        last = Some(error);
                    }
                }
            }
            if let (None, Some(error)) = (&self.connection, last) {
                return Err(error);
            }
        }
        // Without an error above there is a connection, unless there was no address at all: the configuration has one.
        self.connection.as_ref().ok_or(KafkaError::UnknownBroker { node: -1 })
    }
}

fn coordinator(
    peer: &HostPort,
    group_id: &str,
    answer: FindCoordinatorResponse,
) -> Result<(i32, HostPort), KafkaError> {
    let FindCoordinatorResponse { error, node_id, host, port, .. } = answer;
    if error != 0 {
        return Err(KafkaError::no_coordinator(peer, group_id, error));
    }
    match u16::try_from(port) {
        Ok(port @ 1..) if !host.is_empty() && node_id >= 0 => Ok((node_id, HostPort { host, port })),
        _ => {
            let what = format!("no error, and the coordinator is node {node_id} at {host:?}, port {port}");
            Err(KafkaError::unasked(peer, "FindCoordinator", what))
        }
    }
}
