//! Dead letters of stored batches, on their way: a batch is settled only when its letters are acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::error;

use crate::dead_letter::{DeadLetters, Delivered, Letter};
use crate::fence::Fence;

/// The letters of one batch.
#[derive(Debug)]
pub(super) struct Mail {
    /// The batch, whose rows are stored.
    pub(super) batch: u64,
    /// The era it was read in.
    pub(super) era: u64,
    /// Never empty.
    pub(super) letters: Vec<Letter>,
}

/// What is known of mail wherever it is.
#[derive(Debug)]
struct Tag {
    since: Instant,
    bytes: usize,
    partitions: BTreeSet<i32>,
}

/// Mail that waits, and the one that is under way.
#[derive(Debug)]
pub(super) struct Mailbox {
    desk: Desk,
    queue: VecDeque<(Mail, Tag)>,
}

#[derive(Debug)]
enum Desk {
    /// Dead letters are switched off.
    Off,
    Here(Box<DeadLetters>),
    Away {
        job: JoinHandle<(Box<DeadLetters>, Mail, Delivered)>,
        tag: Tag,
    },
    /// Only while it changes hands.
    Empty,
}

/// Mail that is not delivered after this long makes its partitions wait.
const LATE: Duration = Duration::from_secs(2);

impl Mailbox {
    /// An empty box; without `dead_letters` there is nowhere to write to.
    pub(super) fn new(dead_letters: Option<DeadLetters>) -> Self {
        let desk = dead_letters.map_or(Desk::Off, |dead_letters| Desk::Here(Box::new(dead_letters)));
        Self { desk, queue: VecDeque::new() }
    }

    /// Whether letters go anywhere.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.desk, Desk::Off)
    }

    /// Adds mail.
    pub(super) fn push(&mut self, mail: Mail) {
        let tag = Tag {
            since: Instant::now(),
            bytes: mail.letters.iter().map(Letter::bytes).sum(),
            partitions: mail.letters.iter().map(|letter| letter.partition).collect(),
        };
        self.queue.push_back((mail, tag));
    }

    /// Sends the oldest mail if nothing is under way.
    pub(super) fn send(&mut self, fence: impl FnOnce() -> Fence, patience: &watch::Sender<bool>) {
        if !matches!(self.desk, Desk::Here(_)) {
            return;
        }
        let Some((mail, tag)) = self.queue.pop_front() else { return };
        let (mut fence, mut stop) = (fence(), patience.subscribe());
        if let Desk::Here(mut dead_letters) = std::mem::replace(&mut self.desk, Desk::Empty) {
            let job = tokio::spawn(async move {
                let delivered = dead_letters.deliver(&mail.letters, &mut fence, &mut stop).await;
                (dead_letters, mail, delivered)
            });
            self.desk = Desk::Away { job, tag };
        }
    }

    /// The mail under way, delivered or not. May be cancelled.
    pub(super) async fn back(&mut self) -> (Mail, Delivered) {
        let Desk::Away { job, .. } = &mut self.desk else { return std::future::pending().await };
        match job.await {
            Ok((dead_letters, mail, delivered)) => {
                self.desk = Desk::Here(dead_letters);
                (mail, delivered)
            }
            Err(panic) => {
                // With panic = "abort" nobody comes here: a task that panicked took the process with it.
                error!(%panic, "the dead letters' task ended without a result");
                std::future::pending().await
            }
        }
    }

    /// Forgets what waits. What is under way comes back.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !matches!(self.desk, Desk::Away { .. })
    }

    /// Bytes of all letters here.
    pub(super) fn bytes(&self) -> usize {
        self.tags().map(|tag| tag.bytes).sum()
    }

    /// The partitions whose mail is late.
    pub(super) fn late(&self, now: Instant) -> BTreeSet<i32> {
        let late = self.tags().filter(|tag| now >= tag.since + LATE);
        late.flat_map(|tag| tag.partitions.iter().copied()).collect()
    }

    /// When the next mail becomes late.
    pub(super) fn late_at(&self, now: Instant) -> Option<Instant> {
        self.tags().map(|tag| tag.since + LATE).filter(|at| *at > now).min()
    }

    fn tags(&self) -> impl Iterator<Item = &Tag> {
        let away = match &self.desk {
            Desk::Away { tag, .. } => Some(tag),
            Desk::Off | Desk::Here(_) | Desk::Empty => None,
        };
        away.into_iter().chain(self.queue.iter().map(|(_, tag)| tag))
    }
}
