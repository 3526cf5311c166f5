use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::batch::Shape;
use crate::clickhouse::schema::{Dedup, Schema, SchemaColumn};
use crate::clickhouse::types::DataType;
use crate::columns::Missing;
use crate::config::Compression;
use crate::decode::Origin;

pub(super) fn open() -> Batch {
    let column = SchemaColumn {
        name: "a".to_owned(),
        type_name: "UInt32".to_owned(),
        wire_type: "UInt32".to_owned(),
        data_type: DataType::parse("UInt32").unwrap(),
        missing: Missing::Zero,
    };
    let schema = Arc::new(Schema {
        database: "d".to_owned(),
        table: "t".to_owned(),
        columns: vec![column],
        left_out: Vec::new(),
        engine: "MergeTree".to_owned(),
        sorting_key: String::new(),
        dedup: Dedup::Off,
        settings: Vec::new(),
        takes_token: true,
    });
    let shape = Shape { rows: 1, bytes: 1, age: Duration::ZERO, compression: Compression::Lz4 };
    Batch::new(&schema, Origin { cluster_id: "c".into(), topic: "t".into() }, shape, true)
}

/// The topic: two partitions, one with gaps; `unreadable` has no row.
fn value(partition: i32, offset: i64) -> Option<Vec<u8>> {
    match (partition, offset) {
        (1, offset) if offset % 3 == 0 => None,
        (0, 17) => Some(b"unreadable".to_vec()),
        _ => Some(format!("{{\"a\": {offset}}}").into_bytes()),
    }
}

const ENDS: [(i32, i64, i64); 2] = [(0, 10, 110), (1, 1000, 1150)];

fn ranges() -> Ranges {
    let mut ranges = Ranges::default();
    ENDS.iter().for_each(|(partition, first, next)| ranges.passed(*partition, *first, *next));
    ranges
}

/// Token and whether it was refused, for each insert; place and class of each letter.
type Played = (Vec<(String, bool)>, Vec<(i32, i64, &'static str)>);

/// Plays the search against a server that refuses these places; the inserts made, and the letters.
fn search(refused: &[(i32, i64)]) -> Played {
    let mut isolation = Isolation::halves_of(7, &ranges());
    let mut inserts = Vec::new();
    let mut stored = std::collections::BTreeSet::new();
    while !isolation.is_over() {
        assert!(isolation.may_read());
        let from = isolation.begin_reading(open);
        // The order in which partitions come differs each time.
        let mut order: Vec<(i32, i64, i64)> = ENDS.to_vec();
        order.rotate_left(inserts.len() % 2);
        for (partition, _, next) in &order {
            let Some(first) = from.get(partition) else { continue };
            for offset in *first..next + 5 {
                let Some(value) = value(*partition, offset) else { continue };
                let (key, headers) = (None, b"\0".as_slice());
                let value = Some(value.as_slice());
                isolation.take(
                    &Record { partition: *partition, offset, timestamp: offset, key, value, headers },
                    Instant::now(),
                );
            }
        }
        isolation.end_reading(|_| Some(0));
        assert!(isolation.is_reading(), "not all was read");
        isolation.end_reading(|partition| ENDS.iter().find(|end| end.0 == partition).map(|end| end.2));
        assert!(!isolation.is_reading());
        while let Some(built) = isolation.next_insert() {
            let bad = refused.iter().any(|(partition, offset)| built.rest.part().holds(*partition, *offset));
            inserts.push((built.insert.token.clone(), bad));
            if bad {
                let reason = Reason { class: "server", column: None, text: "no".into(), code: Some(469) };
                isolation.refused(built.rest, reason);
            } else {
                assert!(stored.insert(built.insert.token), "the same rows twice");
                isolation.stored(built.rest);
            }
        }
    }
    let letters = isolation.into_outcome().0;
    (inserts, letters.iter().map(|letter| (letter.partition, letter.offset, letter.reason.class)).collect())
}

#[tokio::test(start_paused = true)]
async fn exactly_the_refused_rows_are_found() {
    for refused in [
        &[(0, 10)][..],
        &[(0, 109)],
        &[(1, 1148)],
        &[(0, 10), (0, 11), (1, 1000), (1, 1075), (1, 1076), (0, 50), (0, 109)],
    ] {
        let (inserts, mut letters) = search(refused);
        let mut expected: Vec<_> = refused.iter().map(|(partition, offset)| (*partition, *offset, "server")).collect();
        expected.push((0, 17, "invalid_json"));
        letters.sort_unstable();
        expected.sort_unstable();
        assert_eq!(letters, expected);
        assert!(inserts.len() < refused.len() * 20, "{} inserts", inserts.len());
        assert_eq!(search(refused).0, inserts, "the same parts have the same tokens");
    }
}

#[tokio::test(start_paused = true)]
async fn when_nothing_is_refused_any_more_all_is_stored() {
    let (inserts, letters) = search(&[]);
    assert_eq!(inserts.len(), 2);
    assert_eq!(letters, [(0, 17, "invalid_json")]);
}
