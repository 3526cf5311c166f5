//! `healthcheck`: asks the program on this machine, for container health checks (the image has no curl).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Asks http://127.0.0.1:`port`/health.
///
/// # Errors
/// When it does not answer with 200 within 3 s.
pub async fn run(port: u16) -> Result<(), Unhealthy> {
    let answer = timeout(LIMIT, answered(port)).await.map_err(|_| Unhealthy::TimedOut { port })?;
    let answer = answer.map_err(|source| Unhealthy::NoAnswer { port, source })?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut words = head.lines().next().unwrap_or_default().splitn(3, ' ');
    match (words.next(), words.next()) {
        (Some("HTTP/1.0" | "HTTP/1.1"), Some("200")) => Ok(()),
        (Some("HTTP/1.0" | "HTTP/1.1"), Some(status)) => {
            Err(Unhealthy::Status { status: one_line(status), body: one_line(body) })
        }
        _ => Err(Unhealthy::NoHttp { port }),
    }
}

/// Why the program does not count as healthy, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// It says so itself.
    #[error("unhealthy: HTTP {status}: {body}")]
    Status {
        /// The status code.
        status: String,
        /// The body of /health.
        body: String,
    },
    /// It does not answer.
    #[error("unhealthy: no answer from 127.0.0.1:{port} (HEALTH_PORT): {source}")]
    NoAnswer {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// It does not answer in time.
    #[error("unhealthy: no answer from 127.0.0.1:{port} (HEALTH_PORT) within {LIMIT:?}")]
    TimedOut {
        /// The port.
        port: u16,
    },
    /// Somebody else answers.
    #[error("unhealthy: what listens on 127.0.0.1:{port} (HEALTH_PORT) does not speak HTTP")]
    NoHttp {
        /// The port.
        port: u16,
    },
}

/// Asks again while connections are closed without an answer, as they are when many clients compete for the port.
async fn answered(port: u16) -> io::Result<Vec<u8>> {
    let mut tries = 1;
    loop {
        let answer = ask(port).await;
        let closed = match &answer {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        };
        if !closed || tries >= TRIES {
            return answer;
        }
        tries += 1;
        sleep(PAUSE).await;
    }
}

/// HTTP/1.0: the server closes behind its answer.
async fn ask(port: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.write_all(b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const LIMIT: Duration = Duration::from_secs(3);
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);
const MOST_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    /// What `run` makes of a server that gives this answer.
    async fn given(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                assert!(request.starts_with(b"GET /health HTTP/1.0\r\n"));
                stream.write_all(answer).await.unwrap();
            }
        });
        let outcome = run(port).await.map_err(|error| error.to_string());
        server.abort();
        outcome
    }

    #[tokio::test]
    async fn only_200_is_healthy() {
        given(b"HTTP/1.0 200 OK\r\n\r\n{}").await.unwrap();
        given(b"HTTP/1.1 200 OK\r\n\r\n{}").await.unwrap();
        assert_eq!(
            given(b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{\"status\": \"unhealthy\"}\nx\x1b[31m").await,
            Err("unhealthy: HTTP 503: {\"status\": \"unhealthy\"} x [31m".to_owned())
        );
        assert_eq!(given(b"HTTP/1.0 2000\r\n\r\n").await, Err("unhealthy: HTTP 2000:".to_owned() + " "));
        for foreign in [&b""[..], b"SSH-2.0-OpenSSH_9.9\r\n", b"\xff\xfe", b"200 200 200"] {
            let text = given(foreign).await.unwrap_err();
            assert!(text.ends_with("does not speak HTTP"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_connection_closed_for_another_is_made_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            for _ in 0..3 {
                drop(listener.accept().await.unwrap());
            }
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{}").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
        });
        run(port).await.unwrap();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_listens() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let text = run(port).await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("unhealthy: no answer from 127.0.0.1:{port} (HEALTH_PORT): ")), "{text}");
    }

    #[tokio::test]
    async fn silence_is_unhealthy_after_three_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let begun = Instant::now();
        let error = run(listener.local_addr().unwrap().port()).await.unwrap_err();
        assert!(matches!(error, Unhealthy::TimedOut { .. }), "{error}");
        assert!(begun.elapsed() >= LIMIT);
    }
}
