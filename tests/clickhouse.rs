//! The ClickHouse side against a real server: what goes in comes out again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use sandarb_consumer::clickhouse::inserter::Ended;
use sandarb_consumer::clickhouse::schema::{Dedup, DescribeError};
use sandarb_consumer::config::Secret;
use sandarb_consumer::decode::Place;
use serde_json::{Value, json};
use support::bench::{Bench, block_of, event, iso, millis, now, read_back, rows_for};
use support::clickhouse::Server;

#[tokio::test]
async fn two_thousand_events_come_back_equal_and_only_once() {
    let server = Server::start().await;
    server.apply("events.sql").await;
    server.apply("views.sql").await;
    server.apply("reports.sql").await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    assert_eq!(schema.columns.len(), 27);
    assert_eq!(schema.dedup, Dedup::Window(10_000));
    assert_eq!(schema.sorting_key, "org_id, event_type, event_time, event_id");
    assert!(schema.takes_token && schema.settings.contains(&("async_insert".to_owned(), "0".to_owned())));

    let time = iso(&server, 524).await;
    let events: Vec<Value> = (0..2000).map(|number| event(number, &time)).collect();
    let block = block_of(&schema, &events);
    assert_eq!(block.rows, 2000);
    for _ in 0..2 {
        assert_eq!(bench.stored(&block, "token-1").await, 1, "a known token is answered like a new one");
    }
    let found = read_back(&server, "* EXCEPT ingested_at").await;
    assert_eq!(found.len(), 2000);
    for (sent, found) in events.iter().zip(&found) {
        assert_eq!(sent, found);
    }
    for (sum, table) in [
        ("sum(event_count)", "daily_kpis"),
        ("sum(event_count)", "agent_activity"),
        ("sum(events)", "kpis_by_day"),
        ("sum(events)", "agents_by_day"),
        ("count()", "proofs"),
    ] {
        let sql = format!("SELECT {sum} FROM sandarb.{table}");
        assert_eq!(server.query(&sql).await, "2000", "{table}: the views' targets have windows of their own");
    }
    assert_eq!(server.query("SELECT sum(events) FROM sandarb.denials_by_day").await, "667");
    let progress = bench.progress.borrow().clone();
    assert_eq!((progress.rows, progress.batches, progress.failed_attempts), (4000, 2, 0));
    assert!(progress.connected && progress.last_stored_at.is_some() && progress.blocked.is_none());

    // Another token is another insert.
    bench.stored(&block, "token-2").await;
    assert_eq!(server.query("SELECT count() FROM sandarb.events").await, "4000");
}

