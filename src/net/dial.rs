//! Opens TCP connections: resolved anew each time, every address tried, time limit, keepalive, no Nagle delay.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::HostPort;

/// Why no connection came about. Not one byte was sent.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name did not resolve.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// What was asked for.
        host: HostPort,
        /// The resolver's answer.
        source: std::io::Error,
    },
    /// None of the addresses took the connection; the last one's cause.
    #[error("cannot connect to {host} ({address}): {source}")]
    Connect {
        /// What was asked for.
        host: HostPort,
        /// The address tried last.
        address: SocketAddr,
        /// Its cause.
        source: std::io::Error,
    },
    /// The time limit passed.
    #[error("cannot connect to {host}: no answer within {limit:?}")]
    Timeout {
        /// What was asked for.
        host: HostPort,
        /// The limit.
        limit: Duration,
    },
}

/// Connects to the first address of `host` that answers. `limit` holds for resolving and all tries together; no single
/// address gets more than its share of what is left.
pub async fn dial(host: &HostPort, limit: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
    let deadline = Instant::now() + limit;
    let timeout = || DialError::Timeout { host: host.clone(), limit };
    let resolve = |source| DialError::Resolve { host: host.clone(), source };
    let lookup = tokio::net::lookup_host((host.host.as_str(), host.port));
    let found = tokio::time::timeout_at(deadline, lookup).await.map_err(|_| timeout())?.map_err(resolve)?;
    let addresses: Vec<SocketAddr> = found.collect();
    let mut last = resolve(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Err(_) => last = timeout(),
            Ok(Err(source)) => last = DialError::Connect { host: host.clone(), address: *address, source },
            Ok(Ok(stream)) => match tune(&stream) {
                Ok(()) => return Ok((stream, *address)),
                Err(source) => last = DialError::Connect { host: host.clone(), address: *address, source },
            },
        }
    }
    Err(last)
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
