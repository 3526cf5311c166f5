//! The program's own numbers, held against each other and against the table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// What one process says became of the events that it settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) consumed: u64,
    pub(crate) inserted: u64,
    pub(crate) rejected: u64,
    pub(crate) tombstones: u64,
}

impl Ledger {
    /// As /metrics has it.
    pub(crate) fn of_metrics(text: &str) -> Result<Self, String> {
        let sum = |family: &str| {
            let name = format!("sandarb_consumer_{family}_total");
            let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(&name));
            let numbers = samples.map(|line| line.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()));
            numbers.sum::<Option<u64>>().ok_or_else(|| format!("{name} in {text}"))
        };
        Ok(Self {
            consumed: sum("events_consumed")?,
            inserted: sum("events_inserted")?,
            rejected: sum("events_rejected")?,
            tombstones: sum("tombstones")?,
        })
    }

    /// As the last line of a run has it; `None` where there is no such line.
    pub(crate) fn of_log(lines: &[Value]) -> Option<Self> {
        let line = lines.iter().rev().find(|line| line["msg"] == "stopped" || line["msg"] == "ended")?;
        let number = |name: &str| line[name].as_u64();
        Some(Self {
            consumed: number("consumed_total")?,
            inserted: number("inserted_total")?,
            rejected: number("rejected_total")?,
            tombstones: number("tombstones_total")?,
        })
    }

    /// Every consumed event was inserted or rejected.
    pub(crate) fn assert_adds_up(self, whose: &str) {
        let Self { consumed, inserted, rejected, .. } = self;
        assert_eq!(consumed, inserted + rejected, "{whose}: consumed is not inserted and rejected: {self:?}");
    }

    /// No count has fallen since.
    pub(crate) fn assert_not_below(self, before: Self) {
        let counts = |of: Self| [of.consumed, of.inserted, of.rejected, of.tombstones];
        let fallen = counts(self).into_iter().zip(counts(before)).any(|(now, before)| now < before);
        assert!(!fallen, "{self:?} after {before:?}");
    }
}

/// How a process of a bench ended, as far as its numbers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It runs.
    Open,
    /// Its numbers are final.
    Ended(Ledger),
    /// Without a word: these are its last.
    Killed(Ledger),
}

/// The numbers of all processes that a bench has started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    processes: Vec<End>,
    /// Partitions that were lost and not given away: what was settled of them last may have been settled once more.
    losses: u64,
    /// Why the numbers and the table need not be the same.
    apart: Option<&'static str>,
}

/// Events by which the numbers may be off for each process that was killed or lost its partitions: two batches stored and
/// not committed, and what was settled between its last numbers and its end.
const SLACK: u64 = 4 * 2_000;

impl Books {
    /// One more process; its place.
    pub(crate) fn open(&self) -> usize {
        let mut state = self.state();
        state.processes.push(End::Open);
        state.processes.len() - 1
    }

    /// A process has ended with these numbers.
    pub(crate) fn ended(&self, place: usize, ledger: Ledger, losses: u64) {
        let mut state = self.state();
        state.processes[place] = End::Ended(ledger);
        state.losses += losses;
    }

    /// A process was killed; these were its last numbers.
    pub(crate) fn killed(&self, place: usize, ledger: Ledger) {
        self.state().processes[place] = End::Killed(ledger);
    }

    /// The table is not what these processes inserted, and why.
    pub(crate) fn set_apart(&self, why: &'static str) {
        self.state().apart = Some(why);
    }

    /// The events that these processes have inserted are the rows of the table. Says nothing while one of them runs.
    pub(crate) fn assert_inserted(&self, rows: u64) {
        let state = self.state();
        if state.apart.is_some() || state.processes.is_empty() || state.processes.contains(&End::Open) {
            return;
        }
        let (mut inserted, mut slack) = (0, state.losses * SLACK);
        for end in &state.processes {
            match end {
                End::Open => {}
                End::Ended(ledger) => inserted += ledger.inserted,
                End::Killed(ledger) => {
                    inserted += ledger.inserted;
                    slack += SLACK;
                }
            }
        }
        let off = inserted.abs_diff(rows);
        assert!(off <= slack, "{inserted} events counted as inserted, {rows} rows: {:?}", state.processes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
