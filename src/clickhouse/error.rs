//! What an answer to an insert means: one table by exception code, because the HTTP status says little (500 covers bad
//! rows, overload and transient faults alike). Codes: `ErrorCodes.cpp`, or system.errors on the server.

use std::time::{Duration, SystemTime};

use chrono::NaiveDateTime;
use thiserror::Error;

use super::client::{Answer, ClientError};
use crate::net::ConnectError;

/// What has to happen with the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The rows are in the table.
    Stored,
    /// The same bytes, the same token, the same address, after a pause.
    Retry,
    /// The same after a longer pause.
    Overloaded,
    /// The table is no longer what the batch was encoded for.
    SchemaChanged,
    /// The server refuses what is in the batch. Whether rows or the table are at fault is found by repetition, and what is
    /// stored all the same by [`Failure::nothing_stored`] and by asking the table.
    BadRows,
    /// Nothing will go in until a person acts: keep everything, say so, keep trying.
    Misconfigured,
}

/// A failed attempt.
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct Failure {
    /// What has to happen; never [`Outcome::Stored`].
    pub outcome: Outcome,
    /// This attempt is known to have stored nothing. Otherwise its rows may be in the table, or may still get there.
    pub nothing_stored: bool,
    /// The server asked for at least this pause.
    pub retry_after: Option<Duration>,
    /// What happened.
    #[source]
    pub cause: Cause,
}

/// What went wrong.
#[derive(Debug, Error)]
pub enum Cause {
    /// No whole answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An exception of the server.
    #[error("ClickHouse says {text}")]
    Server {
        /// Its number.
        code: u32,
        /// HTTP status.
        status: u16,
        /// Its text, shortened; begins with `Code: N.`.
        text: String,
    },
    /// An answer that is not ClickHouse's.
    #[error("HTTP status {status} without an exception code (a proxy on the way?): {text}")]
    Http {
        /// HTTP status.
        status: u16,
        /// Its text, shortened.
        text: String,
    },
    /// The request is larger than something on the way takes.
    #[error("HTTP status {status}: {sent} bytes are more than a proxy on the way takes: {text}")]
    TooLarge {
        /// HTTP status.
        status: u16,
        /// Bytes of the body that was sent.
        sent: usize,
        /// Its text, shortened.
        text: String,
    },
    /// An answer with an exception code that is no number, or with more than one.
    #[error("HTTP status {status} with {odd:?}: {text}")]
    OddCode {
        /// HTTP status.
        status: u16,
        /// The code.
        odd: String,
        /// Its text, shortened.
        text: String,
    },
    /// A 200 that does not confirm the rows.
    #[error("ClickHouse answered 200, but confirmed {written:?} of {sent} rows; text: {text:?}")]
    Unconfirmed {
        /// Rows sent.
        sent: u64,
        /// `written_rows`, where the answer had it.
        written: Option<u64>,
        /// The body, which must be empty.
        text: String,
    },
}

impl Failure {
    /// Judges the answer to an insert of `rows` rows.
    pub fn of_insert(answer: &Answer, rows: u64) -> Option<Self> {
        let verdict = |outcome, nothing_stored, cause| {
            Some(Self { outcome, nothing_stored, retry_after: answer.retry_after, cause })
        };
        let text = clipped(&answer.text);
        if let Some(odd) = &answer.odd_code {
            let (status, odd) = (answer.status, odd.clone());
            return verdict(Outcome::Retry, answer.cut, Cause::OddCode { status, odd, text });
        }
        let Some(code) = answer.code else {
            if answer.status == 200 {
                // Materialized views add their rows to the count, so more than were sent is usual.
                let whole = answer.text.is_empty() && !answer.cut;
                if whole && answer.written_rows.is_some_and(|written| written >= rows) {
                    return None;
                }
                let written = answer.written_rows;
                return verdict(Outcome::Retry, answer.cut, Cause::Unconfirmed { sent: rows, written, text });
            }
            let (outcome, nothing_stored, cause) = of_proxy(answer, text);
            return verdict(outcome, nothing_stored || answer.cut, cause);
        };
        let (outcome, nothing_stored) = judge(code, &answer.text);
        if outcome == Outcome::Stored {
            return None;
        }
        let asked = if code == QUOTA { quota_ends_in(&answer.text, SystemTime::now()) } else { None };
        // After a 200 the server had begun to answer: how far it came is unknown.
        let nothing_stored = nothing_stored && answer.status != 200 || answer.cut;
        // The number is in the text, where there is one: after a 200 it may be in a header alone.
        let text = if answer.text.is_empty() {
            format!("exception code {code}, without a text")
        } else {
            clipped(&answer.text)
        };
        let cause = Cause::Server { code, status: answer.status, text };
        Some(Self { outcome, nothing_stored, retry_after: answer.retry_after.max(asked), cause })
    }

