//! What the loop does with batches that may be stored though nobody has said so.
//!
//! Here they are read again with the same ranges and sent with the same token. When the partitions are given away first,
//! the ranges are noted beside the committed offsets, and the next owner does it. Without deduplication in the table none
//! of it would help, and no notes are made or heeded.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::isolation::{Isolation, Stand};
use super::{Headway, Job, Phase, Pipeline, Search, Slot};
use crate::clickhouse::schema::Dedup;
use crate::ledger::Tallies;
use crate::offsets::Ranges;
use crate::part::{Part, Plan};

/// How long the reading of what an earlier owner sent may stand still: a log can have been cut, a leader can be away,
/// and the owner's other events must not wait for ever.
const STUCK: Duration = Duration::from_secs(60);
/// An earlier owner may have had a larger budget: so many times one's own is read at once, not more.
const BUDGETS: usize = 4;

impl Pipeline {
    /// Begins an assignment with what an earlier owner may have stored.
    pub(super) fn take_up(&mut self, plan: Plan) {
        if self.schema.dedup == Dedup::Off {
            info!(
                "an earlier owner may have stored events behind its commits; the table cannot tell: reading them anew"
            );
            return;
        }
        info!(
            parts = plan.parts.len(),
            partitions = ?plan.own.keys().collect::<Vec<_>>(),
            "an earlier owner may have stored events behind its commits; sending them again as they were"
        );
        let batch = self.next_batch;
        self.next_batch += 1;
        let mut ranges = Ranges::default();
        for (partition, (from, resume)) in &plan.own {
            ranges.passed(*partition, *from, *resume);
        }
        self.tracker.closed(batch, &ranges, Tallies::new());
        // An insert of the earlier owner may still be under way.
        let (now, ask_at) = (Instant::now(), Instant::now() + self.settings.insert_limit);
        let stand = |part: Part| {
            let stand = if part.asks() { Stand::Ask(ask_at) } else { Stand::Maybe(ask_at) };
            (part.sending(), stand)
        };
        let parts = plan.parts.into_iter().map(stand);
        self.isolation = Some(Search {
            isolation: Isolation::of(batch, parts, self.budget(), now),
            from: plan.own.iter().map(|(partition, (from, _))| (*partition, *from)).collect(),
            resume: plan.own.iter().map(|(partition, (_, resume))| (*partition, *resume)).collect(),
            inherited: Some(Headway { behind: i64::MAX, since: now }),
            cause: None,
        });
    }

    /// Reads a batch that may be stored again, with its ranges, before anything else.
    pub(super) fn send_again(&mut self, batch: u64, ranges: &Ranges) {
        let (now, ask_at) = (Instant::now(), Instant::now() + self.settings.insert_limit);
        self.search(Isolation::of_own(batch, ranges, Stand::Maybe(ask_at), self.budget(), now), ranges);
        if self.hold_until.is_none() {
            self.hold_back();
        }
    }

    pub(super) fn search(&mut self, isolation: Isolation, ranges: &Ranges) {
        let mut resume = self.forget_unsent();
        resume.extend(ranges.iter().map(|(partition, range)| (partition, range.next)));
        let from = ranges.iter().map(|(partition, range)| (partition, range.first)).collect();
        self.isolation = Some(Search { isolation, from, resume, inherited: None, cause: None });
    }

    /// Bytes of records that a search may hold: the open batch is empty meanwhile.
    pub(super) fn budget(&self) -> usize {
        self.settings.shape.bytes / 2
    }

    /// When a reading will have stood still for too long.
    pub(super) fn stuck_at(&self) -> Option<Instant> {
        let search = self.isolation.as_ref().filter(|_| self.wants_records())?;
        search.inherited.map(|headway| headway.since + STUCK)
    }

    /// Gives up what an earlier owner sent when it cannot be read.
    pub(super) fn watch_reading(&mut self) {
        let now = Instant::now();
        let consumer = &self.consumer;
        let Some(Search { isolation, inherited: Some(headway), .. }) = &mut self.isolation else { return };
        if !isolation.is_reading() {
            headway.behind = i64::MAX;
            return;
        }
        let behind = isolation.behind(|partition| consumer.position(partition));
        if behind < headway.behind {
            *headway = Headway { behind, since: now };
        }
        if now >= headway.since + STUCK {
            self.give_up_search("it cannot be read", None);
        } else if isolation.bytes() > BUDGETS * self.settings.shape.bytes {
            self.give_up_search("it is larger than the memory budget here", None);
        }
    }

    /// A partition goes on elsewhere than where it stood.
    pub(super) fn log_was_cut(&mut self, partition: i32) {
        if self.isolation.as_ref().is_some_and(|search| search.isolation.reads(partition)) {
            self.give_up_search("the log no longer has it", Some(partition));
        }
    }

    /// Goes back to reading as if nothing had been sent, after a cut of `moved` where that goes on.
    fn give_up_search(&mut self, why: &str, moved: Option<i32>) {
        let Some(Search { isolation, from, mut resume, inherited, .. }) = self.isolation.take() else { return };
        warn!(why, "what may be stored cannot be sent again as it was; it is read anew and may be stored twice");
        self.forget(isolation.batch);
        resume.extend(from);
        if let Some(moved) = moved {
            let to = self.consumer.position(moved).filter(|_| self.assigned.contains(&moved));
            // What lies before the cut is still there to be read, or lost and to be counted so.
            let again = resume.remove(&moved).zip(to).map(|(from, to)| from.min(to));
            resume.extend(again.map(|position| (moved, position)));
        }
        self.read_on(&resume, inherited.is_some());
    }

    /// Reads on behind a search. What an earlier owner sent may lie in partitions of which this member reads nothing, or
    /// from elsewhere: their positions in the search mean nothing for the reading behind it.
    pub(super) fn read_on(&mut self, resume: &BTreeMap<i32, i64>, inherited: bool) {
        if inherited {
            self.consumer.begin_at(resume);
        } else {
            self.seek(resume);
        }
    }

    /// The partitions are being given away, and this part may be stored.
    pub(super) fn doubt(&mut self, part: Part) {
        if self.schema.dedup == Dedup::Off {
            return;
        }
        if !self.doubts.contains(&part) {
            self.doubts.push(part);
        }
        self.consumer.in_doubt(self.doubts.clone());
    }

    /// Notes all that may be stored and is not committed, once the partitions are being given away: early, as the group
    /// or the program's end may not wait for the outcome. What is committed after all is no longer open then.
    pub(super) fn note_doubts(&mut self) {
        if !matches!(self.phase, Phase::Draining | Phase::Flushing) {
            return;
        }
        let mut parts: Vec<Part> = self.unsettled.values().flatten().cloned().collect();
        match &self.slot {
            Slot::Away { what, .. } => match &**what {
                Job::Insert(sent) if sent.era == self.era && self.is_whole(sent.batch, &sent.ranges) => {
                    parts.push(Part::of(&sent.ranges));
                }
                Job::Part { era, rest, .. } | Job::Presence { era, rest } if *era == self.era => {
                    parts.push(rest.part().clone());
                }
                Job::Insert(_) | Job::Part { .. } | Job::Presence { .. } | Job::Ask => {}
            },
            Slot::Here(_) | Slot::Empty => {}
        }
        if let Some(search) = &self.isolation {
            parts.extend(search.isolation.parts());
        }
        parts.into_iter().for_each(|part| self.doubt(part));
    }
}
