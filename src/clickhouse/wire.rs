//! One connection's bytes, watched: how much of a request's body was given to it, and whether writing failed. A request
//! whose body did not go out whole cannot have stored anything, and its answer may have come all the same.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

/// Bytes that are given to the connection in one piece.
const PIECE: usize = 64 * 1024;

/// What is known of the request under way on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Bytes of the body that were not given to the connection yet.
    left: usize,
    /// No more are given.
    ended: bool,
    /// What writing failed with. What was not written by then never is.
    failure: Option<String>,
}

impl Line {
    /// The body of the next request on the connection.
    pub(super) fn body(&self, bytes: Bytes) -> Sending {
        let mut state = self.state();
        state.left = bytes.len();
        state.ended = false;
        Sending { rest: bytes, line: self.clone() }
    }

    /// Ends the sending. `Some` when the body has not gone out whole and never will, with what writing failed with.
    pub(super) fn end(&self) -> Option<Option<String>> {
        let mut state = self.state();
        state.ended = true;
        (state.left > 0 || state.failure.is_some()).then(|| state.failure.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failed write, once. From then on the connection is only read: what the server said before it closed may be
    /// there still.
    fn failed(&self, cause: &io::Error) {
        self.state().failure.get_or_insert_with(|| cause.to_string());
    }

    fn has_failed(&self) -> bool {
        self.state().failure.is_some()
    }
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Sending {
    rest: Bytes,
    line: Line,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { rest, line } = self.get_mut();
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let mut state = line.state();
        if state.ended || state.failure.is_some() {
            // The connection is read until its end, or thrown away.
            return Poll::Pending;
        }
        let piece = rest.split_to(rest.len().min(PIECE));
        state.left = rest.len();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// A connection on which a failed write does not keep one from reading.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    line: Line,
}

impl Watched {
    pub(super) fn new(stream: Stream, line: Line) -> Self {
        Self { stream, line }
    }

    /// A failed write passes for one that went well, so that reading goes on.
    fn written(&self, done: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match done {
            Poll::Ready(Err(cause)) => {
                self.line.failed(&cause);
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.line.has_failed() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(done, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.line.has_failed() {
            return Poll::Ready(Ok(length));
        }
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(done, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.has_failed() {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(cause)) => {
                self.line.failed(&cause);
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
