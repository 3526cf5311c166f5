//! What the fetcher does about starts and about partitions that cannot be fetched.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Fetcher, LONG_PAUSE, METADATA_INTERVAL};
use crate::kafka::error::{code_name, read_acl};
use crate::kafka::faults::pause_after;
use crate::kafka::fetching::{Fetched, Stage};
use crate::kafka::group::Committed;
use crate::kafka::leader::{Leader, Trouble};
use crate::kafka::start::{Start, Why};

impl Fetcher {
    pub(super) async fn started(
        &mut self,
        leader: &mut Leader,
        partition: i32,
        start: Start,
        epoch: i32,
        now: Instant,
    ) {
        match start {
            Start::At { offset, why } => {
                log_start(partition, offset, why);
                let (cuts, lost) = match why {
                    Why::Deleted { lost, .. } => (0, lost),
                    Why::Cut { lost, .. } => (1, lost),
                    _ => (0, 0),
                };
                let lost = u64::try_from(lost).unwrap_or(0);
                self.progress.send_modify(|progress| {
                    progress.errors += lost + cuts;
                    progress.log_cuts += cuts;
                });
                let held = leader.places.iter().any(|place| place.partition == partition && place.stage.is_held());
                if held {
                    self.park(leader, partition, now);
                    let cause = format!(
                        "the coordinator has not acknowledged the commit of its start at offset {offset}; nothing is read \
                         before"
                    );
                    self.progress.send_modify(|progress| progress.failed(partition, cause, now));
                }
                if self.out.send(Fetched::Start { partition, offset, epoch, held }).await.is_err() {
                    debug!("nobody listens to the fetcher any more");
                }
            }
            Start::Wait { why } => {
                error!(partition, why, "the partition waits");
                self.park(leader, partition, now + METADATA_INTERVAL);
                self.progress.send_modify(|progress| progress.blocked_by(partition, why, now));
            }
        }
    }

    pub(super) fn trouble(&mut self, leader: &mut Leader, partition: i32, trouble: Trouble, now: Instant) {
        self.count_error();
        let broker = format!("broker {} at {}", leader.node, leader.address);
        match trouble {
            Trouble::OutOfRange { position } => {
                let tries = self.progress.borrow().faults.tries(partition);
                let cause = format!("{broker} says that offset {position} is out of range");
                self.progress.send_modify(|progress| progress.failed(partition, cause, now));
                if tries == 0 {
                    warn!(partition, position, "the position is outside the log; asking where the log is");
                }
                let epoch = leader.epoch_of(partition);
                let known = Committed { offset: position, leader_epoch: epoch, note: None };
                leader.set_stage(partition, Stage::Unresolved(Some(known)));
                // Not before new metadata: the topic may be another one by now.
                let pause = if tries == 0 { Duration::ZERO } else { pause_after(tries) };
                self.park(leader, partition, now + pause);
                self.metadata.leaders.remove(&partition);
                self.metadata.due = self.metadata.due.min(now);
            }
            Trouble::TooLarge { position, limit } => {
                let why = format!(
                    "the record batch of partition {partition} at offset {position} does not fit into {limit} bytes; \
                     raise MEMORY_BUDGET_BYTES"
                );
                self.progress.send_modify(|progress| progress.blocked_by(partition, why, now));
                self.park(leader, partition, now + METADATA_INTERVAL);
            }
            Trouble::Unreadable => self.park(leader, partition, now + METADATA_INTERVAL),
            Trouble::Code(29) => {
                let topic = &self.settings.topic;
                let why = format!("no right to read the topic {topic}; grant it: {}", read_acl(topic));
                self.progress.send_modify(|progress| progress.blocked_by(partition, why, now));
                self.park(leader, partition, now + LONG_PAUSE);
            }
            // The leader moved, is being elected, or the topic (of this id) is gone: the metadata will tell.
            Trouble::Code(code) => {
                self.refused(leader, partition, format!("{broker} answers with {}", code_name(code)), now);
            }
            Trouble::Contradiction { what } => {
                self.refused(leader, partition, format!("{broker} answers with what was not asked: {what}"), now);
            }
        }
    }

    /// Asks the metadata who leads the partition, and that broker again after a pause that grows.
    fn refused(&mut self, leader: &mut Leader, partition: i32, cause: String, now: Instant) {
        debug!(partition, cause, "cannot fetch a partition");
        self.progress.send_modify(|progress| progress.failed(partition, cause, now));
        let tries = self.progress.borrow().faults.tries(partition);
        self.metadata.leaders.remove(&partition);
        self.metadata.due = self.metadata.due.min(now);
        self.park(leader, partition, now + pause_after(tries));
    }

    pub(super) fn park(&mut self, leader: &mut Leader, partition: i32, until: Instant) {
        for place in leader.release(|index| index == partition) {
            self.parked.insert(partition, (place.stage, until));
        }
    }

    pub(super) fn block(&self, partition: i32, why: String) {
        self.progress.send_modify(|progress| {
            progress.blocked_partitions.insert(partition, why);
        });
    }

    pub(super) fn count_error(&self) {
        self.progress.send_modify(|progress| progress.errors += 1);
    }
}

fn log_start(partition: i32, offset: i64, why: Why) {
    match why {
        Why::Committed => info!(partition, offset, "starts at the committed offset"),
        Why::Earliest => info!(partition, offset, "no committed offset: starts at the log's start (earliest)"),
        Why::Latest => info!(partition, offset, "no committed offset: starts at the log's end (latest)"),
        Why::NewPartition => info!(partition, offset, "a new partition: starts at the log's start"),
        Why::Deleted { committed, lost } => error!(
            partition,
            offset,
            committed,
            lost,
            "the log was deleted up to behind the committed offset: these offsets are lost; goes on at the log's start"
        ),
        Why::Cut { position, epoch, end, end_epoch, lost } => error!(
            partition,
            offset,
            position,
            position_epoch = epoch,
            log_end = end,
            end_epoch,
            lost,
            "the log was cut below what was read already (an unclean election, or a broker lost data): records between the \
             two offsets are stored and no longer in Kafka; goes on at the cut"
        ),
        Why::BeyondEnd { committed, end } => error!(
            partition,
            offset,
            committed,
            end,
            "the committed offset lies behind the log's end: the log was cut; goes on at the log's start"
        ),
        Why::Recreated { committed } => {
            error!(partition, offset, committed, "the topic was created anew; goes on at the log's start");
        }
    }
}
