//! What the loop does when the group or the program's end says so.

use tracing::info;

use super::{Phase, Pipeline};
use crate::batch::Why;
use crate::kafka::consumer::Event;

impl Pipeline {
    pub(super) fn membership(&mut self, event: Event) {
        match event {
            Event::Assigned { partitions, plan } => {
                info!(?partitions, "assigned");
                self.begin_era();
                self.seen.of_topic(self.consumer.topic_id());
                self.assigned = partitions.into_iter().collect();
                self.hold_until = None;
                match self.phase {
                    Phase::Flushing | Phase::Leaving => {}
                    Phase::Idle | Phase::Working | Phase::Draining => self.phase = Phase::Working,
                }
                self.patience.send_replace(false);
                if let Some(plan) = plan.filter(|_| self.phase == Phase::Working) {
                    self.take_up(plan);
                }
            }
            Event::Revoking { why, .. } => match self.phase {
                Phase::Idle | Phase::Working => {
                    // What was not sent is read again by whoever owns the partitions then.
                    info!(why, on_the_wire = self.is_inserting(), "finishing what is on the wire");
                    self.consumer.stop_reading();
                    self.forget_unsent();
                    self.phase = Phase::Draining;
                    self.note_doubts();
                    self.isolation = None;
                    self.patience.send_replace(true);
                }
                Phase::Draining | Phase::Flushing | Phase::Leaving => {}
            },
            Event::Moved { partition } => {
                if self.batch.is_empty() {
                    self.log_was_cut(partition);
                } else {
                    // The ranges of one batch must not go back.
                    self.close(Why::Moved);
                }
                self.commit_from_here(partition);
            }
            Event::Lost { why } => {
                info!(why, "the partitions are gone");
                self.begin_era();
                match self.phase {
                    Phase::Flushing => self.leave(),
                    Phase::Leaving => {}
                    Phase::Idle | Phase::Working | Phase::Draining => self.phase = Phase::Idle,
                }
            }
            Event::Acknowledged => self.acknowledged(),
            Event::Records | Event::Ended(_) => {}
        }
    }

    /// Ends the phases that wait for the wire.
    pub(super) fn settle(&mut self) {
        let busy = self.is_inserting() || self.waiting.is_some() || !self.mailbox.is_empty();
        match self.phase {
            Phase::Draining if !busy => {
                self.consumer.drained();
                self.phase = Phase::Idle;
            }
            Phase::Flushing if !busy => self.leave(),
            _ => {}
        }
    }

    pub(super) fn begin_stop(&mut self) {
        info!(phase = ?self.phase, rows_held = !self.batch.is_empty(), "stopping: storing what is held");
        match self.phase {
            Phase::Working if self.hold_until.is_none() && self.isolation.is_none() => {
                self.consumer.stop_reading();
                self.flush();
                self.phase = Phase::Flushing;
                self.note_doubts();
            }
            _ => {
                self.consumer.stop_reading();
                self.forget_unsent();
                self.phase = Phase::Flushing;
                self.note_doubts();
                self.isolation = None;
            }
        }
        self.patience.send_replace(true);
    }

    /// Closes what is open, behind what may be waiting already.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.waiting.is_some() || self.batch.counts_only() || self.is_undecided() {
            // Only one can wait, and what is held back for a verdict gets none now: it is read again after the next start.
            self.batch.forget();
        } else {
            self.close(Why::Stopping);
        }
    }

    fn leave(&mut self) {
        self.phase = Phase::Leaving;
        self.consumer.leave();
    }
}
