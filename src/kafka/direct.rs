//! A connection for fetches: own framing, so that answers go into a buffer that is used again.
//!
//! The Messenger allocates a zeroed buffer for each answer: a megabyte a fetch, mapped and unmapped each time. Here it
//! only agrees on versions and logs in; then the stream comes back. One request is under way at
//! a time, and answers come in order.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use rskafka::protocol::api_version::ApiVersion;
use rskafka::protocol::messages::{ReadVersionedType, RequestBody, WriteVersionedType};
use rskafka::protocol::primitives::Int16;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::config::HostPort;
use crate::kafka::connection::{ConnectOptions, Connection, api_name};
use crate::kafka::error::KafkaError;
use crate::kafka::protocol::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::kafka::protocol::wire::{Reader, put_i16, put_i32, put_string, put_unsigned_varint};
use crate::net::Stream;

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Direct {
    stream: Stream,
    peer: HostPort,
    client_id: Arc<str>,
    max_answer: usize,
    /// What the broker says that it takes; empty until it was asked.
    versions: ApiVersionsResponse,
    /// Of the request under way.
    correlation: i32,
    request: Vec<u8>,
}

impl Direct {
    /// Connects, agrees on versions, logs in.
    pub(super) async fn open(peer: &HostPort, options: &ConnectOptions) -> Result<Self, KafkaError> {
        let mut direct = Self {
            stream: Connection::open(peer, options).await?.into_stream().await?,
            peer: peer.clone(),
            client_id: Arc::clone(&options.client_id),
            max_answer: options.max_answer,
            versions: ApiVersionsResponse { error: 0, ranges: Vec::new() },
            correlation: 0,
            request: Vec::new(),
        };
        // The Messenger keeps to itself what it heard.
        let versions: ApiVersionsResponse = direct.request(&ApiVersionsRequest, Vec::new(), options.limit).await?;
        if versions.error != 0 {
            let (peer, api) = (peer.to_string(), api_name::<ApiVersionsRequest>());
            return Err(KafkaError::Code { peer, api, code: versions.error });
        }
        if versions.ranges.is_empty() {
            let (peer, api) = (peer.to_string(), api_name::<ApiVersionsRequest>());
            return Err(KafkaError::Unasked { peer, api, what: "it lists no request".to_owned() });
        }
        direct.versions = versions;
        Ok(direct)
    }

    /// Whether the broker takes a version of this request that this program writes.
    pub(super) fn takes<R: RequestBody>(&self) -> bool {
        self.version::<R>().is_ok()
    }

    /// The newest common version of a request.
    fn version<R: RequestBody>(&self) -> Result<ApiVersion, KafkaError> {
        let range = R::API_VERSION_RANGE;
        let (key, ours) = (Int16::from(R::API_KEY).0, (range.min().0.0, range.max().0.0));
        if self.versions.ranges.is_empty() {
            return Ok(range.max()); // the question about the versions itself
        }
        let common = self.versions.newest_common(key, ours).ok_or_else(|| KafkaError::NoCommonVersion {
            peer: self.peer.to_string(),
            api: api_name::<R>(),
            theirs: self.versions.of(key),
            ours,
        })?;
        Ok(ApiVersion(Int16(common)))
    }

    /// Sends a request and reads its answer into `buffer`. After an error, or when cancelled, the connection must be
    /// dropped.
    pub(super) async fn request<R>(
        &mut self,
        request: &R,
        buffer: Vec<u8>,
        limit: Duration,
    ) -> Result<R::ResponseBody, KafkaError>
    where
        R: RequestBody + WriteVersionedType<Vec<u8>>,
        R::ResponseBody: ReadVersionedType<Cursor<Vec<u8>>>,
    {
        let (api, peer) = (api_name::<R>(), self.peer.to_string());
        let version = self.version::<R>()?;
        match timeout(limit, self.exchange(request, version, buffer)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Fault::TooLarge)) => Err(KafkaError::AnswerTooLarge { peer, api, limit: self.max_answer }),
            Ok(Err(Fault::Other(cause))) => Err(KafkaError::Request { peer, api, cause }),
            Err(_) => Err(KafkaError::TimedOut { peer, api, limit }),
        }
    }

    async fn exchange<R>(
        &mut self,
        request: &R,
        version: ApiVersion,
        mut buffer: Vec<u8>,
    ) -> Result<R::ResponseBody, Fault>
    where
        R: RequestBody + WriteVersionedType<Vec<u8>>,
        R::ResponseBody: ReadVersionedType<Cursor<Vec<u8>>>,
    {
        self.correlation = self.correlation.wrapping_add(1);
        let out = &mut self.request;
        out.clear();
        put_i32(out, 0); // the length, known below
        put_i16(out, Int16::from(R::API_KEY).0);
        put_i16(out, version.0.0);
        put_i32(out, self.correlation);
        put_string(out, &self.client_id);
        let flexible = version >= R::FIRST_TAGGED_FIELD_IN_REQUEST_VERSION;
        if flexible {
            put_unsigned_varint(out, 0); // header v2: no tagged fields
        }
        request.write_versioned(out, version).map_err(Fault::other)?;
        let length = i32::try_from(out.len() - 4).map_err(Fault::other)?;
        if let Some(place) = out.first_chunk_mut::<4>() {
            *place = length.to_be_bytes();
        }
        self.stream.write_all(out).await.map_err(Fault::other)?;
        self.stream.flush().await.map_err(Fault::other)?;

        let length = self.stream.read_i32().await.map_err(Fault::other)?;
        let length = usize::try_from(length).map_err(Fault::other)?;
        if length > self.max_answer {
            return Err(Fault::TooLarge);
        }
        buffer.clear();
        let mut body = (&mut self.stream).take(length as u64);
        while buffer.len() < length {
            if buffer.len() == buffer.capacity() {
                // The length is the peer's claim: memory follows what really comes.
                buffer.reserve((length - buffer.len()).min(STEP));
            }
            if body.read_buf(&mut buffer).await.map_err(Fault::other)? == 0 {
                return Err(Fault::Other("the connection ended within an answer".to_owned()));
            }
        }
        if buffer.first_chunk() != Some(&self.correlation.to_be_bytes()) {
            return Err(Fault::Other("the answer belongs to another request".to_owned()));
        }
        let mut start = 4; // behind the correlation id
        if flexible && version >= R::FIRST_TAGGED_FIELD_IN_RESPONSE_VERSION {
            let mut reader = Reader::new(buffer.get(start..).unwrap_or(&[]));
            reader.tagged_fields().map_err(Fault::other)?; // header v1
            start = buffer.len() - reader.rest().len();
        }
        let mut cursor = Cursor::new(buffer);
        cursor.set_position(start as u64);
        R::ResponseBody::read_versioned(&mut cursor, version).map_err(Fault::other)
    }
}

/// How much room is made at once for an answer.
const STEP: usize = 1 << 20;

enum Fault {
    TooLarge,
    Other(String),
}

impl Fault {
    fn other(cause: impl std::fmt::Display) -> Self {
        Self::Other(cause.to_string())
    }
}
