use std::collections::BTreeSet;
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
    let column = |name: &str, type_name: &str| SchemaColumn {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        wire_type: type_name.to_owned(),
        data_type: DataType::parse(type_name).unwrap(),
        missing: Missing::Zero,
    };
    let schema = Arc::new(Schema {
        database: "d".to_owned(),
        table: "t".to_owned(),
        columns: vec![column("a", "UInt32"), column("event_id", "String")],
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
        _ => Some(format!("{{\"a\": {offset}, \"event_id\": \"{partition}/{offset}\"}}").into_bytes()),
    }
}

const ENDS: [(i32, i64, i64); 2] = [(0, 10, 110), (1, 1000, 1150)];

fn ranges() -> Ranges {
    let mut ranges = Ranges::default();
    ENDS.iter().for_each(|(partition, first, next)| ranges.passed(*partition, *first, *next));
    ranges
}

/// Rows and whether they were refused, for each insert; place and class of each dead letter.
type Played = (Vec<(String, usize, bool)>, Vec<(i32, i64, &'static str)>);

/// How a server refuses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It names the first refused row.
    Named,
    /// It names the row after it.
    Misnamed,
    Nothing,
}

fn read(isolation: &mut Isolation, turn: usize) {
    let from = isolation.begin_reading(open);
    // The order in which partitions come differs each time.
    let mut order: Vec<(i32, i64, i64)> = ENDS.to_vec();
    order.rotate_left(turn % 2);
    for (partition, _, next) in &order {
        let Some(first) = from.get(partition) else { continue };
        for offset in *first..next + 5 {
            let Some(value) = value(*partition, offset) else { continue };
            let (key, headers) = (None, b"\0".as_slice());
            let value = Some(value.as_slice());
            let record = Record { partition: *partition, offset, timestamp: offset, key, value, headers };
            isolation.take(&record, Instant::now());
        }
    }
    isolation.end_reading(|_| Some(0));
    assert!(isolation.is_reading(), "not all was read");
    isolation.end_reading(|partition| ENDS.iter().find(|end| end.0 == partition).map(|end| end.2));
    assert!(!isolation.is_reading());
}

/// Plays the search against a server that refuses these places; the inserts made, and the letters.
fn search(refused: &[(i32, i64)], says: Says, budget: usize) -> Played {
    let mut now = Instant::now();
    let mut isolation = Isolation::of_own(7, &ranges(), Stand::Sure, budget, now);
    let mut inserts = Vec::new();
    let mut stored = BTreeSet::new();
    while !isolation.is_over() {
        if isolation.may_read() {
            read(&mut isolation, inserts.len());
        }
        let Some(task) = isolation.next(now, open) else {
            now = isolation.waits_until(now).unwrap_or(now);
            continue;
        };
        let Task::Send(Built { insert, rest }) = task else { panic!("{task:?}") };
        let places = isolation.places(&rest);
        assert_eq!(insert.block.rows, places.len() as u64);
        let bad = places.iter().position(|place| refused.contains(place));
        inserts.push((insert.token.clone(), places.len(), bad.is_some()));
        if let Some(at) = bad {
            let named = [Some(at), Some(at + 1), None][says as usize];
            let reason = Reason { class: "server", column: None, text: "no".into(), code: Some(469) };
            let conclusive = says == Says::Named;
            isolation.refused(rest, Refusal { reason, named, conclusive, ask_at: None }, now);
        } else {
            for place in places {
                assert!(stored.insert(place), "{place:?} twice");
            }
            isolation.stored(&rest);
        }
    }
    assert_eq!(stored.len(), 199 - refused.len(), "of the rows");
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
        for (says, budget) in [
            (Says::Named, 1 << 20),
            (Says::Misnamed, 1 << 20),
            (Says::Nothing, 1 << 20),
            (Says::Named, 0),
            (Says::Nothing, 0),
        ] {
            let refused: Vec<_> = refused.iter().copied().filter(|at| value(at.0, at.1).is_some()).collect();
            let (inserts, mut letters) = search(&refused, says, budget);
            let mut expected: Vec<_> =
                refused.iter().map(|(partition, offset)| (*partition, *offset, "server")).collect();
            expected.push((0, 17, "invalid_json"));
            letters.sort_unstable();
            expected.sort_unstable();
            assert_eq!(letters, expected);
            assert!(inserts.len() < refused.len() * 22, "{} inserts", inserts.len());
            assert_eq!(search(&refused, says, budget).0.len(), inserts.len());
            let mut tokens = BTreeMap::new();
            for (token, rows, bad) in inserts {
                // Only one row is tried again, and never two kinds of rows with one token.
                let before = tokens.insert(token, (rows, bad));
                assert!(before.is_none_or(|before| before == (1, true)), "{before:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_named_takes_two_inserts() {
    let refused: Vec<_> = (20..30).map(|offset| (0, offset)).collect();
    let (inserts, _) = search(&refused, Says::Named, 1 << 20);
    assert!(inserts.len() <= 2 * refused.len() + 4, "{} inserts", inserts.len());
}

#[tokio::test(start_paused = true)]
async fn when_nothing_is_refused_any_more_all_is_stored_as_one() {
    let (inserts, letters) = search(&[], Says::Nothing, 1 << 20);
    assert_eq!(inserts.len(), 1);
    assert_eq!(letters, [(0, 17, "invalid_json")]);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_stored_is_asked_for_and_never_split_before() {
    let mut now = Instant::now();
    let later = now + Duration::from_secs(30);
    let mut isolation = Isolation::of_own(7, &ranges(), Stand::Maybe(later), 1 << 20, now);
    read(&mut isolation, 0);
    let Some(Task::Send(Built { insert, rest })) = isolation.next(now, open) else { panic!() };
    let whole = insert.block.rows;
    let reason = Reason { class: "server", column: None, text: "no".into(), code: Some(469) };
    let refusal = Refusal { reason, named: Some(3), conclusive: true, ask_at: None };
    assert!(!isolation.refused(rest, refusal, now));
    assert!(isolation.next(now, open).is_none(), "an earlier insert may still be under way");
    assert_eq!(isolation.waits_until(now), Some(later));
    assert_eq!(isolation.parts(), [Part::of(&ranges()).asking()]);
    now = later;
    let Some(Task::Ask(question, rest)) = isolation.next(now, open) else { panic!() };
    assert_eq!(question.ids.len() as u64, whole);
    isolation.not_answered(rest, false);
    let Some(Task::Ask(question, rest)) = isolation.next(now, open) else { panic!() };
    let held = question.ids.iter().skip(1).map(|id| (id.clone(), 1)).collect();
    assert_eq!(isolation.answered(rest, &held, now), (whole as usize - 1, false));
    assert_eq!(isolation.parts(), [Part::of(&ranges()).asking()], "tokens tell no longer what is stored");
}
