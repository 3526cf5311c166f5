//! Mutated events on columns of every type: no panic, memory in proportion to the input, a rejected event leaves nothing
//! behind, and what becomes of an event never depends on the events before it.
//!
//! FUZZ_SECONDS (5) says for how long, FUZZ_SEED repeats a run. Starts from fuzz/corpus/events; an event that fails is
//! printed and belongs there once it is mended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::disallowed_types,
    dead_code,
    reason = "a test fails on the spot; it runs for a real time; the model's judge is not used here"
)]

#[path = "model/events.rs"]
mod events;
#[path = "model/json.rs"]
mod json;
#[path = "model/rules.rs"]
mod rules;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use json::Chance;
use sandarb_consumer::clickhouse::schema::{Dedup, Schema, SchemaColumn};
use sandarb_consumer::clickhouse::types::DataType;
use sandarb_consumer::columns::Missing;
use sandarb_consumer::decode::{Class, Origin, Place, Rows};

const PLACE: Place = Place { partition: 0, offset: 7, timestamp_ms: 1_768_954_900_524 };
/// Bytes that mean something to JSON, or break UTF-8.
const BYTES: &[u8] = b"\"\\{}[]:,0-9eE.+tfn\x00\xff\xc3u";
/// The longest event tried.
const LONGEST: usize = 64 * 1024;

#[test]
fn mutated_events_are_taken_or_rejected() {
    let seconds = variable("FUZZ_SECONDS").unwrap_or(5);
    let seed = variable("FUZZ_SEED").unwrap_or_else(|| {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() % u128::from(u64::MAX)).unwrap()
    });
    println!("FUZZ_SEED={seed}");
    let schema = schema();
    let mut chance = Chance(seed);
    let columns = events::columns();
    let mut corpus = corpus();
    let kept = corpus.len();
    assert!(kept >= 10, "fuzz/corpus/events has {kept} files");
    let mut used = rows(&schema);
    let mut grown = rows(&schema);
    let (mut tried, mut taken) = (0_u64, 0_u64);
    let end = Instant::now() + Duration::from_secs(seconds);
    for event in &corpus {
        check(&schema, &mut used, &mut grown, event, true);
    }
    while Instant::now() < end {
        let event = mutated(&mut chance, &corpus);
        tried += 1;
        if check(&schema, &mut used, &mut grown, &event, tried.is_multiple_of(16)) {
            taken += 1;
            // What still fits is worth mutating further.
            if corpus.len() < kept + 500 {
                corpus.push(event);
            } else {
                let at = kept + chance.below(500) as usize;
                corpus[at] = event;
            }
        }
        if tried.is_multiple_of(20) {
            let fresh = events::event(&mut chance, &columns, 0);
            check(&schema, &mut used, &mut grown, &fresh.bytes, true);
            let at = kept + chance.below(500) as usize;
            if let Some(place) = corpus.get_mut(at) {
                *place = fresh.bytes;
            }
        }
    }
    println!("{tried} events, {taken} taken");
    assert!(tried > 100 && taken > 0 && taken < tried, "{taken} of {tried} taken");
}

/// Whether the event is taken. New columns for each would take most of the time: `afresh` says whether to compare with
/// those, too.
fn check(schema: &Arc<Schema>, used: &mut Rows, grown: &mut Rows, event: &[u8], afresh: bool) -> bool {
    let shown = || String::from_utf8_lossy(event).into_owned();
    used.clear();
    let outcome = used.push(&PLACE, event);
    let most = 40 * event.len() + schema.columns.len() * 64;
    assert!(used.bytes() <= most, "{} bytes of {}: {}", used.bytes(), event.len(), shown());
    let now = UNIX_EPOCH + Duration::from_secs(1_768_954_900);
    if afresh {
        let mut fresh = rows(schema);
        assert_eq!(fresh.push(&PLACE, event), outcome, "another history, another outcome: {}", shown());
        if outcome.is_ok() {
            let (one, other) = (fresh.encode(now), used.encode(now));
            assert_eq!(one.column_list, other.column_list, "{}", shown());
            assert_eq!(one.body, other.body, "another history, other bytes: {}", shown());
        }
    }
    let (rows_before, bytes_before) = (grown.len(), grown.bytes());
    assert_eq!(grown.push(&PLACE, event), outcome, "between other rows, another outcome: {}", shown());
    match outcome {
        Ok(()) => {
            assert_eq!(grown.len(), rows_before + 1);
            if grown.len() == 1000 || grown.bytes() > 4 << 20 {
                assert_eq!(grown.encode(now).rows, rows_before as u64 + 1);
                assert_eq!((grown.len(), grown.bytes()), (0, 0));
            }
            true
        }
        Err(reject) => {
            assert_eq!((grown.len(), grown.bytes()), (rows_before, bytes_before), "{reject}: {}", shown());
            assert!(!reject.reason.is_empty() && reject.reason.len() < 1000, "{reject}");
            assert!(reject.class != Class::InvalidUtf8 || std::str::from_utf8(event).is_err());
            false
        }
    }
}

