//! What is allocated on the way from a fetch answer to a Native block, counted by the allocator: nothing for an event,
//! nothing for a record batch of whatever codec, and for a block what does not depend on its rows. All of it in steady
//! state: the buffers have grown to what such batches take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that meets the unexpected fails")]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use sample_events::Source;
use sandarb_consumer::batch::{Batch, Shape, Taken, Why};
use sandarb_consumer::clickhouse::schema::{Dedup, Schema, SchemaColumn};
use sandarb_consumer::clickhouse::types::DataType;
use sandarb_consumer::columns::Missing;
use sandarb_consumer::config::Compression;
use sandarb_consumer::decode::{Class, Origin, Place, Rows};
use sandarb_consumer::kafka::protocol::fetch::FetchedPartition;
use sandarb_consumer::kafka::records::batch::{self, Front, HEADER_LENGTH};
use sandarb_consumer::kafka::records::compression::Decompressor;
use sandarb_consumer::kafka::records::reader::{Answer, AnswerReader, Item, Section};
use sandarb_consumer::kafka::records::write::{BatchWriter, Codec, NewRecord};
use tokio::time::Instant;

const NOW_MS: i64 = 1_768_954_900_524;
/// Events a record batch.
const CHUNK: usize = 150;
/// What a record batch may decompress to.
const LIMIT: usize = 64 << 20;

/// By Kafka's number; snappy in both of its framings.
const CODECS: [(&str, i16); 6] =
    [("none", 0), ("gzip", 1), ("snappy", 2), ("snappy in Java's framing", 2), ("lz4", 3), ("zstd", 4)];

fn events(count: u64) -> Vec<Vec<u8>> {
    let source = Source { seed: 3, base_ms: NOW_MS, variety: false };
    (0..count).map(|index| source.event(index).to_json().into_bytes()).collect()
}

fn pack(name: &str, records: &[u8]) -> Vec<u8> {
    let snappy = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    match name {
        "gzip" => {
            let deflated = miniz_oxide::deflate::compress_to_vec(records, 6);
            [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &deflated[..], &[0; 8]].concat()
        }
        "snappy" => snappy(records),
        "snappy in Java's framing" => {
            let mut bytes = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in records.chunks(32 << 10).map(snappy) {
                bytes.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
                bytes.extend(block);
            }
            bytes
        }
        "zstd" => ruzstd::encoding::compress_to_vec(records, ruzstd::encoding::CompressionLevel::Fastest),
        other => panic!("{other}"),
    }
}

/// The events in record batches, as a broker keeps them.
fn batches(events: &[Vec<u8>], (name, number): (&str, i16)) -> Vec<Vec<u8>> {
    let mut writer = BatchWriter::new(if name == "lz4" { Codec::Lz4 } else { Codec::None });
    let mut offset = 0i64;
    let mut batch = |events: &[Vec<u8>]| {
        for event in events {
            writer.append(&NewRecord { timestamp: NOW_MS, key: None, value: Some(event), headers: &[] }).unwrap();
        }
        let mut batch = writer.finish();
        if !["none", "lz4"].contains(&name) {
            let packed = pack(name, &batch[HEADER_LENGTH..]);
            batch.truncate(HEADER_LENGTH);
            batch.extend(packed);
            let length = i32::try_from(batch.len() - 12).unwrap();
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            batch[21..23].copy_from_slice(&number.to_be_bytes());
            let sum = crc32c::crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&sum.to_be_bytes());
        }
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        offset += i64::try_from(events.len()).unwrap();
        batch
    };
    events.chunks(CHUNK).map(&mut batch).collect()
}

fn answer(bytes: Vec<u8>) -> Answer {
    let fetched = FetchedPartition {
        partition: 0,
        error: 0,
        high_watermark: i64::MAX,
        last_stable_offset: i64::MAX,
        log_start_offset: 0,
        preferred_replica: -1,
        aborted: Vec::new(),
        records: 0..bytes.len(),
    };
    Answer { bytes, sections: vec![Section { fetch_offset: 0, fetched }] }
}

/// The table of sql/events.sql.
fn schema() -> Arc<Schema> {
    let sql = include_str!("../sql/events.sql");
    let column = |line: &str| {
        let (name, rest) = line.strip_prefix("    ")?.split_once(' ')?;
        let rest = rest.trim().trim_end_matches(',');
        let (type_name, default) = rest.split_once("DEFAULT").map_or((rest, false), |(of, _)| (of.trim(), true));
        Some(SchemaColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            wire_type: type_name.to_owned(),
            data_type: DataType::parse(type_name).unwrap(),
            missing: if default { Missing::Default } else { Missing::Zero },
        })
    };
    let columns: Vec<SchemaColumn> = sql.lines().filter_map(column).collect();
    assert_eq!(columns.len(), 27);
    Arc::new(Schema {
        database: "sandarb".to_owned(),
        table: "events".to_owned(),
        columns,
        left_out: Vec::new(),
        engine: "MergeTree".to_owned(),
        sorting_key: String::new(),
        dedup: Dedup::Off,
        settings: Vec::new(),
        takes_token: true,
    })
}

/// A table of one column.
fn schema_of(type_name: &str) -> Arc<Schema> {
    let column = SchemaColumn {
        name: "a".to_owned(),
        type_name: type_name.to_owned(),
        wire_type: type_name.to_owned(),
        data_type: DataType::parse(type_name).unwrap(),
        missing: Missing::Zero,
    };
    let whole = schema();
    Arc::new(Schema { columns: vec![column], ..Schema::clone(&whole) })
}