    /// Judges the answer to a query that changes nothing.
    pub fn of_query(answer: &Answer) -> Option<Self> {
        if answer.status == 200 && answer.code.is_none() && answer.odd_code.is_none() {
            return None;
        }
        Self::of_insert(answer, 0)
    }

    /// An answer that is none to what was asked.
    pub fn foreign(answer: &Answer) -> Self {
        let cause = Cause::Http { status: answer.status, text: clipped(&answer.text) };
        Self { outcome: Outcome::Retry, nothing_stored: false, retry_after: None, cause }
    }

    /// The server's number, if it was the server that failed.
    pub fn code(&self) -> Option<u32> {
        match &self.cause {
            Cause::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The server answered and let us in, so it is there and the login is good.
    pub fn is_contact(&self) -> bool {
        self.code().is_some_and(|code| !LOGIN.contains(&code))
    }

    /// The user lacks a right, which the text names.
    pub fn is_denied(&self) -> bool {
        self.code() == Some(DENIED)
    }

    /// Whether [`Outcome::BadRows`] is the fault of single rows. A block with too many partitions is refused for what its
    /// rows are together.
    pub fn blames_rows(&self) -> bool {
        self.code() != Some(252)
    }

    /// A whole, empty 200 that does not say that the rows are stored, and says nothing else. They are, most likely.
    pub fn is_unconfirmed(&self) -> bool {
        matches!(&self.cause, Cause::Unconfirmed { text, .. } if text.is_empty()) && !self.nothing_stored
    }

    /// Whether the server had begun to answer before it failed: how far it came is unknown.
    pub fn is_in_a_200(&self) -> bool {
        matches!(self.cause, Cause::Server { status: 200, .. })
    }

    /// The row of the block that the text names, from 0 on. To be verified: texts are made for people.
    pub fn named_row(&self) -> Option<usize> {
        let Cause::Server { text, .. } = &self.cause else { return None };
        let (_, rest) = text.split_once(VIOLATED)?;
        let digits = rest.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits.get(..end)?.parse::<usize>().ok()?.checked_sub(1)
    }

    /// Whether a shard of a Distributed table says it: it is another table there, and other shards may have stored rows.
    pub fn is_of_a_shard(&self) -> bool {
        matches!(&self.cause, Cause::Server { text, .. } if SHARD.iter().any(|words| text.contains(words)))
    }

    /// Nobody listens at the address: no request is under way there any more.
    pub fn is_refused(&self) -> bool {
        matches!(&self.cause, Cause::Client(ClientError::Connect(ConnectError::Dial(cause))) if cause.is_refused())
    }

    /// What a person can do about it.
    pub fn cure(&self) -> &'static str {
        match &self.cause {
            Cause::Client(ClientError::Password(_) | ClientError::Unsendable(_)) => {
                "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD"
            }
            Cause::Client(ClientError::Timeout { .. }) => "see why the server is slow, or raise CLICKHOUSE_TIMEOUT_MS",
            Cause::Client(_) => "check that the server runs and that CLICKHOUSE_URL is right",
            Cause::Http { .. } => "check CLICKHOUSE_URL and what stands between this program and ClickHouse",
            Cause::TooLarge { status: 413, .. } => {
                "raise the proxy's limit for bodies (nginx: client_max_body_size), or lower BATCH_SIZE and start again"
            }
            Cause::TooLarge { .. } => "raise the proxy's limits for request lines and headers",
            Cause::OddCode { .. } => "check what stands between this program and ClickHouse: it changes answers",
            Cause::Unconfirmed { .. } => {
                "let what stands between this program and ClickHouse pass the header X-ClickHouse-Summary with its \
                 written_rows"
            }
            Cause::Server { code: DENIED, text, .. } if is_of_view(text) => {
                "grant the user what the view reads, or give the view SQL SECURITY DEFINER; the table itself may hold the \
                 rows already"
            }
            Cause::Server { text, .. } if is_of_view(text) => {
                "repair the materialized view; the table itself may hold the rows already"
            }
            Cause::Server { code, .. } => cure(*code),
        }
    }
}

/// What an answer without an exception code means that is no success: ClickHouse's own have one.
fn of_proxy(answer: &Answer, text: String) -> (Outcome, bool, Cause) {
    let Answer { status, sent, .. } = *answer;
    match status {
        // About the request's size or its head alone: it was not passed on.
        413 | 414 | 431 => (Outcome::Misconfigured, true, Cause::TooLarge { status, sent, text }),
        429 => (Outcome::Overloaded, false, Cause::Http { status, text }),
        // 400: what is left of an earlier request on a reused connection can look like a broken one.
        400 | 408 | 500.. => (Outcome::Retry, false, Cause::Http { status, text }),
        _ => (Outcome::Misconfigured, false, Cause::Http { status, text }),
    }
}

impl From<ClientError> for Failure {
    fn from(cause: ClientError) -> Self {
        let outcome = match &cause {
            ClientError::NoAddress
            | ClientError::Password(_)
            | ClientError::Unsendable(_)
            | ClientError::Request(_) => Outcome::Misconfigured,
            ClientError::Connect(_)
            | ClientError::NotSent { .. }
            | ClientError::Broken { .. }
            | ClientError::Timeout { .. } => Outcome::Retry,
        };
        Self { outcome, nothing_stored: cause.is_before_the_end(), retry_after: None, cause: cause.into() }
    }
}

/// ACCESS_DENIED.
const DENIED: u32 = 497;
/// QUOTA_EXCEEDED.
const QUOTA: u32 = 201;

/// When the quota's interval ends, from now on. The text has the server's local time: where that is not UTC, the pause is
/// wrong and the next attempt fails once more, or comes later by what the inserter waits at most.
fn quota_ends_in(text: &str, now: SystemTime) -> Option<Duration> {
    let (_, rest) = text.split_once("nterval will end at ")?;
    let time = NaiveDateTime::parse_from_str(rest.get(..19)?, "%Y-%m-%d %H:%M:%S").ok()?.and_utc();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).ok()?);
    // A second more: the text is cut to seconds.
    (end + Duration::from_secs(1)).duration_since(now).ok()
}

