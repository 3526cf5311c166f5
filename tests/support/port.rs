//! Ports for servers that are told theirs.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A port that nobody listens on now, each time another: a server that is told to take it does so a little later. Below
/// those that the kernel gives to outgoing connections (ip_local_port_range), of which the tests have many meanwhile.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const PORTS: u64 = 22_000;
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()) % PORTS);
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let mut ports = (0..PORTS).map(|_| FIRST + ((*START + GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS) as u16);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
