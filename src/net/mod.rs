//! Connections that we open: TCP with time limits, TLS on top where asked for. Knows neither Kafka nor ClickHouse.

pub mod dial;
pub mod tls;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::config::HostPort;
use dial::DialError;
use tls::{HandshakeError, TlsClient};

/// An open connection.
#[derive(Debug)]
pub enum Stream {
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP did not come about.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS did not come about.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Connects to a host: all its addresses are tried, `limit` covers name resolution, TCP and TLS together. With TLS the
/// name to be proven by the server (and sent as SNI) is `host.host`. Also returns the address that answered.
///
/// # Errors
/// Naming host, address and cause. May be cancelled; then nothing is left open.
pub async fn connect(
    host: &HostPort,
    tls: Option<&TlsClient>,
    limit: Duration,
) -> Result<(Stream, SocketAddr), ConnectError> {
    let deadline = Instant::now() + limit;
    let (stream, address) = dial::dial(host, limit).await?;
    Ok((secured(host, stream, address, tls, deadline).await?, address))
}

/// As [`connect`], but to this one address of the host, for a request that must not go anywhere else.
///
/// # Errors
/// As [`connect`].
pub async fn connect_at(
    host: &HostPort,
    address: SocketAddr,
    tls: Option<&TlsClient>,
    limit: Duration,
) -> Result<Stream, ConnectError> {
    let deadline = Instant::now() + limit;
    let stream = dial::dial_at(host, address, limit).await?;
    Ok(secured(host, stream, address, tls, deadline).await?)
}

async fn secured(
    host: &HostPort,
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<&TlsClient>,
    deadline: Instant,
) -> Result<Stream, HandshakeError> {
    match tls {
        None => Ok(Stream::Plain(stream)),
        Some(client) => Ok(Stream::Tls(Box::new(client.handshake(host, address, stream, deadline).await?))),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
