//! Gets blocks into the table: the retry loop around one insert, and the questions asked beside it.

mod refusal;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::asking;
use super::block::{Block, quoted, statement};
use super::client::{Answer, Client};
use super::error::{Failure, Outcome};
use super::evidence::Parts;
use super::prober::{Prober, probe};
use super::schema::{Dedup, DescribeError, Schema, describe};
use super::settings::{self, MAX_EXECUTION_TIME, TOKEN};
use super::targets::{self, BlindView, ViewTarget};
use super::tries::{NOT_OURS, Tries, stopped};
use crate::config::{ClickHouseConfig, TlsFiles};
use crate::fence::Fence;
use crate::net::tls::{TlsClient, TlsFileError};
use crate::progress::InsertProgress;

/// A block and the token that names its rows: the same token only ever goes with the same bytes.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The rows.
    pub block: Block,
    /// `insert_deduplication_token`.
    pub token: String,
}

/// How an insert ended.
#[derive(Debug)]
pub enum Ended {
    /// The rows are in the table.
    Stored {
        /// How many.
        rows: u64,
        /// From the first attempt to the good answer.
        took: Duration,
        /// Attempts made.
        attempts: u32,
    },
    /// Given up: the rows are someone else's now, or this process ends.
    Forgotten {
        /// Why.
        why: &'static str,
        /// An attempt may have stored the rows, or may still.
        on_wire_unknown: bool,
    },
    /// The table is no longer what the block was made for: describe it, encode anew. Or rows are refused with a code that
    /// usually means this.
    SchemaChanged {
        /// What the server said.
        failure: Failure,
        /// Some of the rows may be stored: the table can be asked which, from then on. `None` when none is.
        ask_at: Option<Instant>,
        /// An insert of no rows into these columns is refused with the same code: rows are not at fault.
        without_rows: bool,
    },
    /// The server refuses what is in the block.
    BadRows {
        /// What the server said.
        failure: Failure,
        /// Some of the rows may be stored: the table can be asked which, from then on. `None` when none is; only then may
        /// they be split.
        ask_at: Option<Instant>,
    },
}

/// The one way to the table. Owns the connection; one request at a time.
#[derive(Debug)]
pub struct Inserter {
    client: Client,
    tls: Option<TlsClient>,
    config: ClickHouseConfig,
    progress: watch::Sender<InsertProgress>,
    /// Tells this process's query ids from those of another that sends the same token.
    nonce: u64,
    sent: u64,
    /// No other address is asked: an earlier insert may have stored its rows at this one.
    stay: bool,
    /// Whether the table's replicas share what they know of tokens, so that any address is as good.
    shared: bool,
    /// Settings that only tune, and that the user's profile does not let us change.
    left_out: BTreeSet<&'static str>,
    /// The table could not be described when it was asked for last.
    missing: bool,
    /// Refused rows are looked for: that the table takes inserts as such has been seen.
    searching: bool,
    /// What a refusal may leave stored, and when that was asked.
    parts: Option<(Instant, Parts)>,
}

impl Inserter {
    /// An inserter that has not connected yet.
    ///
    /// # Errors
    /// When an address is https and its CA file cannot be used.
    pub fn new(config: ClickHouseConfig, progress: watch::Sender<InsertProgress>) -> Result<Self, TlsFileError> {
        // RandomState is keyed at random per process.
        let nonce = RandomState::new().build_hasher().finish();
        let secure = config.addresses.iter().any(|address| address.tls);
        let files = TlsFiles { ca: config.ca_file.clone(), client: None };
        let tls = secure.then(|| TlsClient::load(&files)).transpose()?;
        Ok(Self {
            client: Client::new(config.clone(), tls.clone()),
            tls,
            config,
            progress,
            nonce,
            sent: 0,
            stay: false,
            shared: false,
            left_out: BTreeSet::new(),
            missing: false,
            searching: false,
            parts: None,
        })
    }

    /// Who asks, beside inserts, whether the server answers.
    pub fn prober(&self) -> Prober {
        Prober::new(self.config.clone(), self.tls.clone(), self.progress.clone())
    }

    /// Whether an insert of before may have stored its rows, though its outcome was not waited for: until it is sent
    /// again and stored, questions and inserts stay with the address that it went to.
    pub fn stay(&mut self, stay: bool) {
        self.stay = stay;
    }

