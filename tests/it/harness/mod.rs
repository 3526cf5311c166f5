//! Real Kafka, real ClickHouse and the real program, started and watched by the tests.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) mod bench;
pub(crate) mod clickhouse;
pub(crate) mod cluster;
pub(crate) mod consumer;
pub(crate) mod fleet;
pub(crate) mod guarded;
pub(crate) mod http;
pub(crate) mod java;
pub(crate) mod kafka;
pub(crate) mod load;
pub(crate) mod member;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod valve;
pub(crate) mod veil;

#[path = "../../support/cache.rs"]
mod cache;
#[path = "../../support/scratch.rs"]
mod scratch;

pub(crate) use bench::{Bench, Table};
pub(crate) use clickhouse::ClickHouse;
pub(crate) use consumer::Consumer;
pub(crate) use fleet::{Fleet, Series, rounds};
pub(crate) use kafka::Kafka;
pub(crate) use load::Load;
pub(crate) use member::Member;
pub(crate) use scratch::scratch;

/// Looks until the closure says `Ok`. Panics after the limit with what was waited for and the state seen last.
pub(crate) fn wait_until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(state) => assert!(began.elapsed() < limit, "not within {limit:?}: {what}; last seen: {state}"),
        }
        pause(began);
    }
}

/// Between two looks at a state that is waited for since `began`: each look costs the machine something, so what takes
/// long is looked at less often.
pub(crate) fn pause(began: Instant) {
    thread::sleep((began.elapsed() / 10).clamp(Duration::from_millis(40), Duration::from_millis(250)));
}

/// `Ok` when the two are equal, else what is seen: for [`wait_until`].
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(seen: T, wanted: T) -> Result<T, String> {
    if seen == wanted { Ok(seen) } else { Err(format!("{seen:?} instead of {wanted:?}")) }
}

/// A port that nobody listens on now, each time another: a server that is told to take it does so a little later. Below
/// those that the kernel gives to outgoing connections, of which the tests have many meanwhile.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const PORTS: u64 = 22_000;
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()) % PORTS);
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let mut ports = (0..PORTS).map(|_| FIRST + ((*START + GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS) as u16);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where dev/setup has put Kafka and the Python environment.
pub(crate) fn cache() -> PathBuf {
    let cache = cache::cache();
    let python = cache.join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run dev/setup", python.display());
    cache
}