fn mutated(chance: &mut Chance, corpus: &[Vec<u8>]) -> Vec<u8> {
    let one = |chance: &mut Chance| &corpus[chance.below(corpus.len() as u64) as usize];
    let mut event = one(chance).clone();
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(event.len() as u64 + 1) as usize;
        let end = (at + chance.below(40) as usize).min(event.len());
        match chance.below(9) {
            0 if at < event.len() => event[at] ^= 1 << chance.below(8),
            1 if at < event.len() => event[at] = BYTES[chance.below(BYTES.len() as u64) as usize],
            2 => drop(event.drain(at..end)),
            3 => drop(event.splice(at..at, event[at..end].to_vec())),
            4 => {
                let other = one(chance);
                let from = chance.below(other.len() as u64 + 1) as usize;
                let piece = other[from..(from + 60).min(other.len())].to_vec();
                drop(event.splice(at..end, piece));
            }
            5 => {
                let deep = 1 + chance.below(80) as usize;
                drop(event.splice(at..at, chance.pick(&["[", "{\"a\":", "]", "}"]).repeat(deep).into_bytes()));
            }
            6 => {
                let digits = 1 + chance.below(500) as usize;
                drop(event.splice(at..at, chance.pick(&["9", "0", "1.", "e"]).repeat(digits).into_bytes()));
            }
            _ => {
                let token = chance.pick(&[
                    "\"",
                    "null",
                    "true",
                    "1e400",
                    "-0",
                    "\\ud800",
                    "\\ud83d\\ude00",
                    "\u{feff}",
                    "\\u0000",
                    ",\"c40\":",
                    "\"\"",
                    ",\"c60\":[",
                    "{\"a\":1,\"a\":2}",
                    "1e-400",
                    "2026-01-21T00:21:40.524Z",
                    "18446744073709551616",
                    "1e",
                ]);
                drop(event.splice(at..at, token.bytes()));
            }
        }
    }
    event.truncate(LONGEST);
    event
}

fn corpus() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/events");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn rows(schema: &Arc<Schema>) -> Rows {
    Rows::new(schema, Origin { cluster_id: "c".to_owned(), topic: "t".to_owned() })
}

/// The model's table, and the columns with a meaning of their own.
fn schema() -> Arc<Schema> {
    let column = |name: &str, sql: &str| {
        let (type_name, has_default) = sql.split_once(" DEFAULT ").map_or((sql, false), |(name, _)| (name, true));
        let data_type = DataType::parse(type_name).unwrap();
        let missing = match (data_type.is_nullable(), has_default) {
            (true, has_default) => Missing::Null { has_default },
            (false, true) => Missing::Default,
            (false, false) => Missing::Zero,
        };
        let (type_name, wire_type) = (type_name.to_owned(), data_type.to_string());
        SchemaColumn { name: name.to_owned(), type_name, wire_type, data_type, missing }
    };
    let mut columns: Vec<SchemaColumn> = events::columns().iter().map(|known| column(&known.name, known.sql)).collect();
    columns.push(column("event_id", "UUID"));
    columns.push(column("event_time", "DateTime64(3)"));
    columns.push(column("ingested_at", "DateTime64(3)"));
    Arc::new(Schema {
        database: "d".to_owned(),
        table: "t".to_owned(),
        columns,
        left_out: Vec::new(),
        engine: "MergeTree".to_owned(),
        sorting_key: String::new(),
        dedup: Dedup::Off,
        settings: Vec::new(),
        takes_token: true,
    })
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