/// In the text of whatever a materialized view throws: the table itself holds the rows by then.
const VIEW: &str = "while pushing to view";

/// Whether a text is of a view: its words end the text. In the middle they may be a row's own, as values are quoted there.
fn is_of_view(text: &str) -> bool {
    text.rsplit_once(VIEW).is_some_and(|(_, tail)| !tail.contains(['\'', '"']))
}

/// Refused logins.
const LOGIN: [u32; 6] = [192, 193, 194, 195, 516, 720];

/// In the text of a violated constraint, before the number of a row. Constraints are looked at before a part is written.
const VIOLATED: &str = "is violated at row ";
/// In the texts of refusals that come from a shard.
const SHARD: [&str; 2] = ["Insertion status:", "Received from "];

/// The table: outcome, and whether the answer by itself proves that nothing was stored. It names the kinds that are about
/// the service (and no others): every number that it does not name may be thrown by an expression of the table over a
/// row, and is judged by repetition.
fn judge(code: u32, text: &str) -> (Outcome, bool) {
    if is_of_view(text) {
        return (Outcome::Misconfigured, false);
    }
    match code {
        // INSERT_WAS_DEDUPLICATED.
        389 => (Outcome::Stored, false),
        // Columns gone, renamed, made MATERIALIZED, or of another type: so it may be, the table is asked.
        8 | 10 | 16 | 20 | 44 | 47 | 50 | 53 | 70 => (Outcome::SchemaChanged, false),
        117 if text.contains("Unknown column with name") => (Outcome::SchemaChanged, false),
        // The number of partitions in one block, which has the same code as too many parts.
        252 if text.contains("partitions for single INSERT block") => (Outcome::BadRows, true),
        469 if text.contains(VIOLATED) => (Outcome::BadRows, !SHARD.iter().any(|words| text.contains(words))),
        // Refused before anything was written: parts, concurrent queries, sessions, connections, quotas.
        201 | 202 | 203 | 252 | 290 | 700 | 745 | 749 => (Outcome::Overloaded, true),
        // Memory, threads, mutations, a Distributed table's backlog: met on the way.
        241 | 364 | 439 | 574 | 692 => (Outcome::Overloaded, false),
        // Login, rights, settings, no table or no cluster.
        60 | 81 | 115 | 164 | 192..=195 | 218 | 452 | 497 | 516 | 701 | 720 | 741 => (Outcome::Misconfigured, true),
        // Time and network.
        95 | 96 | 159 | 160 | 198 | 209 | 210 | 279 | 394 | 412 | 425 | 519 => (Outcome::Retry, false),
        // Keeper and replicas; an outcome that the server itself does not know; an earlier attempt that still runs.
        216 | 225 | 236 | 242 | 244 | 254 | 285 | 286 | 289 | 319 | 341 | 384 | 415 | 473 | 529 | 659 | 734 | 735
        | 738 | 999 => (Outcome::Retry, false),
        // Disk and object storage; a body damaged on the way.
        40 | 74..=76 | 89 | 173 | 243 | 271 | 354 | 499 | 561 | 618 | 1000 => (Outcome::Retry, false),
        _ => (Outcome::BadRows, false),
    }
}

