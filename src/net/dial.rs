//! TCP connections: resolve, try every address, under one time limit.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use crate::config::HostPort;

/// Why there is no TCP connection. For a host with several addresses the address is the last one tried.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The host.
        host: HostPort,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// The host.
        host: HostPort,
    },
    /// The resolver did not answer in time.
    #[error("no answer within {limit:?} when resolving {host}")]
    ResolveTimedOut {
        /// The host.
        host: HostPort,
        /// The time limit of the whole connect.
        limit: Duration,
    },
    /// Nobody listens there.
    #[error("{host} ({address}) refuses connections{}", others(*.tried))]
    Refused {
        /// The host.
        host: HostPort,
        /// The address.
        address: SocketAddr,
        /// How many addresses were tried.
        tried: usize,
    },
    /// The address did not answer in time.
    #[error("{host} ({address}) does not answer within {limit:?}{}", others(*.tried))]
    TimedOut {
        /// The host.
        host: HostPort,
        /// The address.
        address: SocketAddr,
        /// How many addresses were tried.
        tried: usize,
        /// The time limit of the whole connect.
        limit: Duration,
    },
    /// The system refuses to connect, or to set up the socket.
    #[error("cannot connect to {host} ({address}){}: {source}", others(*.tried))]
    Failed {
        /// The host.
        host: HostPort,
        /// The address.
        address: SocketAddr,
        /// How many addresses were tried.
        tried: usize,
        /// What the system said.
        source: io::Error,
    },
}

impl DialError {
    /// Whether something answered that nobody listens, so that certainly no request was taken.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// Connects to a host. The name is resolved at each call; all its addresses are tried within `limit`, each with an even
/// share of what is left, so that one dead address does not hide the others.
///
/// # Errors
/// With what happened at the last address. May be cancelled; then nothing is left open.
pub async fn dial(host: &HostPort, limit: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
    let deadline = Instant::now() + limit;
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, lookup_host((host.host.as_str(), host.port))).await {
        Ok(Ok(found)) => found.take(MOST_ADDRESSES).collect(),
        Ok(Err(source)) => return Err(DialError::Resolve { host: host.clone(), source }),
        Err(_) => return Err(DialError::ResolveTimedOut { host: host.clone(), limit }),
    };
    first_that_answers(host, &addresses, deadline, limit).await
}

/// Connects to one known address of a host.
///
/// # Errors
/// As [`dial`].
pub async fn dial_at(host: &HostPort, address: SocketAddr, limit: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + limit;
    first_that_answers(host, &[address], deadline, limit).await.map(|(stream, _)| stream)
}

async fn first_that_answers(
    host: &HostPort,
    addresses: &[SocketAddr],
    deadline: Instant,
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut last = DialError::NoAddress { host: host.clone() };
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for (&address, tried) in addresses.iter().zip(1..) {
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / left;
        left = left.saturating_sub(1).max(1);
        let host = host.clone();
        last = match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match set_up(&stream) {
                Ok(()) => return Ok((stream, address)),
                Err(source) => DialError::Failed { host, address, tried, source },
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                DialError::Refused { host, address, tried }
            }
            Ok(Err(source)) => DialError::Failed { host, address, tried, source },
            Err(_) => DialError::TimedOut { host, address, tried, limit },
        };
    }
    Err(last)
}

/// Small requests leave at once, and a peer that has vanished is noticed within a minute.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn others(tried: usize) -> String {
    match tried {
        0 | 1 => String::new(),
        _ => format!(", the last of {tried} addresses tried"),
    }
}

/// More than any sane name has; what a resolver answers must not decide how long we try.
const MOST_ADDRESSES: usize = 16;
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn host(name: &str, port: u16) -> HostPort {
        HostPort { host: name.to_owned(), port }
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that refuses: bound, but nobody listens, so that no one else can get it meanwhile.
    fn refusing() -> (socket2::Socket, SocketAddr) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    /// An address that drops SYNs: its queue of waiting connections is full.
    async fn silent() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
        let (socket, address) = refusing();
        socket.listen(0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) =
            timeout_at(Instant::now() + Duration::from_millis(300), TcpStream::connect(address)).await
        {
            waiting.push(stream.unwrap());
            assert!(waiting.len() < 16, "the queue never fills");
        }
        (socket, waiting, address)
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_the_socket_set_up() {
        let (listener, address) = listener().await;
        let (stream, reached) = dial(&host("localhost", address.port()), LIMIT).await.unwrap();
        assert_eq!(reached, address);
        assert_eq!(listener.accept().await.unwrap().1, stream.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[tokio::test]
    async fn refused() {
        let (_socket, address) = refusing();
        let error = dial(&host("127.0.0.1", address.port()), LIMIT).await.unwrap_err();
        assert!(error.is_refused());
        assert_eq!(error.to_string(), format!("{address} ({address}) refuses connections"));
    }

    #[tokio::test]
    async fn unresolvable() {
        // An empty label: refused by the resolver itself, no name server is asked.
        let error = dial(&host("kafka..local", 9092), LIMIT).await.unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. } | DialError::ResolveTimedOut { .. }), "{error}");
        assert!(error.to_string().contains("kafka..local:9092"), "{error}");
    }

    #[tokio::test]
    async fn silence_ends_with_the_limit() {
        let (_socket, _waiting, address) = silent().await;
        let limit = Duration::from_millis(200);
        let started = Instant::now();
        let error = dial_at(&host("ch", 8123), address, limit).await.unwrap_err();
        assert!(started.elapsed() >= limit);
        assert!(started.elapsed() < LIMIT);
        assert_eq!(error.to_string(), format!("ch:8123 ({address}) does not answer within 200ms"));
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hide_a_live_one() {
        let (_socket, refusing) = refusing();
        let (_queue, _waiting, silent) = silent().await;
        let (_listener, live) = listener().await;
        let limit = Duration::from_secs(2);
        let deadline = Instant::now() + limit;
        let name = host("ch", 8123);
        let (_, reached) = first_that_answers(&name, &[refusing, silent, live], deadline, limit).await.unwrap();
        assert_eq!(reached, live);
        let deadline = Instant::now() + Duration::from_millis(200);
        let error = first_that_answers(&name, &[silent, refusing], deadline, limit).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("ch:8123 ({refusing}) refuses connections, the last of 2 addresses tried")
        );
        let error = first_that_answers(&name, &[], deadline, limit).await.unwrap_err();
        assert_eq!(error.to_string(), "ch:8123 has no address");
    }
}
