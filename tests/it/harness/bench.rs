//! What one test works on: a topic, a group and a database of its own on given servers, and the events it produces.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use sample_events::Source;
use sample_events::produce::{Options, Produced, produce};
use sandarb_consumer::kafka::records::write::Codec;

use super::ledger::Books;
use super::{ClickHouse, Consumer, Kafka, Load, project, same};

/// How the table is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    /// Whether it (and each view's target) deduplicates by token, as the shipped SQL says.
    pub(crate) window: bool,
    /// Whether the shipped materialized views hang on it: the original's five and the five reports.
    pub(crate) views: bool,
}

/// As the shipped `sql/events.sql` makes it.
pub(crate) const SHIPPED: Table = Table { window: true, views: false };

/// A test's own corner of the servers.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// Where the events go first.
    pub(crate) kafka: &'a Kafka,
    /// Where they end.
    pub(crate) clickhouse: &'a ClickHouse,
    /// The topic, with 12 partitions.
    pub(crate) topic: String,
    /// The consumer group.
    pub(crate) group: String,
    /// The database; its table is `events`.
    pub(crate) database: String,
    /// The events.
    pub(crate) source: Source,
    next: Cell<u64>,
    /// What its processes say that became of the events.
    pub(crate) books: Books,
}

impl Bench<'static> {
    /// On the shared servers, with the table as shipped.
    pub(crate) fn shared(name: &str) -> Self {
        Self::new(name, Kafka::shared(), ClickHouse::shared(), SHIPPED)
    }
}

impl<'a> Bench<'a> {
    /// Creates topic and table.
    pub(crate) fn new(name: &str, kafka: &'a Kafka, clickhouse: &'a ClickHouse, table: Table) -> Self {
        let bench = Self::bare(name, kafka, clickhouse);
        kafka.create_topic(&bench.topic, PARTITIONS);
        bench.create_table(table);
        bench
    }

