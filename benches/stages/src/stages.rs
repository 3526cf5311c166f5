//! The steps, one by one and all together.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sandarb_consumer::batch::{Batch, Shape, Taken, Why};
use sandarb_consumer::clickhouse::compress::Frames;
use sandarb_consumer::clickhouse::schema::{Dedup, Schema, SchemaColumn};
use sandarb_consumer::clickhouse::types::DataType;
use sandarb_consumer::columns::Missing;
use sandarb_consumer::config::Compression;
use sandarb_consumer::decode::{Origin, Place, Rows};
use sandarb_consumer::kafka::records::compression::Decompressor;
use sandarb_consumer::kafka::records::reader::{Answer, AnswerReader, Item, Section};
use tokio::time::Instant;

use crate::answers::{CODECS, Message, answers};
use crate::socket::Socket;

/// What the producers use by default, as its place in [`CODECS`].
const LZ4: usize = 3;
/// Rows a batch, the program's default.
const ROWS: usize = 2000;

/// A step over all events; what it returns only keeps the compiler from leaving it out.
pub(crate) type Step<'a> = Box<dyn FnMut() -> u64 + 'a>;
/// Makes the input of a step, which is not measured.
pub(crate) type Stage<'a> = Box<dyn FnOnce() -> Step<'a> + 'a>;

/// The stages by name.
pub(crate) fn all(events: &[Message]) -> Vec<(String, Stage<'_>)> {
    let mut stages: Vec<(String, Stage<'_>)> = Vec::new();
    for (codec, name) in CODECS.iter().enumerate() {
        stages.push((format!("fetch: {name} answers from a socket"), Box::new(move || fetch(events, codec))));
        stages.push((format!("records: checksum, {name}, walk"), Box::new(move || records(events, codec))));
    }
    let others: [(&str, Stage<'_>); 6] = [
        ("utf-8 alone", Box::new(move || utf8(events))),
        ("json: fast path into columns", Box::new(move || fast(events))),
        ("json: serde_json into columns", Box::new(move || slow(events))),
        ("json into columns, block, lz4, cityhash", Box::new(move || encode(events))),
        ("lz4 and cityhash alone", Box::new(move || compress(events))),
        ("everything: lz4 answer to block", Box::new(move || everything(events))),
    ];
    stages.extend(others.map(|(name, stage)| (name.to_owned(), stage)));
    stages
}

fn fetch(events: &[Message], codec: usize) -> Step<'_> {
    let mut socket = Socket::new(answers(events, codec));
    Box::new(move || socket.read())
}

fn records(events: &[Message], codec: usize) -> Step<'_> {
    let mut reading = Reading::new(answers(events, codec));
    Box::new(move || {
        let mut sum = 0;
        reading.each(|item| {
            if let Item::Record(record) = item {
                sum += record.value.map_or(0, <[u8]>::len) as u64;
            }
        });
        sum
    })
}

fn utf8(events: &[Message]) -> Step<'_> {
    Box::new(move || events.iter().filter(|event| std::str::from_utf8(&event.value).is_ok()).count() as u64)
}

fn fast(events: &[Message]) -> Step<'_> {
    let mut rows = Rows::new(&schema(), origin());
    Box::new(move || {
        let filled = fill(&mut rows, events.iter().map(|event| event.value.as_slice()));
        assert_eq!(rows.fell_back(), 0, "the sample events are ordinary");
        filled
    })
}

fn slow(events: &[Message]) -> Step<'_> {
    // An escape in a key: only serde_json reads it.
    let odd = |value: &[u8]| {
        let text = std::str::from_utf8(value).expect("JSON");
        text.replacen("\"event_id\"", "\"event\\u005fid\"", 1).into_bytes()
    };
    let odd: Vec<Vec<u8>> = events.iter().map(|event| odd(&event.value)).collect();
    let mut rows = Rows::new(&schema(), origin());
    Box::new(move || fill(&mut rows, odd.iter().map(Vec::as_slice)))
}

fn encode(events: &[Message]) -> Step<'_> {
    let mut rows = Rows::new(&schema(), origin());
    Box::new(move || {
        let mut bytes = 0;
        for events in events.chunks(ROWS) {
            for event in events {
                black_box(rows.push(&PLACE, &event.value).is_ok());
            }
            bytes += rows.encode(SystemTime::UNIX_EPOCH).body.len() as u64;
        }
        bytes
    })
}

