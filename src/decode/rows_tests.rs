use proptest::prelude::*;

use super::*;
use crate::clickhouse::schema::{Dedup, SchemaColumn};
use crate::columns::Missing;

fn schema(columns: &[(&str, &str, Missing)]) -> Arc<Schema> {
    let column = |(name, type_name, missing): &(&str, &str, Missing)| SchemaColumn {
        name: (*name).to_owned(),
        type_name: (*type_name).to_owned(),
        wire_type: (*type_name).to_owned(),
        data_type: DataType::parse(type_name).unwrap(),
        missing: *missing,
    };
    Arc::new(Schema {
        database: "d".to_owned(),
        table: "t".to_owned(),
        columns: columns.iter().map(column).collect(),
        left_out: Vec::new(),
        engine: "MergeTree".to_owned(),
        sorting_key: String::new(),
        dedup: Dedup::Off,
        settings: Vec::new(),
        takes_token: true,
    })
}

fn rows(columns: &[(&str, &str, Missing)]) -> Rows {
    Rows::new(&schema(columns), Origin { cluster_id: "c".to_owned(), topic: "t".to_owned() })
}

#[path = "rows_bounds_tests.rs"]
mod bounds;

const PLACE: Place = Place { partition: 0, offset: 0, timestamp_ms: 1_768_954_900_524 };

/// The data bytes of the only column after one event.
fn one(type_name: &str, json: &str) -> Result<Vec<u8>, Class> {
    let mut rows = rows(&[("a", type_name, Missing::Zero)]);
    let event = format!("{{\"a\": {json}}}");
    let pushed = rows.push(&PLACE, event.as_bytes());
    assert_eq!(rows.len(), usize::from(pushed.is_ok()));
    if let Err(reject) = pushed {
        assert_eq!(rows.bytes(), 0);
        assert!(matches!(reject.class, Class::InvalidJson) || reject.column.as_deref() == Some("a"), "{reject}");
        assert!(!reject.reason.is_empty());
        return Err(reject.class);
    }
    let mut out = Vec::new();
    rows.cells[0].encode(0..rows.cells[0].len(), &mut |bytes| out.extend_from_slice(bytes));
    Ok(out)
}

fn string(json: &str) -> String {
    let encoded = one("String", json).unwrap();
    assert_eq!(encoded.len() - 1, usize::from(encoded[0]));
    String::from_utf8(encoded[1..].to_vec()).unwrap()
}

