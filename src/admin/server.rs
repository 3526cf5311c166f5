//! The HTTP server of the endpoints: few connections, small requests, short time limits, and a place for every newcomer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{self, Body, GRACE, Pace};
use super::descriptors::{self, RESERVED, Reserve};
use super::health::Health;
use super::metrics;
use super::places::{Peer, Places, Room};
use crate::backoff::Backoff;

/// Answers on `listener` until `stop` is true or its sender is gone. Never ends before; faults of single connections
/// and of accepting are logged. When all places are taken, or a peer's share of them, a new connection takes the place
/// of the oldest: a probe is answered whoever else connects. May be cancelled, which cuts the connections.
pub async fn serve(listener: TcpListener, health: Health, mut stop: watch::Receiver<bool>) {
    let mut server = Server::new(listener, health, stop.clone());
    let mut in_a_row = 0;
    loop {
        let due = server.due();
        if in_a_row >= ROW {
            in_a_row = 0;
            yield_now().await;
        }
        tokio::select! {
            // Ended connections first: they make room.
            biased;
            () = stopped(&mut stop) => break,
            Some(ended) = server.connections.join_next_with_id() => server.ended(ended),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => server.go_on(),
            accepted = server.listener.accept(), if server.accepts() => {
                in_a_row += 1;
                server.accepted(accepted);
            }
        }
    }
    let Server { mut connections, .. } = server;
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE * 2, ended).await.is_err() {
        tracing::debug!("connections to the health server are cut off");
    }
}

/// What the accept loop waits for besides the next connection.
#[derive(Debug)]
enum Door {
    /// Nothing: it accepts.
    Open,
    /// An accepted connection waits for a place until then.
    Holding(TcpStream, Peer, Instant),
    /// Accepting failed; it is tried again then, or as soon as a connection has ended.
    Paused(Instant),
}

/// One place's holder.
#[derive(Debug)]
struct Holder {
    task: Id,
    evict: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Server {
    listener: TcpListener,
    health: Health,
    stop: watch::Receiver<bool>,
    /// Those that are served, and those evicted that have not ended yet.
    connections: JoinSet<TcpStream>,
    places: Places<Holder>,
    reserve: Reserve,
    door: Door,
    /// Until when there are fewer places because descriptors ran out.
    scarce: Option<Instant>,
    backoff: Backoff,
    pace: Pace,
    evictions: Folded,
    failures: Folded,
}

impl Server {
    fn new(listener: TcpListener, health: Health, stop: watch::Receiver<bool>) -> Self {
        let reserve = Reserve::new(&listener);
        Self {
            listener,
            health,
            stop,
            connections: JoinSet::new(),
            places: Places::new(descriptors::connections()),
            reserve,
            door: Door::Open,
            scarce: None,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_millis(500)),
            pace: Pace::new(),
            evictions: Folded::default(),
            failures: Folded::default(),
        }
    }

    /// Some evicted connections may not have ended yet while others are accepted.
    fn accepts(&self) -> bool {
        let most = self.places.most();
        matches!(self.door, Door::Open) && self.connections.len() <= most + most / 4
    }

    fn due(&self) -> Option<Instant> {
        match &self.door {
            Door::Open => None,
            Door::Holding(_, _, until) | Door::Paused(until) => Some(*until),
        }
    }

    /// What was waited for has come, or may have.
    fn go_on(&mut self) {
        match std::mem::replace(&mut self.door, Door::Open) {
            Door::Open => {}
            Door::Holding(stream, peer, _) => self.admit(stream, peer),
            Door::Paused(_) => self.reserve.refill(&self.listener),
        }
    }

    fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, address)) => {
                self.backoff.reset();
                self.admit(stream, Peer::from(address));
            }
            // The client went away between its connect and our accept.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => self.failed(&error),
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: Peer) {
        let now = Instant::now();
        if self.scarce.is_some_and(|until| until <= now) {
            self.scarce = None;
            self.shrink(descriptors::connections());
        }
        match self.places.room(peer) {
            Room::After(_, from) if from > now => {
                self.door = Door::Holding(stream, peer, from);
                return;
            }
            Room::After(victim, _) => self.evict(victim),
            Room::Free => {}
        }
        let (evict, evicted) = oneshot::channel();
        let health = self.health.clone();
        let answers = move |method: &Method, path: &str| answer(method, path, &health);
        let task = self
            .connections
            .spawn(connection::serve(stream, answers, self.pace.clone(), self.stop.clone(), evicted))
            .id();
        self.places.take(peer, now, Holder { task, evict });
    }

    fn evict(&mut self, peer: Peer) {
        if let Some(holder) = self.places.evict(peer) {
            self.close(holder);
        }
    }

    /// Allows this many connections and closes those beyond.
    fn shrink(&mut self, most: usize) {
        while let Some(holder) = self.places.limit(most) {
            self.close(holder);
        }
    }

    fn close(&mut self, holder: Holder) {
        if holder.evict.send(()).is_err() {
            // It has just ended by itself.
            return;
        }
        if let Some(count) = self.evictions.count() {
            tracing::warn!(
                evicted = count,
                "all places of the health port are taken: the oldest connections are closed for new ones; see who connects to HEALTH_PORT"
            );
        }
    }

    /// Out of descriptors, or something else that will not be better within the microsecond.
    fn failed(&mut self, error: &io::Error) {
        if let Some(failures) = self.failures.count() {
            tracing::warn!(%error, failures, "the health server cannot accept connections as usual; it goes on trying");
        }
        let exhausted = descriptors::exhausted(error);
        let now = Instant::now();
        if exhausted {
            // Kafka and ClickHouse need them more.
            self.scarce = Some(now + SCARCE_FOR);
            self.shrink(RESERVED);
            if self.reserve.release() {
                return;
            }
        }
        let mut until = now + self.backoff.pause();
        if exhausted && let Some((peer, from)) = self.places.oldest() {
            if from <= now {
                self.evict(peer);
            } else {
                until = from;
            }
        }
        self.door = Door::Paused(until);
    }

    fn ended(&mut self, ended: Result<(Id, TcpStream), JoinError>) {
        let task = match ended {
            Ok((task, stream)) => {
                drop(stream);
                task
            }
            Err(error) => {
                tracing::error!(%error, "a connection to the health server broke off");
                error.id()
            }
        };
        self.places.leave(|holder| holder.task == task);
        // Before anybody else can take the descriptor.
        self.reserve.refill(&self.listener);
        if !matches!(self.door, Door::Open) {
            self.go_on();
        }
    }
}

/// Counts what happens often and is logged at most once a minute.
#[derive(Debug, Default)]
struct Folded {
    count: u64,
    logged: Option<Instant>,
}

impl Folded {
    /// One more; how many there were since the last line when a line is due.
    fn count(&mut self) -> Option<u64> {
        self.count += 1;
        let now = Instant::now();
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < LOG_EVERY) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// Opens the port on all addresses, IPv6 and IPv4 in one socket where the system has IPv6.
///
/// # Errors
/// Naming port, cause and cure.
pub async fn bind(port: u16) -> Result<TcpListener, BindError> {
    let both = listen(Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    both.or_else(|_| listen(Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
        .map_err(|source| BindError { port, source })
}

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port} for /health: {source}; set HEALTH_PORT to a free port")]
pub struct BindError {
    port: u16,
    source: io::Error,
}

fn listen(domain: Domain, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the connections of its predecessor to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Accepted connections inherit the sizes: what a client leaves unread, or sends unasked, stays small in the kernel too.
    socket.set_recv_buffer_size(16 * 1024)?;
    socket.set_send_buffer_size(64 * 1024)?;
    socket.listen(QUEUE)?;
    TcpListener::from_std(socket.into())
}

fn answer(method: &Method, path: &str, health: &Health) -> Response<Body> {
    let response = match path {
        "/health" => {
            let (ok, json) = health.health();
            respond(if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, JSON, json)
        }
        "/livez" => respond(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match health.reasons().as_slice() {
            [] => respond(StatusCode::OK, TEXT, "ok\n"),
            reasons => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n"),
        },
        "/status" => match health.status() {
            Ok(json) => respond(StatusCode::OK, JSON, json),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/metrics" => respond(StatusCode::OK, metrics::CONTENT_TYPE, health.metrics()),
        _ => return respond(StatusCode::NOT_FOUND, TEXT, NOT_FOUND),
    };
    if method == Method::GET || method == Method::HEAD {
        return response;
    }
    let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns once `stop` is true, or nobody is left who could set it. May be cancelled.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left who could stop the health server; it stops");
    }
}

/// Connections accepted before the rest of the program has its turn.
const ROW: u32 = 32;
/// Connections that the system keeps for us until they are accepted.
const QUEUE: i32 = 1024;
/// After descriptors ran out: they are not tried for again and again.
const SCARCE_FOR: Duration = Duration::from_secs(10);
const LOG_EVERY: Duration = Duration::from_secs(60);
const NOT_FOUND: &str = "there are /health, /livez, /readyz, /status and /metrics\n";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