fn compress(events: &[Message]) -> Step<'_> {
    let plain = native(&schema(), events);
    let mut frames = Frames::new(Compression::Lz4);
    Box::new(move || {
        let mut bytes = 0;
        for block in &plain {
            frames.write(block);
            bytes += frames.finish().len() as u64;
        }
        bytes
    })
}

fn everything(events: &[Message]) -> Step<'_> {
    let mut reading = Reading::new(answers(events, LZ4));
    let shape = Shape { rows: ROWS, bytes: 64 << 20, age: Duration::from_secs(5), compression: Compression::Lz4 };
    let mut batch = Batch::new(&schema(), origin(), shape, true);
    let now = Instant::now();
    Box::new(move || {
        let mut bytes = 0;
        reading.each(|item| {
            if let Item::Record(record) = item {
                assert!(matches!(batch.take(&record, now), Taken::Row));
            }
            if batch.is_due(now).is_some() {
                bytes += batch.close(Why::Rows).insert.map_or(0, |insert| insert.block.body.len());
            }
        });
        bytes as u64
    })
}

const PLACE: Place = Place { partition: 0, offset: 0, timestamp_ms: 1_768_954_900_524 };

fn fill<'a>(rows: &mut Rows, values: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut filled = 0;
    for value in values {
        filled += u64::from(rows.push(&PLACE, value).is_ok());
        if rows.len() == ROWS {
            rows.clear();
        }
    }
    rows.clear();
    filled
}

/// The blocks of all events, out of their frames.
fn native(schema: &Arc<Schema>, events: &[Message]) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(schema, origin()).compressed(Compression::None);
    let block = |events: &[Message]| {
        for event in events {
            rows.push(&PLACE, &event.value).expect("an ordinary event");
        }
        let body = rows.encode(SystemTime::UNIX_EPOCH).body;
        let (mut rest, mut plain) = (&*body, Vec::new());
        // Checksum, method and two sizes, of which the second is that of what follows as it is.
        while let Some((head, behind)) = rest.split_first_chunk::<25>() {
            let [.., a, b, c, d] = *head;
            let (stored, next) = behind.split_at(u32::from_le_bytes([a, b, c, d]) as usize);
            plain.extend_from_slice(stored);
            rest = next;
        }
        plain
    };
    events.chunks(ROWS).map(block).collect()
}

/// Answers that are read again and again.
struct Reading {
    answers: Vec<Answer>,
    decompressor: Decompressor,
}

impl Reading {
    fn new(answers: Vec<Answer>) -> Self {
        Self { answers, decompressor: Decompressor::default() }
    }

    fn each(&mut self, mut take: impl FnMut(Item<'_>)) {
        for answer in &mut self.answers {
            let sections: Vec<Section> = answer
                .sections
                .iter()
                .map(|section| Section { fetch_offset: section.fetch_offset, fetched: section.fetched.clone() })
                .collect();
            let open = Answer { bytes: std::mem::take(&mut answer.bytes), sections };
            let mut reader = AnswerReader::new(open, std::mem::take(&mut self.decompressor), 64 << 20);
            while reader.advance().expect("sound batches") {
                if let Some(item) = reader.item() {
                    take(item);
                }
            }
            (self.decompressor, answer.bytes) = reader.into_parts();
        }
    }
}

fn origin() -> Origin {
    Origin { cluster_id: "bench".to_owned(), topic: "sandarb_events".to_owned() }
}

/// The columns of sql/events.sql.
fn schema() -> Arc<Schema> {
    let sql = include_str!("../../../sql/events.sql");
    let columns = sql.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("    ")?.split_once(' ')?;
        let (type_name, default) = rest
            .trim()
            .trim_end_matches(',')
            .split_once("DEFAULT")
            .map_or_else(|| (rest.trim().trim_end_matches(','), false), |(type_name, _)| (type_name.trim(), true));
        Some(SchemaColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            wire_type: type_name.to_owned(),
            data_type: DataType::parse(type_name).expect("a supported type"),
            missing: if default { Missing::Default } else { Missing::Zero },
        })
    });
    Arc::new(Schema {
        database: "sandarb".to_owned(),
        table: "events".to_owned(),
        columns: columns.collect(),
        left_out: Vec::new(),
        engine: "MergeTree".to_owned(),
        sorting_key: String::new(),
        dedup: Dedup::Off,
        settings: Vec::new(),
        takes_token: true,
    })
}
