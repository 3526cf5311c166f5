//! The conversions that installations rely on: each input gives the row it always gave, or one that says more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use sandarb_consumer::decode::{Class, Place};
use serde_json::{Value, json};
use support::bench::{Bench, millis, now, read_back, rows_for};
use support::clickhouse::Server;

#[tokio::test]
async fn documented_inputs_give_the_documented_rows() {
    let server = Server::start().await;
    server.apply("events.sql").await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    let mut rows = rows_for(&schema);
    let now = now();
    let stamp = millis(now) - 86_400_000;
    // Of this year: the table forgets what is older than two.
    let day = server.query("SELECT toString(today() - 30)").await;
    let at = |time: &str| json!(format!("{day}T{time}Z"));
    let (given, zoned) = (format!("{day}T00:21:40.524"), format!("{day}T10:21:40.524"));
    let record = server.query(&format!("SELECT toString(fromUnixTimestamp64Milli({stamp}, 'UTC'))")).await;
    let record = json!(record.replace(' ', "T") + "Z");
    let cases: Vec<(Value, Value)> = vec![
        // Missing and null: empty, 0, false, or the column's DEFAULT.
        (
            json!({}),
            json!({"event_type": "", "agent_name": "", "version_number": 0, "template_rendered": false, "hash_type": "sha256",
                   "metadata": "{}", "event_time": record}),
        ),
        (
            json!({"event_type": null, "version_number": null, "template_rendered": null, "hash_type": null, "metadata": null,
                   "event_time": null}),
            json!({"event_type": "", "version_number": 0, "template_rendered": false, "hash_type": "sha256", "metadata": "{}",
                   "event_time": record}),
        ),
        // An integer, however it is written.
        (json!({"version_number": 5}), json!({"version_number": 5})),
        (json!({"version_number": "5"}), json!({"version_number": 5})),
        (json!({"version_number": 5.0}), json!({"version_number": 5})),
        (json!({"version_number": ""}), json!({"version_number": 0})),
        (json!({"version_number": true}), json!({"version_number": 1})),
        // A truth, likewise.
        (json!({"template_rendered": true}), json!({"template_rendered": true})),
        (json!({"template_rendered": false}), json!({"template_rendered": false})),
        (json!({"template_rendered": 1}), json!({"template_rendered": true})),
        (json!({"template_rendered": 0}), json!({"template_rendered": false})),
        (json!({"template_rendered": "true"}), json!({"template_rendered": true})),
        (json!({"template_rendered": "True"}), json!({"template_rendered": true})),
        (json!({"template_rendered": "false"}), json!({"template_rendered": false})),
        (json!({"template_rendered": "1"}), json!({"template_rendered": true})),
        (json!({"template_rendered": ""}), json!({"template_rendered": false})),
        // Texts from anything.
        (json!({"org_id": 17, "agent_name": true}), json!({"org_id": "17", "agent_name": "true"})),
        // Times: with zone and without, with a space, with more digits, with an offset, as numbers.
        (json!({"event_time": format!("{given}Z")}), json!({"event_time": at("00:21:40.524")})),
        (json!({"event_time": given}), json!({"event_time": at("00:21:40.524")})),
        (json!({"event_time": given.replace('T', " ")}), json!({"event_time": at("00:21:40.524")})),
        (json!({"event_time": format!("{given}123+00:00")}), json!({"event_time": at("00:21:40.524")})),
        (json!({"event_time": format!("{day}T00:21:40Z")}), json!({"event_time": at("00:21:40.000")})),
        (json!({"event_time": format!("{zoned}+10:00")}), json!({"event_time": at("00:21:40.524")})),
        (json!({"event_time": stamp}), json!({"event_time": record})),
        (json!({"event_time": ""}), json!({"event_time": record})),
        // Metadata: a text as it is, an object as its text.
        (json!({"metadata": "{\"a\": 1}"}), json!({"metadata": "{\"a\": 1}"})),
        (json!({"metadata": {"a": [1, "b"]}}), json!({"metadata": "{\"a\":[1,\"b\"]}"})),
        (json!({"metadata": {}}), json!({"metadata": "{}"})),
        (json!({"metadata": "no JSON"}), json!({"metadata": "no JSON"})),
        // What no column has.
        (json!({"new_key": [1, 2], "org_id": "o"}), json!({"org_id": "o"})),
    ];
    let place = |offset| Place { partition: 0, offset, timestamp_ms: stamp };
    for (number, (event, _)) in (0_i64..).zip(&cases) {
        let mut event = event.clone();
        event["trace_id"] = json!(format!("{number:04}"));
        rows.push(&place(number), event.to_string().as_bytes()).unwrap_or_else(|reject| panic!("{event}: {reject}"));
    }
    bench.stored(&rows.encode(now), "cases").await;
    let found = read_back(&server, "*").await;
    assert_eq!(found.len(), cases.len());
    for ((event, expected), found) in cases.iter().zip(&found) {
        for (name, expected) in expected.as_object().unwrap() {
            assert_eq!(&found[name], expected, "{name} of {event}");
        }
        assert_ne!(found["event_id"], json!("00000000-0000-0000-0000-000000000000"), "{event}");
        assert_eq!(found["ingested_at"].as_str().unwrap().len(), "2026-01-21T00:21:40.524Z".len());
    }

    // Where the original stopped, skipped in silence or failed the whole batch: a dead letter.
    for (event, class) in [
        ("no JSON", Class::InvalidJson),
        ("[1]", Class::NotAnObject),
        ("5", Class::NotAnObject),
        (r#"{"version_number": "x"}"#, Class::InvalidValue),
        (r#"{"version_number": 3.7}"#, Class::InvalidValue),
        (r#"{"version_number": -1}"#, Class::OutOfRange),
        (r#"{"version_number": 4294967296}"#, Class::OutOfRange),
        (r#"{"template_rendered": "yes"}"#, Class::InvalidValue),
        (r#"{"template_rendered": 2}"#, Class::InvalidValue),
        (r#"{"event_time": "yesterday"}"#, Class::InvalidValue),
        (r#"{"event_time": "2200-01-01T00:00:00Z"}"#, Class::OutOfRange),
        (r#"{"event_id": "not-a-uuid"}"#, Class::InvalidValue),
    ] {
        assert_eq!(rows.push(&place(0), event.as_bytes()).unwrap_err().class, class, "{event}");
    }
    assert!(rows.is_empty());
}
