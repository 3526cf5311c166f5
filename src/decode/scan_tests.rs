//! The fast path and serde_json must agree on every event: outcome, row and fault.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clickhouse::schema::{Dedup, Schema, SchemaColumn};
use crate::clickhouse::types::DataType;
use crate::columns::Missing;
use crate::decode::{Origin, Place, Rows};

const COLUMNS: [(&str, &str, Missing); 19] = [
    ("event_id", "UUID", Missing::Default),
    ("kind", "LowCardinality(String)", Missing::Zero),
    ("name", "String", Missing::Zero),
    ("note", "String", Missing::Default),
    ("code", "FixedString(4)", Missing::Zero),
    ("count", "UInt32", Missing::Zero),
    ("small", "Int8", Missing::Null { has_default: false }),
    ("flag", "Bool", Missing::Zero),
    ("ratio", "Float64", Missing::Zero),
    ("event_time", "DateTime64(3, 'UTC')", Missing::Default),
    ("ingested_at", "DateTime64(3, 'UTC')", Missing::Default),
    ("day", "Date", Missing::Zero),
    ("price", "Decimal(12, 2)", Missing::Zero),
    ("tags", "Array(String)", Missing::Zero),
    ("labels", "Map(String, String)", Missing::Zero),
    ("extra", "JSON", Missing::Zero),
    ("source", "IPv4", Missing::Zero),
    ("share", "Float32", Missing::Zero),
    ("level", "Enum8('low' = -1, '' = 3, '5' = 5)", Missing::Default),
];

const VALUES: [&str; 56] = [
    r#""""#,
    r#""plain""#,
    r#""exactly8""#,
    r#""a little longer than two words of eight""#,
    r#""ünïcödé €😀 behind""#,
    r#""quote \" and \\ and \/ and \n\t\r\b\f end""#,
    r#""\"""#,
    r#""\\""#,
    r#""{\"model\":\"small\",\"tokens\":17,\"note\":\"two\\nlines\"}""#,
    r#""\u00fc""#,
    r#""\ud83d\ude00""#,
    r#""\ud800""#,
    r#""\x""#,
    "\"tab\there\"",
    "\"nul\u{0}here\"",
    r#""open"#,
    r#""5""#,
    r#""5.0""#,
    r#""-7""#,
    r#""true""#,
    r#""abcd""#,
    r#""4181b152-fb77-416f-969c-646d52269d62""#,
    r#""2026-01-21T00:21:40.524Z""#,
    r#""2026-01-21""#,
    r#""10.1.2.3""#,
    r#""[\"a\"]""#,
    "0",
    "7",
    "-7",
    "-0",
    "00",
    "07",
    "128",
    "4294967295",
    "4294967296",
    "1768954900524",
    "999999999999999999",
    "1000000000000000000",
    "18446744073709551616",
    "3.7",
    "5.0",
    "1e2",
    "1.",
    "true",
    "false",
    "null",
    "nul",
    "truex",
    "{}",
    r#"{"a" : [1.10, {"b":"}"}], "ü":"\u00fc"}"#,
    r#"["a","b\"c"]"#,
    "[1,]",
    "1.00000005960464477539062500001",
    r#""1.00000005960464477539062500001""#,
    "288230393331580929",
    "1e39",
];

const KEYS: [&str; 6] = ["other", "another key of some length", "n\\u0061me", "", "Name", "schlüssel"];
const BLANKS: [&str; 6] = ["", "", "", " ", "\n\t", "\r  "];
const BYTES: &[u8] = b"\"\\{}[]:, \n\x0c\x00\x1f\x7f\x80\xc3\xffeE+-.0123456789tfnu/";

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A value that the column would take, mostly.
fn fitting(column: usize) -> &'static str {
    match COLUMNS[column].1 {
        "UUID" => VALUES[21],
        "FixedString(4)" => VALUES[20],
        "UInt32" | "Int8" | "Float32" | "Float64" | "Decimal(12, 2)" => VALUES[27],
        "Bool" => VALUES[43],
        "DateTime64(3, 'UTC')" => VALUES[22],
        "Date" => VALUES[23],
        "Array(String)" => VALUES[50],
        "Map(String, String)" | "JSON" => VALUES[48],
        "IPv4" => VALUES[24],
        "Enum8('low' = -1, '' = 3, '5' = 5)" => VALUES[0],
        _ => VALUES[8],
    }
}

