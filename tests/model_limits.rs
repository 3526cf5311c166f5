//! Wide tables, large events, many keys, deep nesting: stored whole or rejected cleanly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;

use sandarb_consumer::decode::{Class, Place};
use serde_json::{Value, json};
use support::bench::{Bench, block_of, now, place, read_back, rows_for};
use support::clickhouse::Server;

async fn with_table(columns: &str) -> (Server, Bench) {
    let server = Server::start().await;
    server.query("CREATE DATABASE sandarb").await;
    server.query(&format!("CREATE TABLE sandarb.events ({columns}) ENGINE = MergeTree ORDER BY trace_id")).await;
    let bench = Bench::new(server.config("sandarb", "events"));
    (server, bench)
}

#[tokio::test]
async fn a_table_of_three_hundred_columns() {
    let types = [
        "String",
        "Nullable(Int64)",
        "LowCardinality(String) DEFAULT 'd'",
        "Float64",
        "Array(UInt8)",
        "DateTime64(3, 'UTC')",
    ];
    let columns: Vec<String> = (0..300).map(|at| format!("`column {at}` {}", types[at % types.len()])).collect();
    let (server, mut bench) = with_table(&format!("trace_id String, {}", columns.join(", "))).await;
    let schema = bench.schema().await;
    assert_eq!(schema.columns.len(), 301);
    let events: Vec<Value> = (0..50)
        .map(|number| {
            let mut event = json!({"trace_id": format!("{number:03}")});
            // Each event fills other columns, in another order.
            for step in 0..100 {
                let at = (number * 7 + step * 3) % 300;
                event[format!("column {at}")] = match at % types.len() {
                    0 => json!(format!("text {number} {at}")),
                    1 => json!(number * at),
                    2 => json!(format!("low {}", at % 5)),
                    3 => json!(0.25 * at as f64),
                    4 => json!([at % 256, 1]),
                    _ => json!(format!("2026-01-21T00:21:40.{:03}Z", at)),
                };
            }
            event
        })
        .collect();
    bench.stored(&block_of(&schema, &events), "wide").await;
    let found = read_back(&server, "*").await;
    let zeros = [json!(""), json!(null), json!("d"), json!(0), json!([]), json!("1970-01-01T00:00:00.000Z")];
    for (event, found) in events.iter().zip(&found) {
        for at in 0..300 {
            let name = format!("column {at}");
            let sent = event.get(&name).unwrap_or(&zeros[at % types.len()]);
            let equal = sent == &found[&name] || (sent.is_number() && sent.as_f64() == found[&name].as_f64());
            assert!(equal, "{name}: {} instead of {sent}", found[&name]);
        }
    }
}

#[tokio::test]
async fn an_event_of_a_megabyte_and_one_of_ten_thousand_keys() {
    let (server, mut bench) = with_table("trace_id String, big String, m Map(String, UInt32), a Array(String)").await;
    let schema = bench.schema().await;
    let mut rows = rows_for(&schema);
    let big = "ü\"\\ ".repeat(200_000);
    let event = json!({"trace_id": "a", "big": big}).to_string();
    assert!(event.len() > 1_000_000);
    rows.push(&place(0), event.as_bytes()).unwrap();
    assert!(rows.bytes() >= big.len());
    let keys: BTreeMap<String, u32> = (0..10_000).map(|number| (format!("key {number}"), number)).collect();
    let mut many = serde_json::to_value(&keys).unwrap();
    many["trace_id"] = json!("b");
    rows.push(&place(1), many.to_string().as_bytes()).unwrap();
    let unknown = rows.unknown_keys();
    assert_eq!((unknown.counts().len(), unknown.take_new().len(), unknown.others), (64, 64, 10_000 - 64));
    let items: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    rows.push(&place(2), json!({"trace_id": "c", "m": keys, "a": items}).to_string().as_bytes()).unwrap();
    // A bad value at the very end undoes all of it.
    let before = rows.bytes();
    let text = json!({"trace_id": "d", "m": keys, "a": items, "big": big}).to_string();
    let bad = format!("{},\"m\":{{\"x\":-1}}}}", text.strip_suffix('}').unwrap());
    assert_eq!(rows.push(&place(3), bad.as_bytes()).unwrap_err().class, Class::OutOfRange);
    assert_eq!((rows.len(), rows.bytes()), (3, before));
    bench.stored(&rows.encode(now()), "large").await;
    let found = read_back(&server, "*").await;
    assert_eq!(found.len(), 3);
    assert_eq!(found[0]["big"], json!(big));
    assert_eq!((found[1]["big"].as_str(), &found[1]["m"]), (Some(""), &json!({})));
    assert_eq!((&found[2]["m"], &found[2]["a"]), (&json!(keys), &json!(items)));
}

