//! How late the program's own timer fires: what the one thread does in one go keeps everything else waiting, heartbeats
//! among it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Between two looks. A stall is seen all but for so much of it.
const TICK: Duration = Duration::from_millis(10);
/// A stall is told of for one to two of these, so that it is seen between two scrapes.
const WINDOW: Duration = Duration::from_secs(30);

/// Publishes the longest stall of the last 30 to 60 s, for ever. May be cancelled.
pub async fn watch_loop(stall: watch::Sender<Duration>) {
    let mut windows = Windows::new(Instant::now());
    loop {
        let due = Instant::now() + TICK;
        sleep_until(due).await;
        let now = Instant::now();
        let longest = windows.note(now, now.saturating_duration_since(due));
        stall.send_if_modified(|stall| std::mem::replace(stall, longest) != longest);
    }
}

/// The longest of this window and of the one before.
#[derive(Debug)]
struct Windows {
    began: Instant,
    this: Duration,
    last: Duration,
}

impl Windows {
    fn new(now: Instant) -> Self {
        Self { began: now, this: Duration::ZERO, last: Duration::ZERO }
    }

    fn note(&mut self, now: Instant, late: Duration) -> Duration {
        if now.saturating_duration_since(self.began) >= WINDOW {
            self.began = now;
            self.last = std::mem::take(&mut self.this);
        }
        self.this = self.this.max(late);
        self.this.max(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_told_of_for_one_to_two_windows() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut windows = Windows::new(start);
        assert_eq!(windows.note(start + ms(10), ms(1)), ms(1));
        assert_eq!(windows.note(start + ms(20), ms(70)), ms(70));
        assert_eq!(windows.note(start + ms(30), ms(2)), ms(70));
        assert_eq!(windows.note(start + WINDOW, ms(3)), ms(70), "the window before still counts");
        assert_eq!(windows.note(start + WINDOW * 2 - ms(1), ms(2)), ms(70));
        assert_eq!(windows.note(start + WINDOW * 2, ms(2)), ms(3));
        assert_eq!(windows.note(start + WINDOW * 4, ms(0)), ms(2));
    }

    #[tokio::test]
    async fn work_in_one_go_is_seen() {
        let (stall, seen) = watch::channel(Duration::ZERO);
        let watching = tokio::spawn(watch_loop(stall));
        tokio::time::sleep(Duration::from_millis(30)).await;
        std::thread::sleep(Duration::from_millis(200));
        tokio::time::sleep(Duration::from_millis(30)).await;
        let longest = *seen.borrow();
        assert!(longest >= Duration::from_millis(180), "{longest:?}");
        watching.abort();
    }
}