/// Mostly an event as producers write it; otherwise keys twice, unknown, missing or in another order, values of any
/// kind, white space, and at times a few bytes changed.
fn event(random: &mut Random) -> Vec<u8> {
    let spaced = random.one_in(3);
    let blank = |random: &mut Random| if spaced { random.pick(&BLANKS) } else { "" };
    let odd = random.pick(&[3, 30, 1000]);
    let mut text = String::from("{");
    for turn in 0..COLUMNS.len() + random.below(2) {
        if random.one_in(12) {
            continue;
        }
        let column = if random.one_in(15) { random.below(COLUMNS.len()) } else { turn % COLUMNS.len() };
        let key = if random.one_in(20) { random.pick(&KEYS) } else { COLUMNS[column].0 };
        let value = if random.one_in(odd) { random.pick(&VALUES) } else { fitting(column) };
        if text.len() > 1 {
            text += ",";
        }
        for piece in [blank(random), "\"", key, "\"", blank(random), ":", blank(random), value, blank(random)] {
            text += piece;
        }
    }
    text += "}";
    text += blank(random);
    let mut bytes = text.into_bytes();
    while random.one_in(4) {
        let at = random.below(bytes.len().max(1));
        match random.below(4) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            2 if at < bytes.len() => bytes[at] = random.pick(BYTES),
            _ => bytes.insert(at.min(bytes.len()), random.pick(BYTES)),
        }
    }
    bytes
}

fn rows() -> Rows {
    rows_of(&COLUMNS)
}

fn rows_of(columns: &[(&str, &str, Missing)]) -> Rows {
    let column = |(name, type_name, missing): &(&str, &str, Missing)| SchemaColumn {
        name: (*name).to_owned(),
        type_name: (*type_name).to_owned(),
        wire_type: (*type_name).to_owned(),
        data_type: DataType::parse(type_name).unwrap(),
        missing: *missing,
    };
    let schema = Schema {
        database: "d".to_owned(),
        table: "t".to_owned(),
        columns: columns.iter().map(column).collect(),
        left_out: Vec::new(),
        engine: "MergeTree".to_owned(),
        sorting_key: String::new(),
        dedup: Dedup::Off,
        settings: Vec::new(),
        takes_token: true,
    };
    Rows::new(&Arc::new(schema), Origin { cluster_id: "c".to_owned(), topic: "t".to_owned() })
}

/// `SCAN_EVENTS` events (default 10,000) in batches of up to 60, each with a seed of its own.
#[test]
fn both_ways_agree() {
    let events: u64 = std::env::var("SCAN_EVENTS").map_or(10_000, |text| text.parse().unwrap());
    let (mut fast, mut slow) = (rows(), rows());
    slow.only_serde();
    let (mut stored, mut refused) = (0_u64, 0_u64);
    for seed in 0..events {
        let event = event(&mut Random(seed));
        let place = Place { partition: 3, offset: seed as i64, timestamp_ms: 1_768_954_900_524 };
        let (one, other) = (fast.push(&place, &event), slow.push(&place, &event));
        assert_eq!(one, other, "seed {seed}: {}", String::from_utf8_lossy(&event));
        if one.is_ok() {
            stored += 1;
        } else {
            refused += 1;
        }
        assert_eq!(fast.len(), slow.len());
        if seed % 60 == 0 || fast.len() < 2 {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let (one, other) = (fast.encode(now), slow.encode(now));
            assert_eq!(one.column_list, other.column_list, "up to seed {seed}");
            assert_eq!(one.body, other.body, "up to seed {seed}: {}", String::from_utf8_lossy(&event));
        }
    }
    assert_eq!(fast.unknown_keys(), slow.unknown_keys());
    // Both kinds were there in numbers, or the generator tests little.
    assert!(stored > events / 10 && refused > events / 10, "{stored} stored, {refused} refused");
    assert!(fast.fell_back() < events * 9 / 10, "{} of {events} fell back", fast.fell_back());
}

