//! What the program says about itself.

#[cfg(test)]
pub(crate) mod capture;
pub mod log;

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// A time as /health, /status and the log write it: RFC 3339, UTC, microseconds, `Z`.
pub fn timestamp(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Micros, true)
}
