//! One connection to the health port: HTTP/1 with a time limit for everything a client may take its time with.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// The body of an answer.
pub(super) type Body = http_body_util::Full<bytes::Bytes>;

/// Serves a connection until its client is done, a limit is reached, its place is needed (`evicted`) or the server
/// stops. Returns the stream, so that the caller knows when the descriptor becomes free. Not to be cancelled: the stream
/// would be closed unnoticed.
pub(super) async fn serve<A>(
    stream: TcpStream,
    answer: A,
    pace: Pace,
    mut stop: watch::Receiver<bool>,
    evicted: oneshot::Receiver<()>,
) -> TcpStream
where
    A: Fn(&Method, &str) -> Response<Body> + Clone + Send + 'static,
{
    let first = Arc::new(AtomicBool::new(true));
    let service = service_fn(move |request: Request<_>| {
        let is_first = first.swap(false, Ordering::Relaxed);
        let (pace, answer) = (pace.clone(), answer.clone());
        async move {
            if !is_first {
                sleep_until(pace.turn(Instant::now())).await;
            }
            Ok::<_, Infallible>(answer(request.method(), request.uri().path()))
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also how long a connection may idle between requests.
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(Writing::to(stream)), service);
    let stopped = tokio::select! {
        // What has arrived is answered, even when the place is needed.
        biased;
        outcome = &mut connection => {
            if let Err(error) = outcome {
                tracing::trace!(%error, "a connection to the health server ended early");
            }
            false
        }
        _ = evicted => false,
        () = sleep(LIFETIME) => true,
        () = super::server::stopped(&mut stop) => true,
    };
    if stopped {
        Pin::new(&mut connection).graceful_shutdown();
        if timeout(GRACE, &mut connection).await.is_err() {
            tracing::trace!("a connection to the health server is cut off");
        }
    }
    connection.into_parts().io.into_inner().stream
}

/// When the next answer to a connection's second and later requests is due, over all connections. What is pipelined
/// must not take the thread for itself; a first request is never kept waiting.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    next: Arc<Mutex<Instant>>,
}

impl Pace {
    /// From now on.
    pub(super) fn new() -> Self {
        Self { next: Arc::new(Mutex::new(Instant::now())) }
    }

    /// The moment of an answer on a connection that has had one before.
    fn turn(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = now.max(*next);
        *next = turn + BETWEEN_ANSWERS;
        turn.max(now + BETWEEN_ANSWERS_OF_ONE)
    }
}

/// A stream whose writes fail once the client has taken nothing for [`WRITE_TIME`].
struct Writing {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Writing {
    fn to(stream: TcpStream) -> Self {
        Self { stream, stalled: None }
    }
}

impl AsyncRead for Writing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Writing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(outcome) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            self.stalled = None;
            return Poll::Ready(outcome);
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIME)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const HEADER_BYTES: usize = 16 * 1024;
/// From the accept, or from the answer before, until the whole head of a request is there.
const HEADER_TIME: Duration = Duration::from_secs(2);
const WRITE_TIME: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_secs(60);
/// Between answers to pipelined requests, or to those of connections that are kept open: 500 a second in all ...
const BETWEEN_ANSWERS: Duration = Duration::from_millis(2);
/// ... and 50 a second on one connection.
const BETWEEN_ANSWERS_OF_ONE: Duration = Duration::from_millis(20);
/// For what is under way when the server stops.
pub(super) const GRACE: Duration = Duration::from_secs(1);