/// The events that the program is for take the fast path.
#[test]
fn ordinary_events_take_the_fast_path() {
    let mut rows = rows();
    let place = Place { partition: 0, offset: 0, timestamp_ms: 0 };
    for event in [
        r#"{"event_id":"4181b152-fb77-416f-969c-646d52269d62","kind":"a","name":"b","count":5,"flag":true}"#,
        r#"{"kind": "a", "name": "{\"b\":\"c\\nd\"}", "count": 5, "flag": null, "unheard_of": "x"}"#,
        r#"{"name":{"a":[1,2]},"kind":"ü","note":"","ingested_at":"whenever","name":7}"#,
        "{}",
    ] {
        rows.push(&place, event.as_bytes()).unwrap();
    }
    assert_eq!((rows.len(), rows.fell_back()), (4, 0));
    rows.push(&place, br#"{"ratio":-1.5}"#).unwrap();
    assert_eq!((rows.len(), rows.fell_back()), (5, 1));
}

/// Names that an event has with escapes, or that are longer than what keys are compared with at once.
#[test]
fn odd_names() {
    let long = "a_name_of_more_than_thirty_two_bytes_in_all";
    let columns = [("a\"b", "String", Missing::Zero), (long, "UInt32", Missing::Zero), ("c", "String", Missing::Zero)];
    let place = Place { partition: 0, offset: 0, timestamp_ms: 0 };
    let (mut fast, mut slow) = (rows_of(&columns), rows_of(&columns));
    slow.only_serde();
    let quoted = r#"{"a\"b":"x","LONG":7,"c":"y"}"#.replace("LONG", long);
    let raw = r#"{"a"b":"x","LONG":7,"c":"y"}"#.replace("LONG", long);
    let without = r#"{"LONG":7,"c":"y"}"#.replace("LONG", long);
    for (event, fits) in [(&quoted, true), (&raw, false), (&without, true), (&raw, false), (&quoted, true)] {
        let one = fast.push(&place, event.as_bytes());
        assert_eq!((&one, one.is_ok()), (&slow.push(&place, event.as_bytes()), fits), "{event}");
    }
    assert_eq!(fast.encode(SystemTime::UNIX_EPOCH).body, slow.encode(SystemTime::UNIX_EPOCH).body);
    assert_eq!(fast.fell_back(), 4, "all but the one without the first column");
}

/// Strings are looked at in pieces: ends and escapes in every place of one, with and without something behind them.
#[test]
fn strings_end_and_are_escaped_anywhere() {
    let columns = [("name", "String", Missing::Zero), ("kind", "LowCardinality(String)", Missing::Zero)];
    let place = Place { partition: 0, offset: 0, timestamp_ms: 0 };
    let (mut fast, mut slow) = (rows_of(&columns), rows_of(&columns));
    slow.only_serde();
    for front in 0..=100 {
        for (escape, behind) in
            [("", 0), ("\\\"", 0), ("\\n", 1), ("\\\\\\\"", 7), ("\\/ü\\t", 31), ("\\\"a\\\"", 70), ("\\\\\\\\", 130)]
        {
            let text = format!("{}{escape}{}", "f".repeat(front), "b".repeat(behind));
            for event in [
                format!(r#"{{"name":"{text}"}}"#),
                format!(r#"{{"kind":"{text}","name":"{text}"}}"#),
                format!(r#"{{"name":"{text}","kind":"{text}"}}"#),
            ] {
                fast.push(&place, event.as_bytes()).unwrap();
                slow.push(&place, event.as_bytes()).unwrap();
            }
            // Neither is JSON: a string without an end, and one that a control character is in.
            for event in [format!(r#"{{"name":"{text}"#), format!("{{\"name\":\"{text}\n\"}}")] {
                assert!(fast.push(&place, event.as_bytes()).is_err(), "{event}");
            }
        }
        assert_eq!(
            fast.encode(SystemTime::UNIX_EPOCH).body,
            slow.encode(SystemTime::UNIX_EPOCH).body,
            "strings of {front} bytes and more"
        );
    }
    assert_eq!(fast.fell_back(), 101 * 7 * 2, "what is no JSON, and nothing else");
}
