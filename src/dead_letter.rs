//! Events that cannot become rows, on their way to the dead-letter topic.
//!
//! A letter is the record bit for bit, with headers of ours behind its own. It is written at least once; its place
//! (cluster, topic, partition, offset) tells repetitions.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::clickhouse::error::{Cause, Failure};
use crate::decode::{Class, Origin, Reject};
use crate::fence::Fence;
use crate::kafka::producer::{ProduceError, Producer};
use crate::kafka::records::batch;
use crate::kafka::records::reader::Record;
use crate::kafka::records::write::{BatchWriter, Codec, Header, NewRecord};
use crate::progress::{Classes, PipelineProgress};

/// What all headers of ours begin with.
pub const PREFIX: &str = "sandarb.";

/// A record that cannot become a row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why it is here.
    pub reason: Reason,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// As they stood in the record: a count and that many pairs.
    headers: Vec<u8>,
}

/// Why a record is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The kind of fault in one word.
    pub class: &'static str,
    /// The column whose value does not fit.
    pub column: Option<String>,
    /// The fault in words.
    pub text: String,
    /// ClickHouse's error code, when it was the server that refused the row.
    pub code: Option<u32>,
}

impl Reason {
    /// The server refused the row.
    pub fn refused(failure: &Failure) -> Self {
        let text = match &failure.cause {
            Cause::Server { text, .. } => text.clone(),
            other => other.to_string(),
        };
        Self { class: SERVER, column: None, text: clipped(&text), code: failure.code() }
    }
}

impl From<&Reject> for Reason {
    fn from(reject: &Reject) -> Self {
        let column = reject.column.clone();
        Self { class: reject.class.name(), column, text: clipped(&reject.reason), code: None }
    }
}

impl Letter {
    /// A copy of a record, with the reason.
    pub fn of(record: &Record<'_>, reason: Reason) -> Self {
        Self {
            partition: record.partition,
            offset: record.offset,
            reason,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.to_vec(),
        }
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        Record {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
        }
    }

    /// The same for another reason.
    pub fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// Bytes it takes in memory, roughly.
    pub fn bytes(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        size_of::<Self>() + of(&self.key) + of(&self.value) + self.headers.len() + self.reason.text.len()
    }

    /// Appends it to a batch. `bare`: without what may be too large, which is the record itself.
    fn append(&self, writer: &mut BatchWriter, origin: &Origin, now: i64, bare: bool) -> bool {
        let ours = self.our_headers(origin, bare);
        let theirs = if bare { Some(Vec::new()) } else { batch::headers(&self.headers) };
        let mut headers: Vec<Header<'_>> = Vec::new();
        match &theirs {
            Some(theirs) => headers.extend(theirs),
            None => headers.push(Header { key: b"sandarb.headers", value: Some(&self.headers) }),
        }
        headers.extend(ours.iter().map(|(name, value)| Header { key: name.as_bytes(), value: Some(value.as_bytes()) }));
        let (key, value) = if bare { (None, None) } else { (self.key.as_deref(), self.value.as_deref()) };
        writer.append(&NewRecord { timestamp: now, key, value, headers: &headers }).is_ok()
    }

    fn our_headers(&self, origin: &Origin, bare: bool) -> Vec<(String, String)> {
        let Reason { class, column, text, code } = &self.reason;
        let mut headers = vec![("reason", text.clone()), ("class", (*class).to_owned())];
        headers.extend(column.clone().map(|column| ("column", column)));
        headers.extend(code.map(|code| ("code", code.to_string())));
        headers.extend([
            ("topic", origin.topic.clone()),
            ("partition", self.partition.to_string()),
            ("offset", self.offset.to_string()),
            ("timestamp", self.timestamp.to_string()),
            ("cluster_id", origin.cluster_id.clone()),
        ]);
        if bare {
            headers.push(("omitted_bytes", (self.bytes() - size_of::<Self>()).to_string()));
        }
        headers.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect()
    }
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// All letters are acknowledged.
    All,
    /// The assignment is over for good, or is being given away: whoever reads the partitions next writes their letters.
    GivenUp,
}

/// The way to the dead-letter topic.
#[derive(Debug)]
pub struct DeadLetters {
    producer: Producer,
    origin: Origin,
    writer: BatchWriter,
    progress: watch::Sender<PipelineProgress>,
    failures: u32,
    logged: Option<Instant>,
}

