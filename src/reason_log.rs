//! The one place that knows since when each reason stands, and that logs it: an ERROR when it begins or its cause
//! changes, one each minute while it lasts, an INFO when it has ended.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::movement::Movement;
use crate::progress::Progress;
use crate::reasons::{Class, Reason, Snapshot};

/// Since when a reason stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// By the wall clock.
    pub time: SystemTime,
    /// By the monotonic clock.
    pub instant: Instant,
}

/// What the endpoints need beside a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Since when each reason stands, by class and subject.
    pub since: BTreeMap<(Class, String), Since>,
    /// Events wait, and no part says why.
    pub unexplained: Option<Reason>,
}

/// Looks at what the parts publish, logs the reasons and publishes since when they stand. Batches are closed after
/// `batch_age`. Never returns; may be cancelled.
pub async fn watch_reasons(mut progress: Progress, standing: watch::Sender<Standing>, batch_age: Duration) {
    let mut log = ReasonLog::default();
    let mut movement = Movement::new(batch_age);
    loop {
        let now = Instant::now();
        let snapshot = Snapshot::of(&progress);
        let mut reasons = snapshot.reasons(now);
        let unexplained = movement.observe(&snapshot.kafka, !reasons.is_empty(), now);
        reasons.extend(unexplained.clone());
        for line in log.observe(reasons, SystemTime::now(), now) {
            line.write();
        }
        standing.send_if_modified(|published| {
            let now = Standing { since: log.since(), unexplained };
            let changed = *published != now;
            *published = now;
            changed
        });
        // What changes does not have to be seen within the microsecond: a busy pipeline publishes often.
        sleep(LOOK_INTERVAL).await;
        tokio::select! {
            // Once a publisher has ended, its channel is closed and always ready: the interval above still holds.
            _ = progress.kafka.changed() => {}
            _ = progress.insert.changed() => {}
            _ = progress.pipeline.changed() => {}
            // Some reasons begin by time alone.
            () = sleep(TIME_INTERVAL) => {}
        }
    }
}

/// Between two looks, at least: how late a reason may be logged.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks, at most.
const TIME_INTERVAL: Duration = Duration::from_millis(400);
/// A lasting reason is logged again after this long.
const FOLD: Duration = Duration::from_secs(60);
/// A reason that comes back within this time has not ended.
const LINGER: Duration = Duration::from_secs(2);
/// How long a start may wait for first answers before that is an ERROR.
const START_GRACE: Duration = Duration::from_secs(10);
/// Causes of one reason that are logged at once between two folded lines: a cause that alternates is not news.
const CAUSES: usize = 8;

/// A line to log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Began(Reason),
    Changed { reason: Reason, lasted: Duration },
    Folded { reason: Reason, lasted: Duration, failures: u64 },
    Ended { reason: Reason, lasted: Duration },
}

impl Line {
    fn write(&self) {
        match self {
            Self::Began(reason) => {
                let Reason { class, subject, cause, action, .. } = reason;
                tracing::error!(class = class.name(), subject, cause, action, "events wait");
            }
            Self::Changed { reason: Reason { class, subject, cause, action, .. }, lasted } => {
                let for_s = lasted.as_secs();
                tracing::error!(class = class.name(), subject, cause, action, for_s, "events wait, with a new cause");
            }
            Self::Folded { reason: Reason { class, subject, cause, action, .. }, lasted, failures } => {
                let for_s = lasted.as_secs();
                tracing::error!(class = class.name(), subject, cause, action, for_s, failures, "events still wait");
            }
            Self::Ended { reason: Reason { class, subject, cause, .. }, lasted } => {
                let after_s = lasted.as_secs();
                tracing::info!(class = class.name(), subject, cause, after_s, "events no longer wait for this");
            }
        }
    }
}

/// The reasons that stand, and what was logged of them.
#[derive(Debug, Default)]
struct ReasonLog {
    open: BTreeMap<(Class, String), Open>,
}

#[derive(Debug)]
struct Open {
    /// As it was seen last.
    reason: Reason,
    since: Since,
    seen: Instant,
    failures_before: u64,
    /// When it was last logged; `None` while a start waits within its grace.
    logged: Option<Instant>,
    /// Causes logged since the last folded line.
    causes: Vec<String>,
}

impl ReasonLog {
    /// Takes the present reasons; what is to be logged about them.
    fn observe(&mut self, reasons: Vec<Reason>, time: SystemTime, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        for reason in reasons {
            let open = self.open.entry((reason.class, reason.subject.clone())).or_insert_with(|| Open {
                reason: reason.clone(),
                since: Since { time, instant: now },
                seen: now,
                failures_before: reason.failures,
                logged: None,
                causes: Vec::new(),
            });
            lines.extend(open.observe(reason, now));
        }
        self.open.retain(|_, open| {
            if now < open.seen + LINGER {
                return true;
            }
            if open.logged.is_some() {
                let lasted = open.seen.saturating_duration_since(open.since.instant);
                lines.push(Line::Ended { reason: open.reason.clone(), lasted });
            }
            false
        });
        lines
    }

