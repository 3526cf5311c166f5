//! Events at a steady rate for as long as a test needs them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use sample_events::produce::{Options, produce};

/// A thread that produces until it is stopped.
#[derive(Debug)]
pub(crate) struct Load {
    start: u64,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Load {
    /// Sends the options' events, and then the next ones, again and again.
    pub(crate) fn start(options: Options) -> Self {
        let (start, stop, sent) = (options.start, Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut options = options;
            let mut uncertain = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let produced = runtime.block_on(produce(&options)).unwrap_or_else(|error| panic!("load: {error}"));
                uncertain.extend(produced.uncertain);
                options.start += options.count;
                count.fetch_add(options.count, Ordering::Relaxed);
            }
            uncertain
        });
        Self { start, sent, stop, thread }
    }

    /// The indices of what was sent. Panics when the confirmation of one was lost.
    pub(crate) fn stop(self) -> Range<u64> {
        let (indices, uncertain) = self.stop_uncertain();
        assert!(uncertain.is_empty(), "the brokers have not confirmed {} events", uncertain.len());
        indices
    }

    /// The indices of what was sent, and those among them that may or may not be in the topic.
    pub(crate) fn stop_uncertain(self) -> (Range<u64>, Vec<u64>) {
        self.stop.store(true, Ordering::Relaxed);
        let uncertain = self.thread.join().unwrap();
        (self.start..self.start + self.sent.load(Ordering::Relaxed), uncertain)
    }
}