    /// Only the names, which nobody else uses: neither topic nor database exist.
    pub(crate) fn bare(name: &str, kafka: &'a Kafka, clickhouse: &'a ClickHouse) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self {
            kafka,
            clickhouse,
            topic: format!("{name}_{number}"),
            group: format!("group-{name}-{number}"),
            database: format!("it_{name}_{number}"),
            source: Source { seed: u64::from(number), base_ms: now.as_millis() as i64, variety: true },
            next: Cell::new(0),
            books: Books::default(),
        }
    }

    /// The same names and events on other servers, where neither topic nor database exist yet.
    pub(crate) fn elsewhere<'b>(&self, kafka: &'b Kafka, clickhouse: &'b ClickHouse) -> Bench<'b> {
        let (topic, group, database) = (self.topic.clone(), self.group.clone(), self.database.clone());
        Bench {
            kafka,
            clickhouse,
            topic,
            group,
            database,
            source: self.source,
            next: Cell::new(0),
            books: Books::default(),
        }
    }

    /// The shipped SQL, applied to this test's database.
    pub(crate) fn create_table(&self, table: Table) {
        self.clickhouse.query(&format!("CREATE DATABASE IF NOT EXISTS {}", self.database));
        self.apply("sql/events.sql");
        if table.views {
            self.apply("sql/views.sql");
            self.apply("sql/reports.sql");
        }
        if !table.window {
            let sql = format!(
                "SELECT name FROM system.tables WHERE database = '{}' AND engine LIKE '%MergeTree'",
                self.database
            );
            for name in self.clickhouse.rows(&sql).into_iter().flatten() {
                let setting = "non_replicated_deduplication_window = 0";
                self.clickhouse.query(&format!("ALTER TABLE {}.{name} MODIFY SETTING {setting}", self.database));
            }
        }
    }

    /// The variables for the program: this test's names, `earliest`, batches closed after a second; then those given.
    pub(crate) fn env(&self, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let (bootstrap, url) = (self.kafka.bootstrap(), self.clickhouse.url());
        let base = [
            ("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str()),
            ("KAFKA_TOPIC", &self.topic),
            ("KAFKA_GROUP_ID", &self.group),
            ("KAFKA_AUTO_OFFSET_RESET", "earliest"),
            ("CLICKHOUSE_URL", &url),
            ("CLICKHOUSE_DATABASE", &self.database),
            ("CLICKHOUSE_USER", &self.clickhouse.user),
            ("CLICKHOUSE_PASSWORD", &self.clickhouse.password),
            ("BATCH_TIMEOUT_MS", "1000"),
        ];
        base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Starts the program with [`Bench::env`].
    pub(crate) fn start(&self, more: &[(&str, &str)]) -> Consumer {
        Consumer::start_booked(&self.env(more), &self.books)
    }

    /// Produces the next events as fast as they are taken; returns their indices once all are confirmed.
    pub(crate) fn produce(&self, count: u64) -> Range<u64> {
        self.produce_at(count, None).wait()
    }

    /// The same from a thread, at this many events a second.
    pub(crate) fn produce_at(&self, count: u64, rate: Option<f64>) -> Producing {
        let options = self.options(count, rate);
        let start = self.next.replace(self.next.get() + count);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let began = Instant::now();
            let produced = runtime.block_on(produce(&options)).unwrap_or_else(|error| panic!("sample-events: {error}"));
            (produced, began.elapsed())
        });
        Producing { indices: start..start + count, thread }
    }

    /// Produces at this many events a second until told to stop.
    pub(crate) fn load(&self, rate: u32) -> Load {
        Load::start(self.options(rate.into(), Some(rate.into())))
    }

    /// What [`Load::stop`] gave back: the next events come after it.
    pub(crate) fn produced(&self, indices: &Range<u64>) {
        self.next.set(indices.end);
    }

    /// The indices of all events that were produced so far.
    pub(crate) fn all(&self) -> Range<u64> {
        0..self.next.get()
    }

    fn options(&self, count: u64, rate: Option<f64>) -> Options {
        Options {
            bootstrap: self.kafka.addresses(),
            topic: self.topic.clone(),
            create_partitions: None,
            source: self.source,
            start: self.next.get(),
            count,
            rate,
            codec: Codec::Lz4,
            batch: NonZeroUsize::new(400).unwrap(),
        }
    }

    /// Rows in the table.
    pub(crate) fn rows(&self) -> u64 {
        self.clickhouse.number(&format!("SELECT count() FROM {}.events", self.database))
    }

    /// Waits until the table holds at least this many rows.
    pub(crate) fn wait_rows(&self, consumer: &Consumer, rows: u64, limit: Duration) {
        consumer.wait(limit, &format!("{rows} rows in {}.events", self.database), || {
            self.clickhouse.assert_runs();
            // Asked again and again: not worth a row in the server's log of queries.
            let sql = format!("SELECT count() FROM {}.events SETTINGS log_queries = 0", self.database);
            let seen = self.clickhouse.try_query(&sql)?.trim().parse::<u64>().map_err(|error| error.to_string())?;
            if seen >= rows { Ok(()) } else { Err(format!("{seen} rows")) }
        });
    }

    /// Waits until the group has committed the end of every partition that has records.
    pub(crate) fn wait_committed_to_the_end(&self, consumer: &Consumer, limit: Duration) {
        let mut ends = self.kafka.end_offsets(&self.topic);
        ends.retain(|_, end| *end > 0);
        consumer.wait(limit, "the commits reach the ends", || {
            let mut committed = self.kafka.committed(&self.group, &self.topic);
            committed.retain(|_, offset| *offset > 0);
            same(committed, ends.clone())
        });
    }

    /// How often the event with each of these indices is in the table, told apart from rows that nobody produced.
    pub(crate) fn tally(&self, indices: Range<u64>) -> Tally {
        let mut left: HashMap<String, (u64, u64)> =
            indices.map(|index| (self.source.event(index).event_id, (index, 0))).collect();
        let mut foreign = Vec::new();
        self.clickhouse.each_line(
            &format!("SELECT event_id FROM {}.events FORMAT TSV", self.database),
            |id| match left.get_mut(id) {
                Some((_, times)) => *times += 1,
                None => foreign.push(id.to_owned()),
            },
        );
        let mut tally = Tally { foreign, ..Tally::default() };
        for (index, times) in left.into_values() {
            match times {
                0 => tally.missing.push(index),
                1 => tally.once += 1,
                more => {
                    tally.doubled.push(index);
                    tally.surplus += more - 1;
                }
            }
        }
        tally
    }

    /// Every one of these events is in the table once, and nothing else is; and that is what the processes counted.
    pub(crate) fn assert_exactly_once(&self, indices: Range<u64>) {
        let tally = self.tally(indices.clone());
        let wanted = Tally { once: indices.end - indices.start, ..Tally::default() };
        assert_eq!(tally, wanted, "of the events {indices:?} in {}.events", self.database);
        self.books.assert_inserted(self.rows());
    }

    /// The inserts of rows into the table that the server has logged, in order: at its start the program inserts none, to see.
    pub(crate) fn inserts(&self) -> Vec<Insert> {
        self.clickhouse.query("SYSTEM FLUSH LOGS");
        let sql = format!(
            "SELECT written_rows, toUnixTimestamp64Milli(toDateTime64(query_start_time_microseconds, 3)), query_duration_ms \
             FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Insert' AND has(tables, '{}.events') \
             AND written_rows > 0 \
             ORDER BY query_start_time_microseconds",
            self.database
        );
        let number = |text: &String| text.parse::<u64>().unwrap();
        let rows = self.clickhouse.rows(&sql);
        rows.iter()
            .map(|row| Insert { rows: number(&row[0]), start_ms: number(&row[1]), took_ms: number(&row[2]) })
            .collect()
    }

    /// When the batches were encoded, by what their rows say, in milliseconds since 1970: also of those of a server that died.
    pub(crate) fn encoded_ms(&self) -> Vec<u64> {
        let sql = format!(
            "SELECT DISTINCT toUnixTimestamp64Milli(ingested_at) AS encoded FROM {}.events ORDER BY encoded",
            self.database
        );
        self.clickhouse.rows(&sql).iter().map(|row| row[0].parse().unwrap()).collect()
    }

    fn apply(&self, path: &str) {
        let sql = std::fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let code: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        for statement in code.join("\n").split(";\n").map(|statement| statement.trim().trim_end_matches(';')) {
            if !statement.is_empty() && !statement.starts_with("CREATE DATABASE") {
                self.clickhouse.query(&statement.replace("sandarb.", &format!("{}.", self.database)));
            }
        }
    }
}