    fn since(&self) -> BTreeMap<(Class, String), Since> {
        self.open.iter().map(|(key, open)| (key.clone(), open.since)).collect()
    }
}

impl Open {
    fn observe(&mut self, reason: Reason, now: Instant) -> Option<Line> {
        let lasted = now.saturating_duration_since(self.since.instant);
        let failures = reason.failures.saturating_sub(self.failures_before);
        self.seen = now;
        self.reason = reason.clone();
        let known = self.causes.contains(&reason.cause);
        let line = match self.logged {
            None if reason.waiting && lasted < START_GRACE => return None,
            None => Line::Began(reason.clone()),
            Some(logged) if now >= logged + FOLD => {
                self.causes.clear();
                Line::Folded { reason: reason.clone(), lasted, failures }
            }
            Some(_) if known || self.causes.len() >= CAUSES => return None,
            Some(_) => Line::Changed { reason: reason.clone(), lasted },
        };
        // A new cause does not put off the next folded line.
        if !matches!(line, Line::Changed { .. }) {
            self.logged = Some(now);
        }
        self.causes.push(reason.cause);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(cause: &str, failures: u64) -> Reason {
        Reason {
            class: Class::Kafka,
            subject: "Kafka".to_owned(),
            cause: cause.to_owned(),
            action: "",
            failures,
            waiting: false,
        }
    }

    #[derive(Debug)]
    struct Clock {
        start: Instant,
        log: ReasonLog,
    }

    impl Clock {
        fn new() -> Self {
            Self { start: Instant::now(), log: ReasonLog::default() }
        }

        fn at(&mut self, seconds: u64, reasons: &[Reason]) -> Vec<Line> {
            let now = self.start + Duration::from_secs(seconds);
            self.log.observe(reasons.to_vec(), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), now)
        }
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn begins_at_once_folds_each_minute_and_ends() {
        let mut clock = Clock::new();
        assert_eq!(clock.at(0, &[reason("refused", 7)]), [Line::Began(reason("refused", 7))]);
        assert_eq!(clock.at(59, &[reason("refused", 20)]), []);
        let folded = Line::Folded { reason: reason("refused", 21), lasted: seconds(60), failures: 14 };
        assert_eq!(clock.at(60, &[reason("refused", 21)]), [folded]);
        let folded = Line::Folded { reason: reason("refused", 40), lasted: seconds(120), failures: 33 };
        assert_eq!(clock.at(120, &[reason("refused", 40)]), [folded]);
        assert_eq!(clock.at(121, &[]), [], "it may come back");
        assert_eq!(clock.at(123, &[]), [Line::Ended { reason: reason("refused", 40), lasted: seconds(120) }]);
        assert_eq!(clock.at(124, &[]), []);
        assert_eq!(clock.log.since(), BTreeMap::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_cause_is_logged_at_once_and_an_alternating_one_is_not_news() {
        let mut clock = Clock::new();
        clock.at(0, &[reason("refused", 1)]);
        let changed = Line::Changed { reason: reason("login", 2), lasted: seconds(5) };
        assert_eq!(clock.at(5, &[reason("login", 2)]), [changed]);
        for second in 6..60 {
            let cause = if second % 2 == 0 { "refused" } else { "login" };
            assert_eq!(clock.at(second, &[reason(cause, second)]), []);
        }
        assert!(matches!(clock.at(60, &[reason("login", 60)])[..], [Line::Folded { .. }]));
        let lines: usize = (1..50).map(|n| clock.at(61, &[reason(&format!("port {n}"), 61)]).len()).sum();
        assert_eq!(lines, CAUSES - 1, "a cause with a number in it does not flood the log");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_is_given_time_unless_something_fails() {
        let waiting = |cause| Reason { waiting: true, ..reason(cause, 0) };
        let mut clock = Clock::new();
        assert_eq!(clock.at(0, &[waiting("no answer yet")]), []);
        assert_eq!(clock.at(3, &[]), [], "answered: nothing to say");
        let mut clock = Clock::new();
        clock.at(0, &[waiting("no answer yet")]);
        assert_eq!(clock.at(10, &[waiting("no answer yet")]), [Line::Began(waiting("no answer yet"))]);
        let mut clock = Clock::new();
        clock.at(0, &[waiting("no answer yet")]);
        assert_eq!(clock.at(1, &[reason("refused", 1)]), [Line::Began(reason("refused", 1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_at_once_has_lasted() {
        let mut clock = Clock::new();
        clock.at(0, &[reason("refused", 1)]);
        for second in 1..50 {
            let present = [reason("refused", second)];
            assert_eq!(clock.at(second, if second % 2 == 0 { &present } else { &[] }), []);
        }
        let key = (Class::Kafka, "Kafka".to_owned());
        assert_eq!(clock.log.since().get(&key).map(|since| since.time), Some(SystemTime::UNIX_EPOCH));
    }
}