/// Letters that go out as one record batch.
#[derive(Debug)]
struct Parcel<'a> {
    letters: Vec<&'a Letter>,
    bare: bool,
}

/// Bytes of one record batch before compression, unless a single letter is larger.
const PARCEL_BYTES: usize = 256 * 1024;
/// Failed attempts that are no more than a WARNING.
const QUICK: u32 = 3;
const LOG_EVERY: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How often a topic may still be missing right after it was created.
const SETTLING: u32 = 10;
/// The class of rows that only the server refuses.
pub const SERVER: &str = "server";
const MAX_REASON: usize = 1000;

/// A count of 0 for every class of rejected events.
pub fn no_rejects() -> Classes {
    let classes = Class::ALL.iter().map(|class| class.name()).chain([SERVER]);
    Classes(classes.map(|class| (class, 0)).collect())
}

impl DeadLetters {
    /// Letters of events from `origin` go out through `producer`.
    pub fn new(producer: Producer, origin: Origin, progress: watch::Sender<PipelineProgress>) -> Self {
        Self { producer, origin, writer: BatchWriter::new(Codec::Lz4), progress, failures: 0, logged: None }
    }

    /// Tries the rights before they are needed: a WARNING with the cure when they are missing.
    pub async fn check_rights(&mut self) {
        let topic = self.producer.topic().to_owned();
        if let Err(error) = self.producer.check_rights(&self.origin.topic).await {
            tracing::warn!(topic, %error, "dead letters could not be written; a bad event would make its partition wait");
        }
    }

    /// Writes letters until all are acknowledged, for as long as that takes. Once `stop` says true, a failed attempt is
    /// the last. May be cancelled; then some may have been written.
    pub async fn deliver(
        &mut self,
        letters: &[Letter],
        fence: &mut Fence,
        stop: &mut watch::Receiver<bool>,
    ) -> Delivered {
        // A late letter only repeats one, so the fence need not hold before each attempt, as it must for an insert. One
        // that is down for a moment (an expired session that recovers) gives nothing up.
        tokio::select! {
            delivered = self.write(letters, stop) => delivered,
            () = fence.broken() => Delivered::GivenUp,
        }
    }

