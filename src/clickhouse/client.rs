//! One request at a time to ClickHouse's HTTP interface (<https://clickhouse.com/docs/interfaces/http>), over one
//! connection that is kept while the server keeps it and thrown away after any failure.
//!
//! Never sent: `Expect` (some proxies wait for it), progress headers (an error after them comes inside a 200), and
//! `Accept-Encoding` or `compress` (error texts would come compressed).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::wire::{Line, Sending, Watched};
use crate::config::{ClickHouseAddress, ClickHouseConfig, HostPort, SecretError};
use crate::net::tls::TlsClient;
use crate::net::{self, ConnectError};

/// Why there is no whole answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No address is configured.
    #[error("CLICKHOUSE_URL names no address")]
    NoAddress,
    /// The password's file cannot be read.
    #[error(transparent)]
    Password(#[from] SecretError),
    /// The user or the password holds bytes that no HTTP header can carry.
    #[error("{0} holds a control character, which an HTTP header cannot carry")]
    Unsendable(&'static str),
    /// The connection broke before the request was on it.
    #[error("{address} closed the connection before the request was sent: {source}")]
    NotSent {
        /// The server.
        address: SocketAddr,
        /// The cause.
        source: hyper::Error,
    },
    /// The connection broke under the request or the answer.
    #[error("the connection to {address} broke before the whole answer came: {source}{}", said(.cut))]
    Broken {
        /// The server.
        address: SocketAddr,
        /// The cause.
        source: hyper::Error,
        /// The request did not go out whole, and what writing failed with.
        cut: Option<Option<String>>,
    },
    /// The time limit passed with the request on the wire.
    #[error("no whole answer from {address} within {limit:?}{}", said(.cut))]
    Timeout {
        /// The server.
        address: SocketAddr,
        /// The limit (`CLICKHOUSE_TIMEOUT_MS`).
        limit: Duration,
        /// The request did not go out whole, and what writing failed with.
        cut: Option<Option<String>>,
    },
    /// The request could not be built.
    #[error("cannot build the request: {0}")]
    Request(#[from] hyper::http::Error),
}

impl ClientError {
    /// Whether the server cannot have seen the whole request. Otherwise it may have acted on it. A part of a block is not
    /// stored: its frames have checksums.
    pub fn is_before_the_end(&self) -> bool {
        match self {
            Self::Broken { cut, .. } | Self::Timeout { cut, .. } => cut.is_some(),
            Self::Connect(_)
            | Self::NoAddress
            | Self::Password(_)
            | Self::Unsendable(_)
            | Self::NotSent { .. }
            | Self::Request(_) => true,
        }
    }
}

fn said(cut: &Option<Option<String>>) -> String {
    match cut {
        None => String::new(),
        Some(None) => ", with the request not sent whole".to_owned(),
        Some(Some(cause)) => format!(", with the request not sent whole: {cause}"),
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `X-ClickHouse-Exception-Code`, or the number in a text that begins with `Code: N.`.
    pub code: Option<u32>,
    /// Exception codes that are no one number: the header is something else, or says other than the text or its double.
    pub odd_code: Option<String>,
    /// `X-ClickHouse-Query-Id`.
    pub query_id: Option<String>,
    /// Bytes of the request's body.
    pub sent: usize,
    /// The answer came before the request had gone out whole, and the rest never will.
    pub cut: bool,
    /// `written_rows` of `X-ClickHouse-Summary`.
    pub written_rows: Option<u64>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<Duration>,
    /// The body, up to the limit for its kind.
    pub text: String,
}

/// A client of one ClickHouse, which may have several addresses.
#[derive(Debug)]
pub struct Client {
    config: ClickHouseConfig,
    /// For https addresses.
    tls: Option<TlsClient>,
    /// Index of the address in use.
    at: usize,
    /// The resolved address that the next connection must reach, while it still is one of the host's.
    pinned: Option<SocketAddr>,
    /// The resolved address of the last connection.
    reached: Option<SocketAddr>,
    /// How long the last connection took: a measure of the link, as the server's kernel takes it even from a frozen server.
    connected_in: Duration,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Sending>,
    line: Line,
    driver: JoinHandle<()>,
    address: SocketAddr,
    headers: HeaderMap,
    /// The server may close the connection from here on.
    idle_until: Instant,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(config: ClickHouseConfig, tls: Option<TlsClient>) -> Self {
        Self { config, tls, at: 0, pinned: None, reached: None, connected_in: Duration::ZERO, open: None }
    }

    /// Runs a query whose SQL goes in the body (an empty body would carry no Content-Length, which the server refuses).
    pub async fn query(&mut self, sql: &str, parameters: &[(&str, &str)]) -> Result<Answer, ClientError> {
        self.send(parameters, Bytes::copy_from_slice(sql.as_bytes())).await
    }

    /// Sends one POST. `parameters` go into the URL. A connection that the server had closed meanwhile is replaced at
    /// once; nothing else is tried again here.
    pub async fn send(&mut self, parameters: &[(&str, &str)], body: Bytes) -> Result<Answer, ClientError> {
        let open = match self.open.take().filter(Open::is_fresh) {
            Some(open) => match self.exchange(open, parameters, body.clone()).await {
                Err(ClientError::NotSent { address, source }) => {
                    tracing::debug!(%address, %source, "a kept connection was closed; connecting anew");
                    self.connect().await?
                }
                done => return done,
            },
            None => self.connect().await?,
        };
        self.exchange(open, parameters, body).await
    }

    /// How long the last connection took.
    pub fn connected_in(&self) -> Duration {
        self.connected_in
    }

    /// Another limit for whole answers.
    pub fn set_timeout(&mut self, limit: Duration) {
        self.config.timeout = limit;
    }

    /// The next connection must reach the same resolved address again: an earlier request may still take effect there,
    /// and only there will its repetition be recognised.
    pub fn pin(&mut self) {
        self.pinned = self.reached;
    }

    /// Any address of the host will do again.
    pub fn unpin(&mut self) {
        self.pinned = None;
    }

    /// Goes on to the next configured address.
    pub fn next_address(&mut self) {
        self.disconnect();
        self.pinned = None;
        self.at = (self.at + 1) % self.config.addresses.len().max(1);
    }

    /// Throws the connection away.
    pub fn disconnect(&mut self) {
        self.open = None;
    }

    async fn exchange(
        &mut self,
        mut open: Open,
        parameters: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let (limit, address) = (self.config.timeout, open.address);
        let sent = body.len();
        let mut request = Request::post(target(parameters)).body(open.line.body(body))?;
        request.headers_mut().extend(open.headers.clone());
        let line = open.line.clone();
        let broken = |source| ClientError::Broken { address, source, cut: line.end() };
        let exchange = async {
            let response = open.sender.try_send_request(request).await.map_err(|mut refused| {
                // The message comes back only if not one byte of it was written.
                let unsent = refused.take_message().is_some();
                let source = refused.into_error();
                if unsent { ClientError::NotSent { address, source } } else { broken(source) }
            })?;
            let keep = keep_alive(response.headers());
            let (answer, whole) = read(response).await.map_err(broken)?;
            Ok::<_, ClientError>((answer, whole, keep))
        };
        // Whatever fails or is cut leaves `open` to be dropped: the stream may be out of step.
        let exchanged = timeout(limit, exchange).await;
        let cut = line.end();
        let (mut answer, whole, keep) =
            exchanged.map_err(|_| ClientError::Timeout { address, limit, cut: cut.clone() })??;
        (answer.sent, answer.cut) = (sent, cut.is_some());
        if whole && !answer.cut {
            open.idle_until = Instant::now() + keep;
            self.open = Some(open);
        }
        Ok(answer)
    }

    async fn connect(&mut self) -> Result<Open, ClientError> {
        let ClickHouseAddress { tls, host } = self.config.addresses.get(self.at).ok_or(ClientError::NoAddress)?;
        let headers = self.headers(host)?;
        let tls = if *tls { self.tls.as_ref() } else { None };
        let limit = self.config.timeout.min(MAX_CONNECT);
        let began = Instant::now();
        let (stream, address) = match self.pinned {
            Some(pinned) if still_of(host, pinned, limit).await => {
                (net::connect_at(host, pinned, tls, limit).await?, pinned)
            }
            _ => net::connect(host, tls, limit).await?,
        };
        self.reached = Some(address);
        self.connected_in = began.elapsed();
        // Nothing goes over the wire here: HTTP/1 has no handshake of its own.
        let line = Line::default();
        let shaken = handshake(TokioIo::new(Watched::new(stream, line.clone()))).await;
        let (sender, connection) = shaken.map_err(|source| ClientError::NotSent { address, source })?;
        let driver = tokio::spawn(async move {
            if let Err(cause) = connection.await {
                tracing::debug!(%address, %cause, "the connection to ClickHouse ended");
            }
        });
        Ok(Open { sender, line, driver, address, headers, idle_until: Instant::now() })
    }

    /// Read at each connect, so that a rotated password file is noticed.
    fn headers(&self, host: &HostPort) -> Result<HeaderMap, ClientError> {
        let value =
            |name, text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|_| ClientError::Unsendable(name));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, value("CLICKHOUSE_URL", &host.to_string())?);
        let (user, password) = (&self.config.user, self.config.password.read()?);
        if has_outer_blanks(user) || has_outer_blanks(&password) {
            // Outer blanks do not count in a header's value, so the login goes encoded; there a colon ends the user's name.
            if user.contains(':') {
                return Err(ClientError::Unsendable("CLICKHOUSE_USER with a colon, beside outer blanks,"));
            }
            let mut login =
                value("CLICKHOUSE_PASSWORD", &format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))?;
            login.set_sensitive(true);
            headers.insert(AUTHORIZATION, login);
            return Ok(headers);
        }
        headers.insert("x-clickhouse-user", value("CLICKHOUSE_USER", user)?);
        if !password.is_empty() {
            let mut key = value("CLICKHOUSE_PASSWORD", &password)?;
            key.set_sensitive(true);
            headers.insert("x-clickhouse-key", key);
        }
        Ok(headers)
    }
}

