//! The inserter, and what it is away with.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::error;

use super::Sent;
use super::isolation::Rest;
use crate::clickhouse::inserter::{Ended, Inserter};
use crate::clickhouse::presence::NotKnown;
use crate::clickhouse::schema::{DescribeError, Schema};

/// The inserter is here, or away with a job.
#[derive(Debug)]
pub(super) enum Slot {
    Here(Box<Inserter>),
    Away {
        job: JoinHandle<(Box<Inserter>, Done)>,
        what: Box<Job>,
    },
    /// Only while it changes hands.
    Empty,
}

#[derive(Debug)]
pub(super) enum Job {
    Insert(Sent),
    /// A part of a batch whose refused rows are looked for.
    Part {
        era: u64,
        rest: Rest,
        bytes: usize,
    },
    /// Which rows of a part the table holds.
    Presence {
        era: u64,
        rest: Rest,
    },
    Ask,
}

impl Job {
    /// Bytes of the body that is on the wire.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Insert(Sent { bytes, .. }) | Self::Part { bytes, .. } => *bytes,
            Self::Presence { .. } | Self::Ask => 0,
        }
    }
}

#[derive(Debug)]
pub(super) enum Done {
    Insert(Ended),
    Present(Result<BTreeMap<String, u64>, NotKnown>),
    Described(Result<Arc<Schema>, DescribeError>),
    Probed,
}

/// The inserter's return. May be cancelled.
pub(super) async fn back(slot: &mut Slot) -> (Box<Inserter>, Done) {
    let Slot::Away { job, .. } = slot else { return std::future::pending().await };
    match job.await {
        Ok(back) => back,
        Err(panic) => {
            // With panic = "abort" nobody comes here: a task that panicked took the process with it.
            error!(%panic, "the inserter's task ended without a result");
            std::future::pending().await
        }
    }
}