#[test]
fn text_columns_take_anything_unchanged() {
    for (json, text) in [
        (r#""plain""#, "plain"),
        (r#""a\"\n\u00fc\ud83d\ude00""#, "a\"\nü😀"),
        ("5", "5"),
        ("-5", "-5"),
        ("-0", "-0"),
        ("1.10", "1.10"),
        ("1e5", "1e5"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("true", "true"),
        ("null", ""),
        (r#"{"b" : [1.10, "\u00fc"]}"#, r#"{"b" : [1.10, "\u00fc"]}"#),
        ("[ ]", "[ ]"),
    ] {
        assert_eq!(string(json), text, "{json}");
    }
    assert_eq!(one("FixedString(2)", "12"), Ok(b"12".to_vec()));
    assert_eq!(one("FixedString(2)", "123"), Err(Class::OutOfRange));
    assert_eq!(one("String", r#""\ud800""#), Err(Class::InvalidJson));
}

#[test]
fn numbers() {
    for (json, expected) in [
        ("5", Ok(5)),
        ("\"5\"", Ok(5)),
        ("5.0", Ok(5)),
        ("\"5.0\"", Ok(5)),
        ("1e2", Ok(100)),
        ("true", Ok(1)),
        ("\"\"", Ok(0)),
        ("null", Ok(0)),
        ("255", Ok(255)),
        ("256", Err(Class::OutOfRange)),
        ("-1", Err(Class::OutOfRange)),
        ("1e300", Err(Class::OutOfRange)),
        ("3.7", Err(Class::InvalidValue)),
        ("\"3.7\"", Err(Class::InvalidValue)),
        ("\"five\"", Err(Class::InvalidValue)),
        ("\" 5\"", Err(Class::InvalidValue)),
        ("[5]", Err(Class::InvalidValue)),
        ("{}", Err(Class::InvalidValue)),
    ] {
        assert_eq!(one("UInt8", json), expected.map(|number| vec![number]), "{json}");
    }
    assert_eq!(one("UInt64", "18446744073709551615"), Ok(vec![255; 8]));
    assert_eq!(one("UInt64", "18446744073709551616"), Err(Class::OutOfRange));
    assert_eq!(one("Float64", "\"-1.5\""), Ok((-1.5_f64).to_le_bytes().to_vec()));
    assert_eq!(one("Float32", "7"), Ok(7_f32.to_le_bytes().to_vec()));
    assert_eq!(one("Float32", "1e39"), Err(Class::OutOfRange));
    for not_finite in ["\"nan\"", "\"inf\"", "true"] {
        assert_eq!(one("Float64", not_finite), Err(Class::InvalidValue));
    }
}

#[test]
fn the_other_types() {
    for (json, expected) in [("true", 1), ("0", 0), ("\"True\"", 1), ("\"0\"", 0), ("1.0", 1), ("\"\"", 0)] {
        assert_eq!(one("Bool", json), Ok(vec![expected]), "{json}");
    }
    for bad in ["2", "\"yes\"", "[]", "-1"] {
        assert_eq!(one("Bool", bad), Err(Class::InvalidValue), "{bad}");
    }
    let uuid = [0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88];
    assert_eq!(one("UUID", "\"00112233-4455-6677-8899-AABBccddeeff\""), Ok(uuid.to_vec()));
    assert_eq!(one("UUID", "\"00112233\""), Err(Class::InvalidValue));
    assert_eq!(one("IPv4", "\"1.2.3.4\""), Ok(vec![4, 3, 2, 1]));
    assert_eq!(one("IPv6", "\"1.2.3.4\"").unwrap()[10..], [0xff, 0xff, 1, 2, 3, 4]);
    assert_eq!(one("IPv6", "\"::1\"").unwrap()[15], 1);
    assert_eq!(one("IPv6", "\"::g\""), Err(Class::InvalidValue));
    assert_eq!(one("Enum8('a' = -2, 'b' = 5)", "\"b\""), Ok(vec![5]));
    assert_eq!(one("Enum8('a' = -2, 'b' = 5)", "-2"), Ok(vec![0xfe]));
    assert_eq!(one("Enum8('a' = -2, 'b' = 5)", "\"c\""), Err(Class::InvalidValue));
    assert_eq!(one("Enum8('a' = -2, 'b' = 5)", "0"), Err(Class::InvalidValue));
    // "" is no value, except where it is a name.
    for (type_name, json, value) in [
        ("Enum8('a' = -2, 'b' = 5)", "\"\"", 0xfe),
        ("Enum8('a' = -2, '' = 5)", "\"\"", 5),
        ("Enum8('a' = -2, '' = 5)", "null", 0xfe),
        ("Nullable(Enum8('a' = -2, '' = 5))", "\"\"", 5),
    ] {
        assert_eq!(one(type_name, json), Ok(vec![value]), "{type_name} {json}");
    }
    assert_eq!(one("Enum16('a' = -2, '' = 300)", "\"\""), Ok(vec![0x2c, 1]));
    assert_eq!(
        one("Array(Enum8('a' = -2, '' = 5))", r#"["", "a", null]"#).map(|all| all[8..].to_vec()),
        Ok(vec![5, 0xfe, 0xfe])
    );
    assert_eq!(one("Date", "\"2026-01-21\""), Ok(20_474_u16.to_le_bytes().to_vec()));
    assert_eq!(one("Date32", "\"1969-12-31\""), Ok((-1_i32).to_le_bytes().to_vec()));
    assert_eq!(one("DateTime", "1768954900.9"), Ok(1_768_954_900_u32.to_le_bytes().to_vec()));
    let ticks = 1_768_954_900_524_i64.to_le_bytes().to_vec();
    for json in ["1768954900.524", "\"1768954900.524\"", "1768954900524", "\"2026-01-21T00:21:40.524Z\""] {
        assert_eq!(one("DateTime64(3)", json), Ok(ticks.clone()), "{json}");
    }
    assert_eq!(one("DateTime64(3)", "\"1969-01-01\""), Err(Class::OutOfRange));
    assert_eq!(one("DateTime64(3)", "true"), Err(Class::InvalidValue));
}

#[test]
fn what_is_read_from_its_text() {
    assert_eq!(one("Decimal(9, 2)", "1.10"), Ok(110_i32.to_le_bytes().to_vec()));
    assert_eq!(one("Decimal(9, 2)", "\"-1.1\""), Ok((-110_i32).to_le_bytes().to_vec()));
    assert_eq!(one("Decimal(9, 2)", "1.111"), Err(Class::InvalidValue));
    assert_eq!(one("Decimal(9, 2)", "1e9"), Err(Class::OutOfRange));
    assert_eq!(one("Decimal(9, 2)", "true"), Err(Class::InvalidValue));
    assert_eq!(one("UInt128", "340282366920938463463374607431768211455"), Ok(vec![255; 16]));
    assert_eq!(one("Int256", "1.0").unwrap()[..2], [1, 0]);
    let ends = |ends: &[u64]| ends.iter().flat_map(|end| end.to_le_bytes()).collect::<Vec<u8>>();
    let array = |json| one("Array(String)", json).map(|bytes| bytes[8..].to_vec());
    assert_eq!(
        array(r#"["a", 1.10, {"x": [-0]}, null, true]"#),
        Ok(b"\x01a\x041.10\x0b{\"x\": [-0]}\x00\x04true".to_vec())
    );
    assert_eq!(array(r#""[\"a\"]""#), Ok(b"\x01a".to_vec()));
    assert_eq!(array("null"), Ok(Vec::new()));
    assert_eq!(array("{}"), Err(Class::InvalidValue));
    assert_eq!(
        one("Array(Array(UInt8))", "[[1, \"2\"], [], [3.0]]"),
        Ok([ends(&[3, 2, 2, 3]), vec![1, 2, 3]].concat())
    );
    assert_eq!(one("Array(UInt8)", "[1, 256]"), Err(Class::OutOfRange));
    assert_eq!(one("Array(UInt8)", "[1, {}]"), Err(Class::InvalidValue));
    assert_eq!(
        one("Map(String, Int8)", r#"{"b": 1, "a": -2, "b": 3}"#),
        Ok([ends(&[2]), b"\x01b\x01a\x03\xfe".to_vec()].concat())
    );
    assert_eq!(one("Map(String, Int8)", "[1]"), Err(Class::InvalidValue));
    let json = |json| one("JSON", json).map(|bytes| String::from_utf8(bytes[9..].to_vec()).unwrap());
    assert_eq!(json(r#"{"a" : 1.10}"#), Ok(r#"{"a" : 1.10}"#.to_owned()));
    assert_eq!(json(r#""{\"a\":1}""#), Ok(r#"{"a":1}"#.to_owned()));
    assert_eq!(json("null"), Ok("{}".to_owned()));
    for bad in ["[1]", "5", "\"{\""] {
        assert_eq!(json(bad), Err(Class::InvalidValue), "{bad}");
    }
}

#[test]
fn whole_events_that_are_bad() {
    let mut rows = rows(&[("a", "String", Missing::Zero), ("n", "UInt8", Missing::Zero)]);
    let deep = |levels: usize, key: &str| format!("{{\"{key}\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
    for (event, class) in [
        (b"\xff".to_vec(), Class::InvalidUtf8),
        (b"{\"a\": \"\xed\xa0\x80\"}".to_vec(), Class::InvalidUtf8),
        (b"".to_vec(), Class::InvalidJson),
        (b"{".to_vec(), Class::InvalidJson),
        (b"{\"a\": 1} x".to_vec(), Class::InvalidJson),
        (b"{\"n\": \"x\"".to_vec(), Class::InvalidJson),
        (b"[]".to_vec(), Class::NotAnObject),
        (b" null".to_vec(), Class::NotAnObject),
        (b"\"a\"".to_vec(), Class::NotAnObject),
        (deep(64, "a").into_bytes(), Class::TooDeep),
        (deep(64, "other").into_bytes(), Class::TooDeep),
        (deep(100_000, "a").into_bytes(), Class::TooDeep),
        (deep(100_000, "other").into_bytes(), Class::TooDeep),
        (deep(100_000, "n").into_bytes(), Class::TooDeep),
        (deep(63, "n").into_bytes(), Class::InvalidValue),
    ] {
        let reject = rows.push(&PLACE, &event).unwrap_err();
        assert_eq!(reject.class, class, "{reject}");
    }
    assert_eq!((rows.len(), rows.bytes()), (0, 0));
    rows.push(&PLACE, deep(63, "a").as_bytes()).unwrap();
    rows.push(&PLACE, b" \t{}\r\n").unwrap();
    assert_eq!(rows.len(), 2);
}

#[test]
fn of_a_repeated_key_the_last_counts() {
    let mut rows = rows(&[("a", "String", Missing::Zero), ("n", "UInt8", Missing::Default)]);
    rows.push(&PLACE, br#"{"n": "bad", "a": {"x": 1}, "n": 3, "a": "last"}"#).unwrap();
    let reject = rows.push(&PLACE, br#"{"n": 3, "n": "bad"}"#).unwrap_err();
    assert_eq!(reject.to_string(), "invalid_value in n: \"bad\" is not an integer");
    rows.push(&PLACE, br#"{"n": 3, "n": null, "\u0061": 7}"#).unwrap();
    let mut out = Vec::new();
    for cells in &rows.cells {
        cells.encode(0..cells.len(), &mut |bytes| out.extend_from_slice(bytes));
    }
    assert_eq!(out, [b"\x04last\x017".as_slice(), &[0, 1, 3, 0]].concat());
}

#[test]
fn unknown_keys_are_counted_once_an_event_and_bounded() {
    let mut rows = rows(&[("a", "String", Missing::Zero)]);
    // The object makes the event be walked twice.
    rows.push(&PLACE, br#"{"x": 1, "a": {"y": 2}, "x": [1]}"#).unwrap();
    rows.push(&PLACE, br#"{"x": 1}"#).unwrap();
    assert_eq!(rows.unknown_keys().take_new(), ["x"]);
    assert_eq!(rows.unknown_keys().counts()["x"], 3);
    for number in 0..1000 {
        rows.push(&PLACE, format!("{{\"key {number}\": 1}}").as_bytes()).unwrap();
    }
    assert_eq!(rows.unknown_keys().counts().len(), MAX_UNKNOWN);
    assert_eq!(rows.unknown_keys().others, 1000 - 63);
    assert_eq!(rows.unknown_keys().take_new().len(), 63);
}

#[test]
fn the_three_names_act_only_on_fitting_types() {
    let place = Place { partition: 1, offset: 2, timestamp_ms: 1_768_954_900_524 };
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
    let mut fitting = rows(&[
        ("event_id", "UUID", Missing::Default),
        ("event_time", "DateTime", Missing::Default),
        ("ingested_at", "Nullable(DateTime64(3))", Missing::Null { has_default: false }),
    ]);
    fitting.push(&place, br#"{"event_time": null, "ingested_at": "garbage", "event_id": ""}"#).unwrap();
    fitting.push(&Place { timestamp_ms: -1, ..place }, b"{}").unwrap();
    let block = fitting.encode(now);
    assert_eq!(block.column_list, "`event_id`,`event_time`,`ingested_at`");
    let sent = unframed(&block.body);
    let times = [1_768_954_900_u32.to_le_bytes(), 1_800_000_000_u32.to_le_bytes()].concat();
    assert!(sent.windows(8).any(|window| window == times), "the record's timestamp, then the time of encoding");
    let ours = [&[0, 0][..], &1_800_000_000_000_i64.to_le_bytes().repeat(2)].concat();
    assert!(sent.ends_with(&ours));
    // By `uuid5(namespace, "c/t/1/2")` of Python's uuid module.
    let id = Uuid::new_v5(&NAMESPACE, b"c/t/1/2");
    let mut bytes = Vec::new();
    bytes.extend(id.as_u64_pair().0.to_le_bytes());
    bytes.extend(id.as_u64_pair().1.to_le_bytes());
    assert!(sent.windows(16).any(|window| window == bytes));

    let mut other = rows(&[
        ("event_id", "String", Missing::Zero),
        ("event_time", "Int64", Missing::Zero),
        ("ingested_at", "String", Missing::Zero),
    ]);
    other.push(&place, br#"{"ingested_at": "theirs"}"#).unwrap();
    assert!(unframed(&other.encode(now).body).ends_with(b"\x06theirs"));
}

#[test]
fn a_block_names_at_least_one_column() {
    let mut rows = rows(&[("a", "UInt8", Missing::Default), ("b", "String", Missing::Default)]);
    rows.push(&PLACE, b"{}").unwrap();
    let block = rows.encode(SystemTime::now());
    assert_eq!(block.column_list, "`a`");
    let body: &[u8] = b"INSERT INTO `d`.`t` (`a`) FORMAT Native\n\x01\x01\x01a\x0fNullable(UInt8)\x01\x00";
    assert_eq!(unframed(&block.body), body);
    assert_eq!((rows.len(), rows.bytes()), (0, 0));
}

/// The content of a body of one frame.
fn unframed(body: &[u8]) -> Vec<u8> {
    let plain = u32::from_le_bytes(body[21..25].try_into().unwrap());
    lz4_flex::block::decompress(&body[25..], plain as usize).unwrap()
}

proptest! {
    /// Bad events among good ones leave nothing behind, wherever they go wrong.
    #[test]
    fn bad_events_leave_no_trace(events in prop::collection::vec((0..6_usize, "[a-z\\\\\"]{0,6}", any::<u8>()), 1..30)) {
        let columns = [("a", "String", Missing::Zero), ("l", "Nullable(String)", Missing::Null { has_default: false }), ("n", "UInt8", Missing::Default)];
        let (mut clean, mut mixed) = (rows(&columns), rows(&columns));
        for (kind, text, number) in events {
            let text = serde_json::Value::from(text);
            let good = match kind {
                0 => format!(r#"{{"a": {text}, "l": {text}, "n": {number}}}"#),
                1 => format!(r#"{{"n": {number}, "l": {{"x": {text}}}}}"#),
                2 => format!(r#"{{"a": [{text}], "a": {text}}}"#),
                3 => { mixed.push(&PLACE, format!(r#"{{"a": {text}, "l": 1.50, "n": -{number}.5}}"#).as_bytes()).unwrap_err(); continue }
                4 => { mixed.push(&PLACE, format!(r#"{{"a": {text}, "l": [], "n": {number}, }}"#).as_bytes()).unwrap_err(); continue }
                _ => { mixed.push(&PLACE, format!(r#"{{"n": {number}, "n": 256, "a": {text}}}"#).as_bytes()).unwrap_err(); continue }
            };
            clean.push(&PLACE, good.as_bytes()).unwrap();
            mixed.push(&PLACE, good.as_bytes()).unwrap();
        }
        prop_assert_eq!(clean.len(), mixed.len());
        prop_assert_eq!(clean.bytes(), mixed.bytes());
        let now = SystemTime::now();
        let (clean, mixed) = (clean.encode(now), mixed.encode(now));
        prop_assert_eq!(clean.column_list, mixed.column_list);
        prop_assert_eq!(clean.body, mixed.body);
    }
}

/// The bytes that a server was seen to take and give back, by type.
#[test]
fn golden_bytes_of_every_type() {
    let ff = |count| "ff".repeat(count);
    let cases: [(&str, &str, String); 36] = [
        ("String", r#""ab""#, "026162".into()),
        ("FixedString(4)", r#""ab""#, "61620000".into()),
        ("Bool", "true", "01".into()),
        ("Int8", "-2", "fe".into()),
        ("Int16", "-2", "feff".into()),
        ("Int32", "-2", "feffffff".into()),
        ("Int64", "-2", format!("fe{}", ff(7))),
        ("Int128", "-2", format!("fe{}", ff(15))),
        ("Int256", "-2", format!("fe{}", ff(31))),
        ("UInt8", "254", "fe".into()),
        ("UInt16", "513", "0102".into()),
        ("UInt32", "513", "01020000".into()),
        ("UInt64", "513", format!("0102{}", "00".repeat(6))),
        ("UInt128", "340282366920938463463374607431768211455", ff(16)),
        ("UInt256", "513", format!("0102{}", "00".repeat(30))),
        ("Float32", "1.5", "0000c03f".into()),
        ("Float64", "-2.5", "00000000000004c0".into()),
        ("Decimal(9, 2)", "-12.5", "1efbffff".into()),
        ("Decimal(18, 3)", "123456789012345.678", "4ef330a64b9bb601".into()),
        ("Decimal(38, 4)", "1.5", format!("983a{}", "00".repeat(14))),
        ("Decimal(76, 0)", "-1", ff(32)),
        ("UUID", r#""00112233-4455-6677-8899-aabbccddeeff""#, "7766554433221100ffeeddccbbaa9988".into()),
        ("Date", r#""2026-01-21""#, "fa4f".into()),
        ("Date32", r#""1969-12-31""#, ff(4)),
        ("DateTime", r#""2026-01-21T00:21:40Z""#, "141c7069".into()),
        ("DateTime64(3, 'UTC')", r#""2026-01-21T00:21:40.524Z""#, "2cb0eddd9b010000".into()),
        ("DateTime64(9)", r#""2026-01-21T02:21:40.524123456+02:00""#, "40456d151c978c18".into()),
        ("Enum8('a' = -2, 'b' = 5)", r#""a""#, "fe".into()),
        ("Enum16('a' = 300)", r#""a""#, "2c01".into()),
        ("IPv4", r#""1.2.3.4""#, "04030201".into()),
        ("IPv6", r#""2001:db8::1""#, format!("20010db8{}01", "00".repeat(11))),
        ("Array(UInt16)", "[1, 2]", "020000000000000001000200".into()),
        ("Array(Array(UInt8))", "[[7], []]", format!("02{0}01{0}01{0}07", "00".repeat(7))),
        ("Map(String, UInt8)", r#"{"a": 1}"#, "0100000000000000016101".into()),
        ("Array(Nullable(UInt8))", "[null, 5]", "020000000000000001000005".into()),
        ("JSON", r#"{"a":1}"#, "0100000000000000077b2261223a317d".into()),
    ];
    for (type_name, json, wanted) in cases {
        let bytes = one(type_name, json).unwrap_or_else(|class| panic!("{type_name} {json}: {class:?}"));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, wanted, "{type_name} {json}");
    }
    // An index of one byte, a dictionary that the block brings along, and its keys.
    let bytes = one("LowCardinality(String)", r#""ab""#).unwrap();
    assert_eq!(bytes[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0], "version 1, UInt8 indexes");
    assert!(bytes[9] & 2 != 0 && bytes.windows(3).any(|part| part == b"\x02ab"), "additional keys: {bytes:?}");
}

/// Cells of a table in Markdown whose heading begins with `head`, the first one of each row apart.
fn table(page: &str, head: &str) -> Vec<(String, Vec<String>)> {
    let lines = page.lines().skip_while(|line| !line.starts_with(head)).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = lines.map(cells).filter(|row| !row.iter().all(|cell| cell == "---")).collect();
    rows.iter().map(|row| (row[0].clone(), row[1..].to_vec())).collect()
}

/// Texts of which each type takes at least one, unless it takes none; likewise with the other kinds of values.
const TEXTS: [&str; 7] = [
    r#""5""#,
    r#""true""#,
    r#""00112233-4455-6677-8899-aabbccddeeff""#,
    r#""2026-01-21""#,
    r#""127.0.0.1""#,
    r#""[]""#,
    r#""{}""#,
];

/// What the tables say of a kind of value: a cell that begins with "rejected" is about every such value.
fn samples(heading: &str) -> &'static [&'static str] {
    match heading {
        "string" => &TEXTS,
        "number" => &["5", "1", "1.5", "1768954900"],
        "whole number (`5`, `5.0`, `5e0`)" => &["5", "5.0", "5e0", "1", "1768954900"],
        "other number" => &["1.5", "0.1", "1768954900.5"],
        "`true`, `false`" => &["true", "false"],
        "`null`, no such key" => &["null"],
        "object" => &["{}", r#"{"k": 1}"#],
        "array" => &["[]", "[1]"],
        other => panic!("the heading {other:?}"),
    }
}

/// The types that a row of a table is about.
fn types_of(row: &str) -> Vec<String> {
    let wide = ["Int128", "Int256", "UInt128", "UInt256"];
    let narrow = ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"];
    let named: Vec<&str> = match row {
        "Int8 … Int64, UInt8 … UInt64" => narrow.to_vec(),
        "(U)Int8 … (U)Int256" => [&narrow[..], &wide].concat(),
        _ => row.split(", ").collect(),
    };
    // "Decimal(P, S)" and "Map(String, T)" come apart at their comma.
    let whole = |name: &&str| match *name {
        "FixedString(N)" => "FixedString(64)".to_owned(),
        "Decimal(P" => "Decimal(9, 2)".to_owned(),
        "DateTime64(p)" => "DateTime64(3)".to_owned(),
        "Enum8" | "Enum16" => format!("{name}('5' = 1, 'b' = 5)"),
        "Array(T)" => "Array(Int64)".to_owned(),
        "Map(String" => "Map(String, Int64)".to_owned(),
        name => name.to_owned(),
    };
    named.iter().filter(|name| !matches!(**name, "S)" | "T)")).map(whole).collect()
}

#[test]
fn the_documents_tables_say_what_is_taken_and_what_is_rejected() {
    let pages = [
        (include_str!("../../README.md"), "| column ↓ JSON → |"),
        (include_str!("../../docs/values.md"), "| JSON → column ↓ |"),
    ];
    for (page, head) in pages {
        let mut table = table(page, head);
        let (_, headings) = table.remove(0);
        assert!(table.len() >= 14, "{table:?}");
        for (row, cells) in table {
            assert_eq!(cells.len(), headings.len(), "{row}");
            for type_name in types_of(&row) {
                for (heading, cell) in headings.iter().zip(&cells) {
                    let taken = samples(heading).iter().filter(|json| one(&type_name, json).is_ok()).count();
                    assert_eq!(taken == 0, cell == "rejected", "{type_name}, {heading}: {cell}, but {taken} are taken");
                }
            }
        }
    }
}

#[test]
fn null_and_no_such_key_are_the_same() {
    let types =
        "String, FixedString(N), Bool, Int8, Int128, Float64, Decimal(P, S), UUID, Date32, DateTime64(p), Enum8, IPv6";
    for type_name in types_of(types).iter().map(String::as_str).chain(["Array(Int8)", "Map(String, Int8)", "JSON"]) {
        let mut rows = rows(&[("a", type_name, Missing::Zero)]);
        rows.push(&PLACE, b"{}").unwrap();
        let mut absent = Vec::new();
        rows.cells[0].encode(0..rows.cells[0].len(), &mut |bytes| absent.extend_from_slice(bytes));
        assert_eq!(one(type_name, "null"), Ok(absent.clone()), "{type_name}");
        let zero = match type_name {
            "JSON" => absent.ends_with(b"\x02{}"),
            // The lowest member's value.
            "Enum8('5' = 1, 'b' = 5)" => absent == [1],
            _ => absent.iter().all(|byte| *byte == 0),
        };
        assert!(zero, "{type_name}: {absent:?}");
    }
}