#[tokio::test]
async fn what_events_lack_the_table_fills_in() {
    let server = Server::start().await;
    server.apply("events.sql").await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    let mut rows = rows_for(&schema);
    let record = millis(now()) - 86_400_000;
    let at = |offset| Place { partition: 3, offset, timestamp_ms: record };
    for (offset, text) in [
        r#"{"trace_id": "a"}"#,
        r#"{"trace_id": "b", "hash_type": null, "metadata": null, "version_number": ""}"#,
        r#"{"trace_id": "c", "hash_type": "", "metadata": "", "ingested_at": "1999-01-01"}"#,
        r#"{"trace_id": "d", "hash_type": "md5", "metadata": {"a": [1.10, "\u00fc"]}, "version_number": "5.0"}"#,
        "\u{feff}{\"trace_id\": \"x\", \"trace_id\": \"e\", \"version_number\": -1, \"version_number\": 7, \"new\": [1]}",
    ]
    .into_iter()
    .enumerate()
    {
        rows.push(&at(i64::try_from(offset).unwrap()), text.as_bytes()).unwrap();
    }
    assert_eq!(rows.unknown_keys().take_new(), ["new"]);
    let now = now();
    let block = rows.encode(now);
    bench.stored(&block, "partly").await;
    let found = read_back(
        &server,
        "trace_id, hash_type, metadata, version_number, toUnixTimestamp64Milli(event_time) AS time, \
        toUnixTimestamp64Milli(ingested_at) AS ours, event_id",
    )
    .await;
    let seen: Vec<_> = found
        .iter()
        .map(|row| {
            (
                row["trace_id"].as_str().unwrap(),
                row["hash_type"].as_str().unwrap(),
                row["metadata"].as_str().unwrap(),
                row["version_number"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("a", "sha256", "{}", 0),
            ("b", "sha256", "{}", 0),
            ("c", "", "", 0),
            ("d", "md5", r#"{"a": [1.10, "\u00fc"]}"#, 5),
            ("e", "sha256", "{}", 7),
        ]
    );
    for row in &found {
        assert_eq!((row["time"].as_i64().unwrap(), row["ours"].as_i64().unwrap()), (record, millis(now)));
    }
    // The same places give the same ids, other places others.
    let ids: std::collections::BTreeSet<_> = found.iter().map(|row| row["event_id"].to_string()).collect();
    assert_eq!(ids.len(), 5);
    let mut again = rows_for(&schema);
    again.push(&at(0), br#"{"trace_id": "a2"}"#).unwrap();
    bench.stored(&again.encode(now), "again").await;
    let twice = "SELECT count() FROM sandarb.events GROUP BY event_id HAVING count() = 2";
    assert_eq!(server.query(twice).await, "2");

    // A batch in which nobody fills them: left out.
    let block = block_of(&schema, &[json!({"trace_id": "f"}), json!({"trace_id": "g"})]);
    assert!(!block.column_list.contains("hash_type") && !block.column_list.contains("metadata"));
    bench.stored(&block, "none").await;
    let filled =
        "SELECT count() FROM sandarb.events WHERE trace_id IN ('f', 'g') AND hash_type = 'sha256' AND metadata = '{}'";
    assert_eq!(server.query(filled).await, "2");
}

#[tokio::test]
async fn every_supported_type_comes_back() {
    let server = Server::start().await;
    server.query("CREATE DATABASE sandarb").await;
    server
        .query(
            "CREATE TABLE sandarb.events (trace_id String, i8 Int8, i16 Nullable(Int16), i32 Int32 DEFAULT 5, i64 Int64, u8 UInt8, \
             u64 Nullable(UInt64) DEFAULT 3, f32 Float32, f64 Float64, b Nullable(Bool), fs FixedString(4), \
             lfs LowCardinality(FixedString(2)) DEFAULT 'zz', ln LowCardinality(Nullable(String)), ns Nullable(String), d Date, \
             d32 Date32, dt DateTime('Asia/Tokyo'), dt9 DateTime64(9, 'UTC'), dt0 Nullable(DateTime64(0, 'UTC')), \
             e8 Enum8('it''s' = -3, 'b' = 2), e16 Enum16('x' = 300, 'y' = 400) DEFAULT 'y', ip4 IPv4, ip6 IPv6, u UUID, \
             m String MATERIALIZED concat(trace_id, '!'), al String ALIAS trace_id, ep UInt8 EPHEMERAL 9, fed UInt8 DEFAULT ep + 1, \
             tu Tuple(UInt8) DEFAULT tuple(1)) ENGINE = MergeTree ORDER BY trace_id",
        )
        .await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    assert_eq!(schema.dedup, Dedup::Off);
    let left_out: Vec<_> = schema.left_out.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(left_out, ["m", "al", "tu"]);
    let full = json!({
        "trace_id": "a", "i8": -128, "i16": -300, "i32": 2_147_483_647, "i64": i64::MIN, "u8": 255, "u64": u64::MAX,
        "f32": 1.5, "f64": -0.1, "b": true, "fs": "abcd", "lfs": "xy", "ln": "low", "ns": "", "d": "2026-01-21",
        "d32": "1931-05-06", "dt": "2026-01-21T09:21:40+09:00", "dt9": "2026-01-21 00:21:40.123456789",
        "dt0": 1_768_954_900_999_i64, "e8": "it's", "e16": 300, "ip4": "1.2.3.4", "ip6": "2001:db8::1",
        "u": "00112233-4455-6677-8899-aabbccddeeff", "ep": 41,
    });
    let block = block_of(&schema, &[full, json!({"trace_id": "b"})]);
    bench.stored(&block, "types").await;
    let found = read_back(&server, "*, fed, m").await;
    let expected = json!({
        "trace_id": "a", "i8": -128, "i16": -300, "i32": 2_147_483_647, "i64": i64::MIN, "u8": 255, "u64": u64::MAX,
        "f32": 1.5, "f64": -0.1, "b": true, "fs": "abcd", "lfs": "xy", "ln": "low", "ns": "", "d": "2026-01-21",
        "d32": "1931-05-06", "dt": "2026-01-21T00:21:40Z", "dt9": "2026-01-21T00:21:40.123456789Z",
        "dt0": "2026-01-21T00:21:40Z", "e8": "it's", "e16": "x", "ip4": "1.2.3.4", "ip6": "2001:db8::1",
        "u": "00112233-4455-6677-8899-aabbccddeeff", "fed": 42, "m": "a!", "tu": [1],
    });
    assert_eq!(found[0], expected);
    let expected = json!({
        "trace_id": "b", "i8": 0, "i16": null, "i32": 5, "i64": 0, "u8": 0, "u64": 3, "f32": 0, "f64": 0, "b": null,
        "fs": "\0\0\0\0", "lfs": "zz", "ln": null, "ns": null, "d": "1970-01-01", "d32": "1970-01-01",
        "dt": "1970-01-01T00:00:00Z", "dt9": "1970-01-01T00:00:00.000000000Z", "dt0": null, "e8": "it's", "e16": "y",
        "ip4": "0.0.0.0", "ip6": "::", "u": "00000000-0000-0000-0000-000000000000", "fed": 10, "m": "b!", "tu": [1],
    });
    assert_eq!(found[1], expected);
}

#[tokio::test]
async fn nested_and_wide_types_come_back() {
    let server = Server::start().await;
    server.query("CREATE DATABASE sandarb").await;
    server
        .query(
            "CREATE TABLE sandarb.events (trace_id String, dec Decimal(9, 2), dec2 Nullable(Decimal128(5)), i128 Int128, \
             u256 UInt256 DEFAULT 7, a Array(String), al Array(LowCardinality(Nullable(String))), ad Array(String) DEFAULT ['d'], \
             aa Array(Array(DateTime64(3, 'Asia/Tokyo'))), m Map(LowCardinality(String), Array(Nullable(Enum8('x' = 1)))), \
             j JSON(n UInt8), jd JSON DEFAULT '{\"d\": 1}') ENGINE = MergeTree ORDER BY trace_id",
        )
        .await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    assert!(schema.left_out.is_empty(), "{:?}", schema.left_out);
    let full = json!({
        "trace_id": "a", "dec": "-12.5", "dec2": 1.00001, "i128": "-170141183460469231731687303715884105728",
        "u256": "1e70", "a": ["x", 1, {"y": []}], "al": ["p", null, ""], "ad": [], "aa": [["2026-01-21T00:21:40.524Z"], []],
        "m": {"k": ["x", null], "l": []}, "j": {"n": 5, "o": {"p": [1, "q"]}}, "jd": "{\"e\": null}",
    });
    let block = block_of(&schema, &[full, json!({"trace_id": "b"})]);
    bench.stored(&block, "nested").await;
    let columns =
        "* REPLACE (toString(dec) AS dec, toString(dec2) AS dec2, toString(i128) AS i128, toString(u256) AS u256)";
    let found = read_back(&server, columns).await;
    let expected = json!({
        "trace_id": "a", "dec": "-12.5", "dec2": "1.00001", "i128": "-170141183460469231731687303715884105728",
        "u256": format!("1{}", "0".repeat(70)), "a": ["x", "1", "{\"y\":[]}"], "al": ["p", null, ""], "ad": [],
        "aa": [["2026-01-21T00:21:40.524Z"], []], "m": {"k": ["x", null], "l": []},
        "j": {"n": 5, "o": {"p": ["1", "q"]}}, "jd": {},
    });
    let mut first = found[0].clone();
    // How the server types the items of a mixed list is its own affair.
    first["j"]["o"]["p"][0] = json!("1");
    assert_eq!(first, expected);
    let expected = json!({
        "trace_id": "b", "dec": "0", "dec2": null, "i128": "0", "u256": "7", "a": [], "al": [], "ad": ["d"], "aa": [],
        "m": {}, "j": {"n": 0}, "jd": {"d": 1},
    });
    assert_eq!(found[1], expected);
    // Nobody fills them: left out, so that their defaults apply.
    bench.stored(&block_of(&schema, &[json!({"trace_id": "c"})]), "defaults").await;
    let found = read_back(&server, "ad, jd").await;
    assert_eq!(found[2], json!({"ad": ["d"], "jd": {"d": 1}}));
}

#[tokio::test]
async fn many_distinct_values_come_back_too() {
    let server = Server::start().await;
    server.apply("events.sql").await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    let time = iso(&server, 1).await;
    // agent_name: plain strings at last; org_name: two bytes an index; hash_type: lacking in some rows of each form.
    let events: Vec<Value> = (0..10_000)
        .map(|number| {
            let mut event = json!({
                "trace_id": format!("{number:06}"), "agent_name": format!("agent {number}"),
                "org_name": format!("org {}", number % 1000), "event_time": time,
            });
            if number % 10 != 0 {
                event["hash_type"] = json!(format!("hash {number}"));
            }
            if number % 9 != 0 {
                event["metadata"] = json!(format!("{number}"));
            }
            event
        })
        .collect();
    bench.stored(&block_of(&schema, &events), "distinct").await;
    let found = read_back(&server, "trace_id, agent_name, org_name, hash_type, metadata").await;
    assert_eq!(found.len(), events.len());
    for (number, (mut sent, found)) in events.into_iter().zip(found).enumerate() {
        sent.as_object_mut().unwrap().remove("event_time");
        if number % 10 == 0 {
            sent["hash_type"] = json!("sha256");
        }
        if number % 9 == 0 {
            sent["metadata"] = json!("{}");
        }
        assert_eq!(sent, found);
    }
}

#[tokio::test]
async fn faults_are_named_with_their_cure() {
    let server = Server::start().await;
    server.apply("events.sql").await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    bench.inserter.probe().await.unwrap();
    assert!(bench.progress.borrow().connected);
    let schema = bench.schema().await;
    let block = block_of(&schema, &[json!({"trace_id": "a"})]);

    let mut stranger = server.config("sandarb", "events");
    stranger.password = Secret::Value("wrong".to_owned());
    let mut stranger = Bench::new(stranger);
    let failure = stranger.inserter.probe().await.unwrap_err();
    assert_eq!(failure.code(), Some(516));
    assert!(failure.cure().contains("CLICKHOUSE_PASSWORD"), "{failure}");
    assert!(!stranger.progress.borrow().connected);
    // Stopping: one attempt, no more.
    stranger.stop.send_replace(true);
    let ended = stranger.insert(&block, "t").await;
    assert!(matches!(ended, Ended::Forgotten { on_wire_unknown: false, .. }), "{ended:?}");
    let blocked = stranger.progress.borrow().blocked.clone().unwrap();
    assert!(blocked.contains("Code: 516") && blocked.contains("CLICKHOUSE_PASSWORD"), "{blocked}");

    for (database, table) in [("sandarb", "nowhere"), ("nowhere", "events")] {
        let mut lost = Bench::new(server.config(database, table));
        let missing = lost.inserter.describe().await.unwrap_err();
        assert!(matches!(missing, DescribeError::Missing { .. }), "{missing}");
        assert!(missing.to_string().contains("sql/events.sql"), "{missing}");
        let progress = lost.progress.borrow().clone();
        assert!(progress.connected && progress.blocked.is_some_and(|blocked| blocked.contains(table)));
    }

    server.query("CREATE TABLE sandarb.odd (a String, p Point) ENGINE = Memory").await;
    let unfillable = Bench::new(server.config("sandarb", "odd")).inserter.describe().await.unwrap_err();
    assert!(unfillable.to_string().contains("column p Point"), "{unfillable}");

    server.query("ALTER TABLE sandarb.events DROP COLUMN severity").await;
    let ended = bench.insert(&block, "t").await;
    assert!(matches!(&ended, Ended::SchemaChanged { ask_at: None, .. }), "{ended:?}");
    let schema = bench.schema().await;
    assert_eq!(schema.columns.len(), 26);
    server.query("ALTER TABLE sandarb.events ADD CONSTRAINT c CHECK trace_id != 'bad'").await;
    let bad = block_of(&schema, &[json!({"trace_id": "good"}), json!({"trace_id": "bad"})]);
    let ended = bench.insert(&bad, "t").await;
    assert!(matches!(&ended, Ended::BadRows { failure, .. } if failure.code() == Some(469)), "{ended:?}");
    assert_eq!(server.query("SELECT count() FROM sandarb.events").await, "0");

    // Not a member any more: nothing is sent.
    bench.tenure.send_modify(|tenure| tenure.epoch = 2);
    let good = block_of(&schema, &[json!({"trace_id": "good"})]);
    assert!(matches!(bench.insert(&good, "u").await, Ended::Forgotten { on_wire_unknown: false, .. }));
    assert_eq!(server.query("SELECT count() FROM sandarb.events").await, "0");
}

/// A block without columns is rows of DEFAULTs; the statement names a column all the same.
#[tokio::test]
async fn rows_of_nothing_but_defaults() {
    let server = Server::start().await;
    server.query("CREATE DATABASE sandarb").await;
    let columns = "a Array(String) DEFAULT ['d'], n Nullable(UInt8) DEFAULT 3";
    server.query(&format!("CREATE TABLE sandarb.events ({columns}) ENGINE = MergeTree ORDER BY tuple()")).await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    let block = block_of(&schema, &[json!({}), json!({})]);
    bench.stored(&block, "nothing").await;
    let block = block_of(&schema, &[json!({}), json!({"a": ["x"]}), json!({"n": null}), json!({"n": 4})]);
    bench.stored(&block, "mixed").await;
    let found = server.query("SELECT a, n FROM sandarb.events ORDER BY a, n FORMAT TSV").await;
    assert_eq!(found, "['d']\t3\n['d']\t3\n['d']\t3\n['d']\t4\n['d']\t\\N\n['x']\t3");
    let parts = "SELECT count() FROM system.parts WHERE database = 'sandarb' AND active";
    assert_eq!(server.query(parts).await, "2", "a part for each insert, however many blocks it has");
}