fn cure(code: u32) -> &'static str {
    match code {
        60 | 81 | 218 | 741 => {
            "create the database and the table (sql/events.sql), or correct CLICKHOUSE_DATABASE and CLICKHOUSE_TABLE"
        }
        192..=195 | 516 | 720 => "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD, and from where the user may log in",
        DENIED => "grant the user INSERT on the table, and SELECT where views hang on it",
        164 => "give the user a profile that is not read-only",
        115 | 452 => "let the user's profile and its constraints allow the settings of the insert",
        48 => "CLICKHOUSE_TABLE must name a table that takes inserts, not a view",
        252 => "let merges catch up; larger batches (BATCH_SIZE, BATCH_TIMEOUT_MS) make fewer parts",
        // Some of its parts may be stored, so it is not sent in halves: those would have other tokens.
        241 => {
            "give the server, or the user (max_memory_usage), more memory: this batch goes in as it is; a smaller \
             BATCH_SIZE spares later ones"
        }
        201 => "raise the user's quota, or wait for its interval to end",
        202 | 203 | 290 | 439 | 700 | 745 | 749 => {
            "the server is at a limit of queries or connections: raise it or lower the load"
        }
        242 | 225 | 999 => "the table has lost its Keeper: restore it",
        243 => "free disk space on the server",
        _ => "see the server's log",
    }
}

/// The first line of a text, at most 400 characters.
pub(crate) fn clipped(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    let mut out: String = line.chars().take(400).collect();
    if out.len() < line.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
