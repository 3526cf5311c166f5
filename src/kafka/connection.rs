//! One connection to one broker, with a time limit on everything.
//!
//! The broker answers one request at a time and in order, so a connection on which a limit fired is thrown away. The
//! Messenger neither limits nor tells that it broke before the next request does.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use rskafka::messenger::{Messenger, RequestError};
use rskafka::protocol::frame::ReadError;
use rskafka::protocol::messages::{ReadVersionedType, RequestBody, WriteVersionedType};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HostPort;
use crate::kafka::error::KafkaError;
use crate::net::dial::dial;

/// How connections are made.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Sent with each request.
    pub client_id: Arc<str>,
    /// The limit of connecting and of each handshake.
    pub limit: Duration,
    /// The largest answer that is taken, in bytes; a larger one breaks the connection.
    pub max_answer: usize,
}

/// A connection whose versions are agreed on.
#[derive(Debug)]
pub struct Connection {
    messenger: Messenger<TcpStream>,
    peer: HostPort,
    max_answer: usize,
}

impl Connection {
    /// Connects and agrees on versions.
    pub async fn open(peer: &HostPort, options: &ConnectOptions) -> Result<Self, KafkaError> {
        let (stream, _) = dial(peer, options.limit).await?;
        let mut messenger = Messenger::new(stream, options.max_answer, Arc::clone(&options.client_id));
        match timeout(options.limit, messenger.sync_versions()).await {
            Ok(Ok(())) => Ok(Self { messenger, peer: peer.clone(), max_answer: options.max_answer }),
            Ok(Err(cause)) => Err(KafkaError::Handshake { peer: peer.to_string(), cause: cause.to_string() }),
            Err(_) => Err(KafkaError::TimedOut { peer: peer.to_string(), api: "ApiVersions", limit: options.limit }),
        }
    }

    /// Host and port of the broker.
    pub fn peer(&self) -> &HostPort {
        &self.peer
    }

    /// Sends a request and waits for its answer. After an error the connection must be dropped.
    pub async fn request<R>(&self, request: R, limit: Duration) -> Result<R::ResponseBody, KafkaError>
    where
        R: RequestBody + Send + WriteVersionedType<Vec<u8>>,
        R::ResponseBody: ReadVersionedType<Cursor<Vec<u8>>>,
    {
        let api = api_name::<R>();
        match timeout(limit, self.messenger.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(cause)) if is_too_large(&cause) => {
                Err(KafkaError::AnswerTooLarge { peer: self.peer.to_string(), api, limit: self.max_answer })
            }
            Ok(Err(cause)) => Err(KafkaError::Request { peer: self.peer.to_string(), api, cause: cause.to_string() }),
            Err(_) => Err(KafkaError::TimedOut { peer: self.peer.to_string(), api, limit }),
        }
    }
}

fn is_too_large(error: &RequestError) -> bool {
    match error {
        RequestError::Poisoned(cause) => is_too_large(cause),
        RequestError::ReadFramedMessageError(ReadError::MessageTooLarge { .. }) => true,
        _ => false,
    }
}

fn api_name<R: RequestBody>() -> &'static str {
    use rskafka::protocol::api_key::ApiKey;
    match R::API_KEY {
        ApiKey::Fetch => "Fetch",
        ApiKey::Metadata => "Metadata",
        ApiKey::ListOffsets => "ListOffsets",
        ApiKey::FindCoordinator => "FindCoordinator",
        ApiKey::JoinGroup => "JoinGroup",
        ApiKey::SyncGroup => "SyncGroup",
        ApiKey::Heartbeat => "Heartbeat",
        ApiKey::LeaveGroup => "LeaveGroup",
        ApiKey::OffsetCommit => "OffsetCommit",
        ApiKey::OffsetFetch => "OffsetFetch",
        ApiKey::Produce => "Produce",
        _ => "a request",
    }
}