impl Open {
    fn is_fresh(&self) -> bool {
        !self.sender.is_closed() && Instant::now() < self.idle_until
    }
}

/// A server on the way answers a SYN at once or never.
const MAX_CONNECT: Duration = Duration::from_secs(5);
/// The longest a connection is kept without use, whatever an answer says: an instant has an end.
const MAX_IDLE: Duration = Duration::from_secs(3600);
/// Kept of an error's text.
const MAX_ERROR: usize = 16 * 1024;
/// Kept of a query's result: the columns of the widest tables are far smaller.
const MAX_RESULT: usize = 4 * 1024 * 1024;

fn has_outer_blanks(text: &str) -> bool {
    text.trim_matches([' ', '\t']) != text
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_usize {
            let letter = LETTERS.get((bits >> (18 - 6 * at) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// Whether a name still resolves to an address. If not, the server has moved and the address is nobody's.
async fn still_of(host: &HostPort, address: SocketAddr, limit: Duration) -> bool {
    let lookup = tokio::net::lookup_host((host.host.as_str(), host.port));
    match timeout(limit, lookup).await {
        Ok(Ok(mut found)) => found.any(|one| one == address),
        // No answer from the resolver says nothing about the address.
        Ok(Err(_)) | Err(_) => true,
    }
}

/// How long the server keeps an idle connection, with a second for what is on its way.
fn keep_alive(headers: &HeaderMap) -> Duration {
    let text = headers.get("keep-alive").and_then(|value| value.to_str().ok()).unwrap_or("");
    let seconds = text.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse::<u64>().ok());
    seconds.map_or(Duration::from_secs(2), |seconds| Duration::from_secs(seconds.saturating_sub(1)).min(MAX_IDLE))
}

/// The answer, and whether its body was read to the end.
async fn read(response: Response<Incoming>) -> Result<(Answer, bool), hyper::Error> {
    let (head, mut body) = response.into_parts();
    let mut answer = Answer {
        status: head.status.as_u16(),
        written_rows: confirmed(&head.headers),
        query_id: head.headers.get(QUERY_ID).and_then(|value| value.to_str().ok()).map(str::to_owned),
        retry_after: number(&head.headers, RETRY_AFTER.as_str()).map(Duration::from_secs),
        ..Answer::default()
    };
    let failed = head.headers.contains_key(EXCEPTION_CODE);
    let limit = if answer.status == 200 && !failed { MAX_RESULT } else { MAX_ERROR };
    let mut bytes = Vec::new();
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let taken = data.len().min(limit - bytes.len());
        bytes.extend(data.iter().take(taken));
        if taken < data.len() {
            whole = false;
            break;
        }
    }
    answer.text = String::from_utf8_lossy(&bytes).into_owned();
    match exception_code(&head.headers, &answer.text) {
        Ok(code) => answer.code = code,
        Err(odd) => answer.odd_code = Some(odd),
    }
    Ok((answer, whole))
}

const EXCEPTION_CODE: &str = "x-clickhouse-exception-code";
const QUERY_ID: &str = "x-clickhouse-query-id";
const SUMMARY: &str = "x-clickhouse-summary";

/// The one exception code of an answer, where it has one. Whatever else stands there may be anything but a success.
fn exception_code(headers: &HeaderMap, text: &str) -> Result<Option<u32>, String> {
    let mut all = headers.get_all(EXCEPTION_CODE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(header) = all.next() else { return Ok(code_in(text)) };
    let odd = |other: &str| Err(format!("{EXCEPTION_CODE}: {header}{other}"));
    if let Some(other) = all.find(|other| *other != header) {
        return odd(&format!(" and {other}"));
    }
    match (header.trim().parse(), code_in(text)) {
        (Ok(0) | Err(_), _) => odd(""),
        (Ok(code), Some(other)) if code != other => odd(&format!(", with {other} in the text")),
        (Ok(code), _) => Ok(Some(code)),
    }
}

/// The rows that an answer confirms. Two summaries that say different things confirm nothing.
fn confirmed(headers: &HeaderMap) -> Option<u64> {
    let mut all = headers.get_all(SUMMARY).iter().map(written_rows);
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The summary is a JSON object whose numbers are strings.
fn written_rows(summary: &HeaderValue) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Summary<'a> {
        written_rows: &'a str,
    }
    let summary: Summary<'_> = serde_json::from_slice(summary.as_bytes()).ok()?;
    summary.written_rows.parse().ok()
}

/// Servers that had sent the head already, and proxies that drop headers, leave the code in the text only.
fn code_in(text: &str) -> Option<u32> {
    let (digits, _) = text.strip_prefix("Code: ")?.split_once('.')?;
    digits.parse().ok()
}

/// The request target: parameters percent-encoded.
fn target(parameters: &[(&str, &str)]) -> String {
    let mut out = "/".to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        encode(name, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let written = write!(out, "%{byte:02X}");
            debug_assert!(written.is_ok());
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
