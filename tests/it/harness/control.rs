//! What the machine itself does to a thread that only sleeps: what a test measures comes on top of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

const TICK: Duration = Duration::from_millis(10);

/// Such a thread, until it is stopped.
#[derive(Debug)]
pub(crate) struct Control {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Lateness>,
}

impl Control {
    pub(crate) fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut ticks = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(TICK);
                ticks.push((SystemTime::now(), began.elapsed().saturating_sub(TICK)));
            }
            Lateness { ticks }
        });
        Self { stop, thread }
    }

    /// Ends it; how late it woke up each time.
    pub(crate) fn stop(self) -> Lateness {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// When the thread woke up, and by how much too late.
#[derive(Debug)]
pub(crate) struct Lateness {
    ticks: Vec<(SystemTime, Duration)>,
}

impl Lateness {
    /// The most that it was late.
    pub(crate) fn most(&self) -> Duration {
        self.ticks.iter().map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// All its lateness between two times in milliseconds since 1970: what the machine took away from whoever waited there.
    pub(crate) fn between(&self, from_ms: u64, to_ms: u64) -> Duration {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let within = self.ticks.iter().filter(|(woke, _)| (at(from_ms)..=at(to_ms)).contains(woke));
        within.map(|(_, late)| *late).sum()
    }
}
