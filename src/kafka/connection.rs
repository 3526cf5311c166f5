//! One connection to one broker, with a time limit on everything.
//!
//! The broker answers one request at a time and in order, so a connection on which a limit fired is thrown away. The
//! Messenger neither limits nor tells that it broke before the next request does.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rskafka::client::{Credentials, SaslConfig};
use rskafka::messenger::{Messenger, RequestError};
use rskafka::protocol::frame::ReadError;
use rskafka::protocol::messages::{ReadVersionedType, RequestBody, WriteVersionedType};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::config::{HostPort, KafkaConfig, Sasl, SaslMechanism, SecretError};
use crate::kafka::error::KafkaError;
use crate::kafka::lent::Lent;
use crate::kafka::round_trip::RoundTrip;
use crate::net::tls::{TlsClient, TlsFileError};
use crate::net::{self, Stream};

/// How connections are made.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Sent with each request.
    pub client_id: Arc<str>,
    /// The limit of connecting and of each handshake.
    pub limit: Duration,
    /// The largest answer that is taken, in bytes; a larger one breaks the connection.
    pub max_answer: usize,
    /// TLS, when the brokers want it. The server's name is the advertised host.
    pub tls: Option<TlsClient>,
    /// The login, when they want one.
    pub sasl: Option<Sasl>,
    /// Measured by all connections that are made with these options; the limits grow with it.
    pub round_trip: RoundTrip,
}

/// Why connections cannot even be tried.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// A TLS file is missing or no PEM.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
}

/// The limit of connecting and of each handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

impl ConnectOptions {
    /// Options by configuration; TLS files are read here, once.
    pub fn new(config: &KafkaConfig, max_answer: usize) -> Result<Self, SecurityError> {
        Ok(Self {
            client_id: config.client_id.as_str().into(),
            limit: CONNECT_LIMIT,
            max_answer,
            tls: config.security.tls().map(TlsClient::load).transpose()?,
            sasl: config.security.sasl().cloned(),
            round_trip: RoundTrip::default(),
        })
    }
}

/// A connection whose versions are agreed on.
#[derive(Debug)]
pub struct Connection {
    messenger: Messenger<Lent>,
    lent: Lent,
    peer: HostPort,
    max_answer: usize,
    round_trip: RoundTrip,
    /// Something was answered, or a login taken: the peer talks to us.
    known: AtomicBool,
}

impl Connection {
    /// Connects and agrees on versions.
    pub async fn open(peer: &HostPort, options: &ConnectOptions) -> Result<Self, KafkaError> {
        let (stream, _) = net::connect(peer, options.tls.as_ref(), options.round_trip.limit(options.limit)).await?;
        let lent = Lent::new(stream);
        let mut messenger = Messenger::new(lent.clone(), options.max_answer, Arc::clone(&options.client_id));
        let asked = Instant::now();
        let versions = async {
            let agreed = messenger.sync_versions().await;
            agreed.map_err(|cause| KafkaError::Handshake { peer: peer.to_string(), cause: cause.to_string() })
        };
        within(peer, options.round_trip.limit(options.limit), versions).await?;
        options.round_trip.note(asked.elapsed());
        if let Some(sasl) = &options.sasl {
            within(peer, options.round_trip.limit(options.limit), log_in(&messenger, sasl, peer)).await?;
        }
        let round_trip = options.round_trip.clone();
        let known = AtomicBool::new(options.sasl.is_some());
        Ok(Self { messenger, lent, peer: peer.clone(), max_answer: options.max_answer, round_trip, known })
    }

    /// The stream behind it, for requests of another framing. None may be under way.
    pub(super) async fn into_stream(self) -> Result<Stream, KafkaError> {
        let Self { messenger, lent, peer, .. } = self;
        drop(messenger);
        lent.back().await.ok_or_else(|| {
            let cause = "the handshake does not let go of the connection".to_owned();
            KafkaError::Handshake { peer: peer.to_string(), cause }
        })
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
        let asked = Instant::now();
        match timeout(limit, self.messenger.request(request)).await {
            Ok(Ok(answer)) => {
                self.round_trip.note(asked.elapsed());
                self.known.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(cause)) if is_too_large(&cause) => {
                Err(KafkaError::AnswerTooLarge { peer: self.peer.to_string(), api, limit: self.max_answer })
            }
            Ok(Err(cause)) => {
                // A listener for logins answers the question for versions, and closes at anything else but a login.
                let hint = if self.known.load(Ordering::Relaxed) { "" } else { NO_LOGIN };
                Err(KafkaError::Request { peer: self.peer.to_string(), api, cause: format!("{cause}{hint}") })
            }
            Err(_) => Err(KafkaError::TimedOut { peer: self.peer.to_string(), api, limit }),
        }
    }
}

const NO_LOGIN: &str = " (at the first request: a listener that wants a login does so; check KAFKA_SECURITY_PROTOCOL)";

async fn within(
    peer: &HostPort,
    limit: Duration,
    handshake: impl Future<Output = Result<(), KafkaError>>,
) -> Result<(), KafkaError> {
    let late = |_| KafkaError::TimedOut { peer: peer.to_string(), api: "the handshake", limit };
    timeout(limit, handshake).await.map_err(late)?
}

/// Logs in. The password is read anew each time, so that it can be rotated in its file.
async fn log_in(messenger: &Messenger<Lent>, sasl: &Sasl, peer: &HostPort) -> Result<(), KafkaError> {
    let unreadable = |cause: SecretError| KafkaError::Login { peer: peer.to_string(), cause: cause.to_string() };
    let credentials = Credentials::new(sasl.username.clone(), sasl.password.read().map_err(unreadable)?);
    let config = match sasl.mechanism {
        SaslMechanism::Plain => SaslConfig::Plain(credentials),
        SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
        SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
    };
    let refused =
        |cause: rskafka::messenger::SaslError| KafkaError::Login { peer: peer.to_string(), cause: cause.to_string() };
    messenger.do_sasl(config).await.map_err(refused)
}

fn is_too_large(error: &RequestError) -> bool {
    match error {
        RequestError::Poisoned(cause) => is_too_large(cause),
        RequestError::ReadFramedMessageError(ReadError::MessageTooLarge { .. }) => true,
        _ => false,
    }
}

/// The name of a request.
pub(super) fn api_name<R: RequestBody>() -> &'static str {
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
        ApiKey::OffsetForLeaderEpoch => "OffsetForLeaderEpoch",
        ApiKey::Produce => "Produce",
        ApiKey::CreateTopics => "CreateTopics",
        ApiKey::DescribeConfigs => "DescribeConfigs",
        ApiKey::ApiVersions => "ApiVersions",
        _ => "a request",
    }
}