    /// Asks for the table's columns and what the server knows.
    pub async fn describe(&mut self) -> Result<Arc<Schema>, DescribeError> {
        let described = self.describe_again().await;
        let connected = match &described {
            Err(DescribeError::Failed(failure)) => failure.is_contact(),
            Err(DescribeError::Garbled { .. }) => false,
            _ => true,
        };
        if let Ok(schema) = &described {
            self.shared = schema.dedup == Dedup::Replicated;
        }
        if !connected {
            self.leave_address();
        }
        self.progress.send_modify(|progress| {
            progress.connected = connected;
            progress.failure = described.as_ref().err().filter(|_| !connected).map(ToString::to_string);
            match &described {
                Ok(schema) => {
                    // What an insert was refused for lasts until one is stored.
                    if self.missing {
                        progress.blocked = None;
                    }
                    progress.dedup = Some(schema.dedup.to_string());
                }
                // Passes by itself, or shows with the next insert.
                Err(DescribeError::Failed(Failure { outcome: Outcome::Retry | Outcome::Overloaded, .. })) => {}
                Err(cause) => progress.blocked = Some(format!("nothing can be stored: {cause}")),
            }
        });
        self.missing = match &described {
            Ok(_) => false,
            Err(DescribeError::Failed(Failure { outcome: Outcome::Retry | Outcome::Overloaded, .. })) => self.missing,
            Err(_) => true,
        };
        described.map(Arc::new)
    }

    /// Asks again at once where an answer is none to what was asked.
    async fn describe_again(&mut self) -> Result<Schema, DescribeError> {
        let mut pauses = REASK_PAUSES.into_iter();
        loop {
            let described = describe(&mut self.client, &self.config.database, &self.config.table).await;
            match (&described, pauses.next()) {
                (Err(cause @ DescribeError::Garbled { .. }), Some(pause)) => {
                    tracing::warn!(%cause, "an answer about the table is none to what was asked; asking again");
                    self.client.disconnect();
                    sleep(pause).await;
                }
                _ => return described,
            }
        }
    }

    /// Asks for nothing, as the configured user: is the server there, and is the login good?
    pub async fn probe(&mut self) -> Result<(), Failure> {
        let failure = probe(&mut self.client).await.err();
        self.contact(failure.as_ref());
        match failure {
            None => Ok(()),
            Some(failure) => {
                self.leave_address();
                Err(failure)
            }
        }
    }

