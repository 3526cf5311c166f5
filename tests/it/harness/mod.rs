//! Real Kafka, real ClickHouse and the real program, started and watched by the tests.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) mod bench;
pub(crate) mod clickhouse;
pub(crate) mod cluster;
pub(crate) mod consumer;
pub(crate) mod fleet;
pub(crate) mod flood;
pub(crate) mod guarded;
pub(crate) mod http;
pub(crate) mod java;
pub(crate) mod kafka;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod member;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod tampered;
pub(crate) mod valve;
pub(crate) mod veil;

#[path = "../../support/cache.rs"]
mod cache;
#[path = "../../support/port.rs"]
mod port;
#[path = "../../support/scratch.rs"]
mod scratch;

pub(crate) use bench::{Bench, Table};
pub(crate) use clickhouse::ClickHouse;
pub(crate) use consumer::Consumer;
pub(crate) use fleet::{Fleet, Series, hold, rounds};
pub(crate) use kafka::Kafka;
pub(crate) use load::Load;
pub(crate) use member::Member;
pub(crate) use port::free_port;
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