/// Events being produced by a thread.
#[derive(Debug)]
pub(crate) struct Producing {
    indices: Range<u64>,
    thread: JoinHandle<(Produced, Duration)>,
}

impl Producing {
    /// Waits until all are sent; their indices. Panics when the confirmation of one was lost.
    pub(crate) fn wait(self) -> Range<u64> {
        self.wait_timed().0
    }

    /// The same, and how long sending took.
    pub(crate) fn wait_timed(self) -> (Range<u64>, Duration) {
        let indices = self.indices.clone();
        let confirmed = indices.end - indices.start;
        let (produced, took) = self.thread.join().unwrap();
        assert_eq!(produced, Produced { confirmed, uncertain: Vec::new() });
        (indices, took)
    }

    /// Waits until all are sent; how it went.
    pub(crate) fn outcome(self) -> Produced {
        self.thread.join().unwrap().0
    }

    /// Whether all are sent.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }
}

/// What became of a range of events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events that are in the table once.
    pub(crate) once: u64,
    /// Indices of events that are not in it.
    pub(crate) missing: Vec<u64>,
    /// Indices of events that are in it more than once.
    pub(crate) doubled: Vec<u64>,
    /// Rows beyond the first of each event.
    pub(crate) surplus: u64,
    /// Ids that belong to none of the events.
    pub(crate) foreign: Vec<String>,
}

/// One logged insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insert {
    /// Rows written.
    pub(crate) rows: u64,
    /// When it came, in milliseconds since 1970-01-01 UTC.
    pub(crate) start_ms: u64,
    /// How long it took.
    pub(crate) took_ms: u64,
}

/// Of every test's topic.
pub(crate) const PARTITIONS: i32 = 12;