#[tokio::test]
async fn depth() {
    let (server, mut bench) =
        with_table("trace_id String, text String, n UInt8, j JSON, a Array(String), k JSON").await;
    let schema = bench.schema().await;
    let mut rows = rows_for(&schema);
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let objects = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    for key in ["text", "n", "j", "a", "other", "ingested_at"] {
        for value in [nested(1000), objects(1000), nested(64)] {
            let event = format!("{{\"{key}\": {value}}}");
            let reject = rows.push(&place(0), event.as_bytes()).unwrap_err();
            assert_eq!(reject.class, Class::TooDeep, "{key}: {reject}");
        }
    }
    // In a text it is a text, except where the column reads it.
    let event = json!({"trace_id": "a", "text": nested(1000), "j": objects(64), "a": [nested(1000)]});
    rows.push(&place(0), event.to_string().as_bytes()).unwrap();
    for levels in [65, 1000] {
        let event = json!({"j": objects(levels)}).to_string();
        assert_eq!(rows.push(&place(1), event.as_bytes()).unwrap_err().class, Class::TooDeep);
    }
    let event = format!("{{\"trace_id\": \"b\", \"text\": {}, \"j\": {}}}", nested(63), objects(63));
    rows.push(&Place { offset: 2, ..place(2) }, event.as_bytes()).unwrap();
    bench.stored(&rows.encode(now()), "deep").await;
    let found = read_back(&server, "trace_id, text, a[1] AS first, length(toString(j)) > 300 AS kept").await;
    assert_eq!(
        found,
        [
            json!({"trace_id": "a", "text": nested(1000), "first": nested(1000), "kept": 1}),
            json!({"trace_id": "b", "text": nested(63), "first": "", "kept": 1}),
        ]
    );
}

/// Objects that are JSON and that the JSON type refuses would fail a whole batch: the program finds them first.
#[tokio::test]
async fn objects_that_the_server_refuses_never_reach_it() {
    let (server, mut bench) = with_table("trace_id String, j JSON").await;
    let schema = bench.schema().await;
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":null,"a":1}"#,
        r#"{"a.b":1,"a":{"b":2}}"#,
        r#"{"x":{"a":1},"x":{"b":2}}"#,
        r#"{"x":[{"a":1,"a":2}]}"#,
        r#"{"x":1e400}"#,
        r#"{"x":"\ud800"}"#,
        r#"{"\ud800":1}"#,
    ] {
        let values = text.replace('\\', "\\\\");
        let answer = server.answer(&format!("INSERT INTO sandarb.events (j) SELECT '{values}'")).await;
        assert_ne!(answer.code, None, "the server takes {text}");
        for event in [format!("{{\"j\": {text}}}"), json!({ "j": text }).to_string()] {
            let reject = rows_for(&schema).push(&place(0), event.as_bytes()).unwrap_err();
            assert_eq!((reject.class, reject.column.as_deref()), (Class::InvalidValue, Some("j")), "{event}");
        }
    }
    for (number, text) in [
        r#"{"a":{},"b":{"a":{}},"c":[{"a":1},{"a":2}]}"#,
        r#"{"":1,"x":{"":2},"y z":[],"n":null}"#,
        r#"{"x":18446744073709551616,"y":-0,"z":1e-400}"#,
        r#"{"x":[1,"a",{"b":1},[[{"b":2}]]]}"#,
        r#"{"x":"\ud83d\ude00\u0000"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let mut rows = rows_for(&schema);
        rows.push(&place(0), format!("{{\"trace_id\": \"{number}\", \"j\": {text}}}").as_bytes()).unwrap();
        assert_eq!(bench.stored(&rows.encode(now()), &format!("t{number}")).await, 1, "{text}");
    }
}
