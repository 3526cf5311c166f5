//! From the producer to the table: every event once, every column as it was made.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use sample_events::Event;
use serde_json::Value;

use crate::harness::Bench;

const EVENTS: u64 = 100_000;

#[test]
fn a_hundred_thousand_events_arrive_once_with_every_value() {
    let bench = Bench::shared("first_row");
    let before = now_ms();
    let indices = bench.produce(EVENTS);
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, EVENTS, Duration::from_secs(120));
    bench.wait_committed_to_the_end(&consumer, Duration::from_secs(30));
    let health = consumer.wait_healthy();
    assert_eq!((&health["events_consumed"], &health["events_inserted"]), (&EVENTS.into(), &EVENTS.into()), "{health}");
    assert_eq!(health["errors"], 0, "{health}");
    consumer.stop();
    let after = now_ms();

    let mut left: HashMap<String, Event> =
        indices.map(|index| bench.source.event(index)).map(|event| (event.event_id.clone(), event)).collect();
    // Times as numbers of milliseconds: their text form is a matter of the server's settings.
    let sql = format!(
        "SELECT * REPLACE (toUnixTimestamp64Milli(event_time) AS event_time, \
         toUnixTimestamp64Milli(ingested_at) AS ingested_at) FROM {}.events FORMAT JSONEachRow \
         SETTINGS output_format_json_quote_64bit_integers = 0",
        bench.database
    );
    bench.clickhouse.each_line(&sql, |line| {
        let mut row: HashMap<String, Value> = serde_json::from_str(line).unwrap();
        let id = row["event_id"].as_str().unwrap();
        let event = left.remove(id).unwrap_or_else(|| panic!("not produced, or here twice: {line}"));
        let ingested = row.remove("ingested_at").and_then(|value| value.as_i64()).unwrap();
        assert!((before..=after).contains(&ingested), "ingested_at {ingested} outside {before}..={after}: {line}");
        for (column, wanted) in as_row(&event) {
            assert_eq!(row.remove(&column), Some(wanted), "{column} in {line}");
        }
        assert!(row.is_empty(), "columns that no event fills: {row:?}");
    });
    assert!(left.is_empty(), "{} events are not in the table", left.len());
}

/// The columns that the event's fields are to end in, from the event as sent.
fn as_row(event: &Event) -> HashMap<String, Value> {
    let mut row: HashMap<String, Value> = serde_json::from_str(&event.to_json()).unwrap();
    assert_eq!(row.len(), 26, "the event's fields");
    row.insert("event_time".to_owned(), event.event_time.into());
    row.insert("metadata".to_owned(), event.metadata.text().into());
    row
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}
