//! The HTTP server of the endpoints: few connections, small requests, short patience.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::health::Health;
use super::metrics;
use crate::backoff::Backoff;

/// Answers on `listener` until `stop` is true or its sender is gone. Never ends before; faults of single connections
/// and of accepting are logged. The 65th connection waits in the system's queue until one of the others has ended.
pub async fn serve(listener: TcpListener, health: Health, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut failing = false;
    loop {
        tokio::select! {
            // Ended connections first: they make room.
            biased;
            () = stopped(&mut stop) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection to the health server broke off");
                }
            }
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    backoff.reset();
                    connections.spawn(connection(stream, health.clone(), stop.clone()));
                }
                // The client went away between its connect and our accept.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                // Out of file descriptors, say: it will not get better within the microsecond.
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the health server cannot accept connections; it goes on trying");
                    }
                    failing = true;
                    tokio::select! {
                        () = sleep(backoff.pause()) => {}
                        () = stopped(&mut stop) => break,
                    }
                }
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, ended).await.is_err() {
        tracing::debug!("connections to the health server are cut off");
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
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn connection(stream: TcpStream, health: Health, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<_>| {
        let response = answer(request.method(), request.uri().path(), &health);
        async { Ok::<_, Infallible>(response) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // Also how long a connection may idle between requests.
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let outcome = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = stopped(&mut stop) => None,
        // A client that never reads its answers must not keep its place.
        () = sleep(LIFETIME) => None,
    };
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection to the health server ended early");
    }
}

fn answer(method: &Method, path: &str, health: &Health) -> Response<Full<Bytes>> {
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

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns once `stop` is true, or nobody is left who could set it. May be cancelled.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("nobody is left who could stop the health server; it stops");
    }
}

const MOST_CONNECTIONS: usize = 64;
const HEADER_BYTES: usize = 16 * 1024;
const HEADER_TIME: Duration = Duration::from_secs(5);
const LIFETIME: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(1);
const NOT_FOUND: &str = "there are /health, /livez, /readyz, /status and /metrics\n";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