    async fn write(&mut self, letters: &[Letter], stop: &mut watch::Receiver<bool>) -> Delivered {
        let mut parcels = parcels(letters);
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let mut created = 0;
        while let Some(parcel) = parcels.pop_front() {
            let error = match self.send(&parcel).await {
                Ok(()) => {
                    self.acknowledged(parcel.letters.len());
                    backoff.reset();
                    created = 0;
                    continue;
                }
                Err(ProduceError::TooLarge { .. }) if parcel.letters.len() > 1 => {
                    let one = |letter| Parcel { letters: vec![letter], bare: false };
                    parcel.letters.iter().rev().for_each(|letter| parcels.push_front(one(letter)));
                    continue;
                }
                Err(error @ ProduceError::TooLarge { .. }) if !parcel.bare => {
                    self.left_out(&parcel, &error);
                    parcels.push_front(Parcel { bare: true, ..parcel });
                    continue;
                }
                Err(missing @ ProduceError::Missing { .. }) => match self.create().await {
                    Ok(()) if created < SETTLING => {
                        created += 1;
                        parcels.push_front(parcel);
                        // Brokers other than the one that created it hear of it a little later.
                        sleep(FIRST_PAUSE).await;
                        continue;
                    }
                    // There and not there: one that is being deleted cannot be created, nor written to.
                    Ok(()) => missing,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            parcels.push_front(parcel);
            let pause = backoff.pause();
            self.failed(&error, letters.len(), pause);
            if *stop.borrow() {
                return Delivered::GivenUp;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped(stop) => return Delivered::GivenUp,
            }
        }
        Delivered::All
    }

    async fn send(&mut self, parcel: &Parcel<'_>) -> Result<(), ProduceError> {
        let Some(first) = parcel.letters.first() else { return Ok(()) };
        let too_large = || ProduceError::TooLarge { topic: self.producer.topic().to_owned() };
        let now = now_millis();
        for letter in &parcel.letters {
            if !letter.append(&mut self.writer, &self.origin, now, parcel.bare) {
                self.writer.finish();
                return Err(too_large());
            }
        }
        let batch = self.writer.finish();
        self.producer.send(first.partition, batch).await
    }

    async fn create(&mut self) -> Result<(), ProduceError> {
        let new = self.producer.create_like(&self.origin.topic).await?;
        let topic = self.producer.topic();
        tracing::info!(
            topic,
            partitions = new.partitions,
            replicas = new.replicas,
            max_message_bytes = new.max_message_bytes,
            "created the dead-letter topic"
        );
        Ok(())
    }

    fn acknowledged(&mut self, letters: usize) {
        self.failures = 0;
        self.logged = None;
        self.progress.send_modify(|progress| {
            progress.dead_lettered += letters as u64;
            progress.letters_blocked = None;
        });
    }

    fn left_out(&self, parcel: &Parcel<'_>, error: &ProduceError) {
        for letter in &parcel.letters {
            let (partition, offset, bytes) = (letter.partition, letter.offset, letter.bytes());
            tracing::warn!(partition, offset, bytes, %error, "a dead letter is too large; only its headers are written");
        }
    }

    /// The first failures are WARNINGs, one each. Then an ERROR at once and every minute, and unhealthy.
    fn failed(&mut self, error: &ProduceError, letters: usize, pause: Duration) {
        self.failures += 1;
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if self.failures <= QUICK && !error.needs_a_person() {
            tracing::warn!(letters, pause_ms, %error, "dead letters are not written yet; trying again");
            return;
        }
        let topic = self.producer.topic();
        let why = format!("dead letters cannot be written to {topic} (KAFKA_DLQ_TOPIC): {error}");
        self.progress.send_modify(|progress| progress.letters_blocked = Some(why));
        if self.logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            tracing::error!(letters, topic, %error, "dead letters cannot be written; their partitions wait");
        }
    }
}

/// Sorts letters by partition, each run no longer than one record batch should be.
fn parcels(letters: &[Letter]) -> VecDeque<Parcel<'_>> {
    let mut by_partition: BTreeMap<i32, Vec<&Letter>> = BTreeMap::new();
    for letter in letters {
        by_partition.entry(letter.partition).or_default().push(letter);
    }
    let mut parcels = VecDeque::new();
    for letters in by_partition.into_values() {
        let mut open = Parcel { letters: Vec::new(), bare: false };
        let mut bytes = 0;
        for letter in letters {
            if bytes > 0 && bytes + letter.bytes() > PARCEL_BYTES {
                parcels.push_back(std::mem::replace(&mut open, Parcel { letters: Vec::new(), bare: false }));
                bytes = 0;
            }
            bytes += letter.bytes();
            open.letters.push(letter);
        }
        parcels.push_back(open);
    }
    parcels
}

fn clipped(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_REASON).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns once it is time to stop; a closed channel is no order to stop. May be cancelled.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(partition: i32, offset: i64, value: &[u8]) -> Letter {
        let record =
            Record { partition, offset, timestamp: 5, key: Some(b"k"), value: Some(value), headers: b"\x02\x02a\x01" };
        let reject = Reject { class: Class::OutOfRange, column: Some("c".into()), reason: "too much".into() };
        Letter::of(&record, Reason::from(&reject))
    }

    #[test]
    fn headers_name_place_and_reason() {
        let origin = Origin { cluster_id: "cluster".into(), topic: "events".into() };
        let headers = letter(3, 77, b"{}").our_headers(&origin, false);
        let expected = [
            ("sandarb.reason", "too much"),
            ("sandarb.class", "out_of_range"),
            ("sandarb.column", "c"),
            ("sandarb.topic", "events"),
            ("sandarb.partition", "3"),
            ("sandarb.offset", "77"),
            ("sandarb.timestamp", "5"),
            ("sandarb.cluster_id", "cluster"),
        ];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_parcel_is_of_one_partition_and_not_too_long() {
        let long = vec![b'x'; PARCEL_BYTES];
        let letters = [letter(1, 0, b"a"), letter(0, 5, b"b"), letter(1, 1, &long), letter(1, 2, b"c")];
        let places: Vec<Vec<(i32, i64)>> = parcels(&letters)
            .iter()
            .map(|parcel| parcel.letters.iter().map(|letter| (letter.partition, letter.offset)).collect())
            .collect();
        assert_eq!(places, [vec![(0, 5)], vec![(1, 0)], vec![(1, 1)], vec![(1, 2)]]);
        assert!(parcels(&[]).is_empty());
    }
}
