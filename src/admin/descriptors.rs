//! File descriptors: how many the health port may use, and some kept in reserve for it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::net::TcpListener;

/// How many connections the health port may have: a quarter of the descriptors, so that Kafka and ClickHouse keep
/// theirs whatever happens on the port.
pub(super) fn connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_else(|error| {
        tracing::debug!(%error, "the limit of file descriptors is not known");
        String::new()
    });
    share(open_files(&limits))
}

/// The soft limit in the text of /proc/self/limits, proc(5); `None` when there is no such number.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn share(open_files: Option<usize>) -> usize {
    open_files.map_or(MOST, |limit| limit / 4).clamp(FEWEST, MOST)
}

/// Whether the process (EMFILE) or the system (ENFILE) has no descriptor left.
pub(super) fn exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Descriptors that are held only to be given back when there are no others: the probe is answered with them.
#[derive(Debug)]
pub(super) struct Reserve {
    held: Vec<OwnedFd>,
}

impl Reserve {
    /// Takes as many as there are, at most [`RESERVED`].
    pub(super) fn new(listener: &TcpListener) -> Self {
        let mut reserve = Self { held: Vec::with_capacity(RESERVED) };
        reserve.refill(listener);
        reserve
    }

    /// Takes again what was released, as far as there are descriptors.
    pub(super) fn refill(&mut self, listener: &TcpListener) {
        while self.held.len() < RESERVED {
            match listener.as_fd().try_clone_to_owned() {
                Ok(descriptor) => self.held.push(descriptor),
                // The next connection that ends gives one back.
                Err(error) => {
                    tracing::trace!(%error, "no file descriptor for the reserve");
                    return;
                }
            }
        }
    }

    /// Gives one back to the system; false when none is left.
    pub(super) fn release(&mut self) -> bool {
        self.held.pop().is_some()
    }
}

const MOST: usize = 128;
const FEWEST: usize = 8;
/// How many descriptors the reserve holds, and with them how many connections there are while there are no others.
pub(super) const RESERVED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn a_quarter_within_bounds() {
        let shares = [Some(0), Some(40), Some(64), Some(1 << 20), None].map(share);
        assert_eq!(shares, [8, 10, 16, 128, 128]);
    }

    #[tokio::test]
    async fn what_is_released_is_taken_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut reserve = Reserve::new(&listener);
        for _ in 0..RESERVED {
            assert!(reserve.release());
        }
        assert!(!reserve.release());
        reserve.refill(&listener);
        assert!(reserve.release());
    }
}
