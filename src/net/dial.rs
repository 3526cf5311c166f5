//! TCP connections: resolved at each connect, every address tried, with a time limit and keepalive.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;

use crate::config::HostPort;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// None of the addresses took it.
    #[error("cannot connect to {host}: {cause}")]
    Refused {
        /// Where to.
        host: HostPort,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Not in time.
    #[error("cannot connect to {host} within {limit:?}")]
    TimedOut {
        /// Where to.
        host: HostPort,
        /// The limit.
        limit: Duration,
    },
}

/// Connects.
pub async fn dial(host: &HostPort, limit: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
    let connect = async {
        let stream = TcpStream::connect((host.host.as_str(), host.port)).await?;
        stream.set_nodelay(true)?;
        let address = stream.peer_addr()?;
        Ok((stream, address))
    };
    match tokio::time::timeout(limit, connect).await {
        Ok(connected) => connected.map_err(|cause| DialError::Refused { host: host.clone(), cause }),
        Err(_) => Err(DialError::TimedOut { host: host.clone(), limit }),
    }
}