    /// Asks for the tables that the table's materialized views write to.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn view_targets(&mut self) -> Result<Vec<ViewTarget>, DescribeError> {
        targets::targets(&mut self.client, &self.config.database, &self.config.table).await
    }

    /// The zone in which the server shows times whose type names none.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn time_zone(&mut self) -> Result<String, DescribeError> {
        let (zone,): (String,) =
            asking::row(&mut self.client, "SELECT timezone() FORMAT JSONCompactEachRow", &[]).await?;
        Ok(zone)
    }

    /// The table's views that may not read what the user inserts.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn blind_views(&mut self, schema: &Schema) -> Result<Vec<BlindView>, DescribeError> {
        targets::blind_views(&mut self.client, schema).await
    }

    /// Inserts no rows into the columns that events fill, as a run does it with rows: says what the server has against
    /// it, and changes nothing.
    ///
    /// # Errors
    /// When an insert with rows would fail, too.
    pub async fn insert_nothing(&mut self, schema: &Schema) -> Result<(), Failure> {
        let columns: Vec<String> = schema.columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = statement(schema, &columns.join(","));
        loop {
            let seconds = self.max_execution_time();
            let answer = self.client.query(&sql, &self.settings(schema, &seconds)).await?;
            match Failure::of_insert(&answer, 0) {
                None => return Ok(()),
                Some(failure) if self.leave_out(&failure) => {}
                Some(failure) => return Err(failure),
            }
        }
    }

    /// The settings that inserts carry, as far as the user's profile lets them.
    pub fn settings<'a>(&self, schema: &'a Schema, max_execution_time: &'a str) -> Vec<(&'a str, &'a str)> {
        let safe = schema.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all = [(MAX_EXECUTION_TIME, max_execution_time)].into_iter().chain(safe);
        all.filter(|(name, _)| !self.left_out.contains(name)).collect()
    }

    /// Seconds, below the request's own limit, so that an insert nobody waits for ends on the server too.
    pub fn max_execution_time(&self) -> String {
        self.config.timeout.mul_f32(0.9).as_secs().max(1).to_string()
    }

    /// Whether an insert was refused for a setting that only tunes: from now on it is left out.
    fn leave_out(&mut self, failure: &Failure) -> bool {
        let Some(setting) = settings::constrained(failure).filter(|setting| self.left_out.insert(setting)) else {
            return false;
        };
        tracing::info!(setting, cause = %failure, "the user's profile does not allow a setting that only tunes; left out");
        true
    }

    /// Sends a block until its outcome is known: the same bytes, token and settings each time, and the same address
    /// while an attempt of unknown outcome may still take effect there.
    ///
    /// Before each attempt `fence` must hold. Once `stop` says true, patience ends: rows that are certainly not stored
    /// are given up at once, in the middle of a pause too. While an attempt of unknown outcome may have stored them,
    /// attempts go on with short pauses, until the outcome is known or nobody has listened at the address for
    /// 3 s: what was taken there before is done by then, or never will be.
    ///
    /// A request on the wire is cut short by its own time limit only. Must not be cancelled: its outcome would be lost.
    pub async fn insert(&mut self, insert: &Insert, fence: &mut Fence, stop: &mut watch::Receiver<bool>) -> Ended {
        let started = Instant::now();
        let mut tries = Tries::new();
        loop {
            if !fence.holds() {
                return tries.forgotten(NOT_OURS);
            }
            tries.made += 1;
            let mut progress = self.progress.subscribe();
            let returned = progress.borrow().returned;
            let sent = Instant::now();
            let Some(mut failure) = self.attempt(insert, tries.made).await else {
                self.stored(&insert.block, sent.elapsed());
                if tries.made > 1 {
                    tracing::info!(attempts = tries.made, rows = insert.block.rows, "the insert went through");
                }
                return Ended::Stored { rows: insert.block.rows, took: started.elapsed(), attempts: tries.made };
            };
            if self.leave_out(&failure) {
                self.client.disconnect();
                continue;
            }
            let refused = matches!(failure.outcome, Outcome::SchemaChanged | Outcome::BadRows);
            if !refused || failure.is_in_a_200() {
                self.client.disconnect();
            }
            if refused {
                let without_rows = self.is_refused_without_rows(insert, &failure).await;
                failure.nothing_stored = failure.nothing_stored || self.proves_nothing_stored(insert, &failure).await;
                let ask_at = tries.ask_at(&failure, self.config.timeout);
                if failure.outcome == Outcome::SchemaChanged {
                    self.failed(&failure, None);
                    return Ended::SchemaChanged { failure, ask_at, without_rows };
                }
                if !without_rows {
                    self.failed(&failure, None);
                    return Ended::BadRows { failure, ask_at };
                }
                failure.outcome = Outcome::Misconfigured;
            }
            if !failure.nothing_stored {
                tries.doubtful_at = Some(sent);
            }
            tries.note_refusal(&failure);
            self.choose_address(&mut tries, &failure, insert);
            let pause = tries.pause(&failure);
            if failure.is_unconfirmed() && matches!(insert.block.schema.dedup, Dedup::Off | Dedup::Behind) {
                if let Some(why) = self.await_confirmation(insert, &failure, fence, stop).await {
                    return tries.forgotten(why);
                }
                continue;
            }
            self.failed(&failure, tries.blocked(&failure));
            tries.log(&failure, insert, pause);
            if let Some(why) = tries.rest(pause, fence, stop, &mut progress, returned).await {
                return tries.forgotten(why);
            }
        }
    }

    /// Waits until answers confirm again what is stored. An insert that the table does not recognise would be stored once
    /// more by each repetition, so that one is sent again only once, after something has changed. `Some` when it is not to
    /// be sent again, and why.
    async fn await_confirmation(
        &mut self,
        insert: &Insert,
        failure: &Failure,
        fence: &mut Fence,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<&'static str> {
        let schema = &insert.block.schema;
        let why = format!(
            "nothing can be stored: {failure}; the table does not recognise repeated inserts, so this one is not repeated \
             while answers stay so; {}, then start again: the batch may be stored twice",
            failure.cure()
        );
        tracing::error!(rows = insert.block.rows, cause = %failure, "ClickHouse does not say whether it has stored a batch");
        self.failed(failure, Some(why));
        let mut confirmed = self.confirms(schema).await.unwrap_or(true);
        loop {
            tokio::select! {
                biased;
                () = stopped(stop) => return Some("stopping, and ClickHouse does not say what it has stored"),
                () = fence.broken() => return Some(NOT_OURS),
                () = sleep(CONFIRMATION_PAUSE) => {}
            }
            match self.confirms(schema).await {
                Some(true) if !confirmed => return None,
                Some(now) => confirmed = now,
                // No answer says nothing.
                None => {}
            }
        }
    }

    /// Whether the answers to inserts say how many rows are stored; `None` without such an answer.
    pub async fn confirms(&mut self, schema: &Schema) -> Option<bool> {
        match self.insert_nothing(schema).await {
            Ok(()) => Some(true),
            Err(failure) => failure.is_unconfirmed().then_some(false),
        }
    }

    async fn attempt(&mut self, insert: &Insert, number: u32) -> Option<Failure> {
        let Insert { block, token } = insert;
        let schema = &block.schema;
        self.sent += 1;
        let seconds = self.max_execution_time();
        let query_id = format!("{token}-{number}-{:x}-{}", self.nonce, self.sent);
        let mut parameters = vec![("decompress", "1"), ("query_id", query_id.as_str())];
        if schema.takes_token {
            parameters.push((TOKEN, token));
        }
        parameters.extend(self.settings(schema, &seconds));
        match self.client.send(&parameters, block.body.clone()).await {
            Ok(mut answer) => {
                if self.is_anothers(&answer, &query_id) {
                    // Whatever it confirms, it is not these rows.
                    answer.written_rows = None;
                }
                Failure::of_insert(&answer, block.rows)
            }
            Err(cause) => Some(cause.into()),
        }
    }

    /// Whether an answer is the one to an earlier insert of this process, doubled or late on the way. A proxy may give
    /// queries ids of its own, so that any other id says nothing.
    fn is_anothers(&self, answer: &Answer, query_id: &str) -> bool {
        let ours = format!("-{:x}-", self.nonce);
        answer.query_id.as_ref().is_some_and(|id| id != query_id && id.contains(&ours))
    }

    /// A retry of unknown outcome goes where the first went, unless the table's replicas share what they know of
    /// tokens; after a definite refusal any address will do.
    fn choose_address(&mut self, tries: &mut Tries, failure: &Failure, insert: &Insert) {
        tries.unknown |= !failure.nothing_stored;
        let shared = insert.block.schema.dedup == Dedup::Replicated;
        if (tries.unknown || self.stay) && !shared {
            if !tries.pinned {
                self.client.pin();
                tries.pinned = true;
            }
        } else if !failure.is_contact() || shared {
            self.client.next_address();
        }
    }

    /// Another address may do better, where one may be asked.
    fn leave_address(&mut self) {
        if self.shared || !self.stay {
            self.client.next_address();
        }
    }

    fn contact(&self, failure: Option<&Failure>) {
        let connected = failure.is_none_or(Failure::is_contact);
        let failure = failure.filter(|_| !connected).map(ToString::to_string);
        self.progress.send_if_modified(|progress| {
            let changed = progress.connected != connected || progress.failure != failure;
            progress.connected = connected;
            progress.failure = failure;
            changed
        });
    }

    fn stored(&mut self, block: &Block, took: Duration) {
        self.client.unpin();
        self.progress.send_modify(|progress| {
            progress.connected = true;
            progress.failure = None;
            progress.rows += block.rows;
            progress.rounded += block.rounded;
            progress.batches += 1;
            progress.took.add(took);
            progress.last_stored_at = Some(SystemTime::now());
            progress.blocked = None;
        });
    }

    fn failed(&self, failure: &Failure, blocked: Option<String>) {
        self.progress.send_modify(|progress| {
            progress.connected = failure.is_contact();
            progress.failure = (!progress.connected).then(|| failure.to_string());
            progress.failed_attempts += 1;
            if blocked.is_some() {
                progress.blocked = blocked;
            }
        });
    }
}

/// Between two looks at whether answers confirm what is stored.
const CONFIRMATION_PAUSE: Duration = Duration::from_secs(2);
/// Before the table is asked for again where an answer was none.
const REASK_PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