fn rows_of(type_name: &str) -> Rows {
    Rows::new(&schema_of(type_name), Origin { cluster_id: "a".to_owned(), topic: "b".to_owned() })
}

const PLACE: Place = Place { partition: 0, offset: 0, timestamp_ms: -1 };

fn open_batch() -> Batch {
    let origin = Origin { cluster_id: "a".to_owned(), topic: "b".to_owned() };
    let shape =
        Shape { rows: usize::MAX, bytes: usize::MAX, age: Duration::from_secs(3600), compression: Compression::Lz4 };
    Batch::new(&schema(), origin, shape, true)
}

/// The allocations of `run`.
fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    let mut grows: Vec<u8> = Vec::with_capacity(1);
    assert_eq!(allocations(|| grows.extend([0; 100])), 1, "growth in place counts, too");
}

#[test]
fn a_warm_decompressor_allocates_nothing_for_a_batch() {
    let events = events(1500);
    for codec in CODECS.into_iter().filter(|(_, number)| *number != 0) {
        let batches = batches(&events, codec);
        assert_eq!(batches.len(), 10);
        let mut decompressor = Decompressor::default();
        let mut round = || {
            let mut bytes = 0;
            for batch in &batches {
                let Ok(Front::Batch(header)) = batch::front(batch) else { panic!("no batch") };
                decompressor.decompress(&header, &batch[HEADER_LENGTH..], LIMIT).unwrap();
                bytes += decompressor.bytes().len();
            }
            bytes
        };
        let plain: usize = round();
        assert!(plain > events.iter().map(Vec::len).sum(), "{codec:?}: the records with what is around their values");
        assert_eq!(allocations(|| assert_eq!(round(), plain)), 0, "{codec:?}");
    }
}

#[test]
fn no_event_allocates_on_its_way_into_the_columns() {
    let events = events(1500);
    let now = Instant::now();
    let mut open = open_batch();
    for codec in CODECS {
        let bytes = batches(&events, codec).concat();
        let mut decompressor = Decompressor::default();
        for warm in [false, true, true] {
            let mut reader = AnswerReader::new(answer(bytes.clone()), decompressor, LIMIT);
            // The first record of an answer opens its section, and the batch.
            let mut rows = 0;
            let mut walk = |reader: &mut AnswerReader, most: usize| {
                while rows < most && reader.advance().unwrap() {
                    if let Some(Item::Record(record)) = reader.item() {
                        assert!(matches!(open.take(&record, now), Taken::Row));
                        rows += 1;
                    }
                }
                rows
            };
            assert_eq!(walk(&mut reader, 1), 1);
            let counted = allocations(|| assert_eq!(walk(&mut reader, usize::MAX), 1500));
            if warm {
                assert_eq!(counted, 0, "{codec:?}");
            } else if codec.1 == 0 {
                assert_ne!(counted, 0, "the columns of the very first batch have to grow");
            }
            (decompressor, _) = reader.into_parts();
            open.close(Why::Rows);
        }
    }
}

#[test]
fn a_block_allocates_as_much_for_many_rows_as_for_few() {
    let events = events(4000);
    let now = Instant::now();
    let mut open = open_batch();
    let counts = [4000, 4000, 4000, 500, 2000, 4000].map(|rows| {
        let bytes = batches(&events[..rows], ("none", 0)).concat();
        let mut reader = AnswerReader::new(answer(bytes), Decompressor::default(), LIMIT);
        while reader.advance().unwrap() {
            if let Some(Item::Record(record)) = reader.item() {
                assert!(matches!(open.take(&record, now), Taken::Row));
            }
        }
        allocations(|| {
            let closed = open.close(Why::Rows);
            assert_eq!(closed.insert.unwrap().block.rows, rows as u64);
        })
    });
    println!("allocations a block: {counts:?}");
    let [.., few, more, many] = counts;
    assert_eq!((few, more), (many, many), "{counts:?}");
    assert!(many < 200, "{counts:?}: names and types of 27 columns, and the body");
}

/// Every path of an object counts, but none is kept: one long key before many short ones would take the square of it.
#[test]
fn a_json_column_takes_memory_for_the_event_and_not_for_its_paths() {
    let keys: Vec<String> = (0..3000).map(|at| format!("\"k{at}\":1")).collect();
    let event = format!("{{\"a\":{{\"{}\":{{{}}}}}}}", "long".repeat(5000), keys.join(","));
    assert!((40_000..60_000).contains(&event.len()));
    let most = measure(|| rows_of("JSON").push(&PLACE, event.as_bytes()).unwrap()).bytes_max;
    assert!(most < 20 * event.len() as u64, "{most} bytes at once for an event of {}", event.len());
}

/// The items go into the column as they come, and no further than their bound.
#[test]
fn an_array_takes_memory_for_its_column_alone_and_not_without_bound() {
    let event = format!("{{\"a\":[1{}]}}", ",1".repeat(100_000));
    let mut rows = rows_of("Array(UInt8)");
    let most = measure(|| rows.push(&PLACE, event.as_bytes()).unwrap()).bytes_max;
    assert!(most < 2 * event.len() as u64, "{most} bytes at once for an event of {}", event.len());

    let event = format!("{{\"a\":[\"\"{}]}}", ",\"\"".repeat(50_000));
    let mut rows = rows_of("Array(FixedString(1000))");
    let most = measure(|| {
        let reject = rows.push(&PLACE, event.as_bytes()).unwrap_err();
        assert_eq!((reject.class, reject.column.as_deref()), (Class::OutOfRange, Some("a")), "{reject}");
    })
    .bytes_max;
    assert!(most < 32 << 20, "{most} bytes at once for an event of {}", event.len());
}
