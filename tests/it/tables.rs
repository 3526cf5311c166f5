//! The tables that installations have: with and without the shipped views, with and without a deduplication window.

use std::ops::Range;
use std::time::Duration;

use sample_events::Event;

use crate::harness::{Bench, ClickHouse, Kafka, Table};

const EVENTS: u64 = 5_000;
const LIMIT: Duration = Duration::from_secs(60);
/// What the original's views filter by.
pub(crate) const INJECTS: [&str; 2] = ["INJECT_SUCCESS", "INJECT_DENIED"];
/// The same.
pub(crate) const DENIALS: [&str; 3] = ["INJECT_DENIED", "PROMPT_DENIED", "POLICY_VIOLATION"];

#[test]
fn plain_with_window() {
    fill("plain_window", Table { window: true, views: false }, "window 10000", &[]);
}

#[test]
fn plain_without_window() {
    fill("plain", Table { window: false, views: false }, "off", &[]);
}

#[test]
fn views_with_window() {
    fill("views_window", Table { window: true, views: true }, "window 10000", &[]);
}

#[test]
fn views_without_window() {
    fill("views", Table { window: false, views: true }, "off", &[]);
}

#[test]
fn in_frames_that_are_not_compressed() {
    let table = Table { window: true, views: false };
    fill("stored", table, "window 10000", &[("CLICKHOUSE_COMPRESSION", "none")]);
}

fn fill(name: &str, table: Table, dedup: &str, settings: &[(&str, &str)]) {
    let bench = Bench::new(name, Kafka::shared(), ClickHouse::shared(), table);
    let indices = bench.produce(EVENTS);
    let consumer = bench.start(settings);
    consumer.wait_log(LIMIT, &["dedup", dedup]);
    bench.wait_rows(&consumer, EVENTS, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    assert_eq!(consumer.status().unwrap()["clickhouse"]["dedup"], dedup);
    let doubtful = consumer.find_log(&["WARNING", "the table does not recognise repeated inserts"]).is_some();
    let views =
        consumer.log_lines().into_iter().filter(|line| line["msg"].to_string().contains("a view's target does not"));
    assert_eq!((doubtful, views.count()), (!table.window, if table.views && !table.window { 10 } else { 0 }));
    let health = consumer.wait_healthy();
    assert_eq!(health["events_inserted"], EVENTS, "rows of views are not counted: {health}");
    assert_eq!(health["errors"], 0, "{health}");
    consumer.stop();
    bench.assert_exactly_once(indices);
    if table.views {
        assert_views_count(&bench, 0..EVENTS);
    }
}

/// The shipped views, the original's and the reports, have counted each of these events once.
pub(crate) fn assert_views_count(bench: &Bench<'_>, indices: Range<u64>) {
    let sql = format!(
        "SELECT count() FROM system.tables WHERE database = '{}' AND engine = 'MaterializedView'",
        bench.database
    );
    assert_eq!(bench.clickhouse.number(&sql), 10);
    let events: Vec<Event> = indices.map(|index| bench.source.event(index)).collect();
    let count = |which: fn(&&Event) -> bool| events.iter().filter(which).count() as u64;
    let denied = count(|event| !event.denial_reason.is_empty());
    let wanted = [
        ("sum(event_count) FROM daily_kpis", count(|_| true)),
        ("sum(rendered_count) FROM daily_kpis", count(|event| event.template_rendered)),
        ("sum(event_count) FROM agent_activity", count(|_| true)),
        ("sum(inject_count) FROM top_contexts", count(|event| INJECTS.contains(&event.event_type))),
        ("sum(delivery_count) FROM governance_proofs", count(|event| event.event_type == "INJECT_SUCCESS")),
        ("sum(denial_count) FROM denial_reasons", count(|event| DENIALS.contains(&event.event_type))),
        ("sum(events) FROM kpis_by_day", count(|_| true)),
        ("sum(denied) FROM kpis_by_day", denied),
        ("sum(rendered) FROM kpis_by_day", count(|event| event.template_rendered)),
        ("sum(events) FROM agents_by_day", count(|_| true)),
        ("sum(events) FROM contexts_by_day", count(|event| !event.context_id.is_empty())),
        ("count() FROM proofs", count(|_| true)),
        ("sum(events) FROM denials_by_day", denied),
    ];
    for (what, wanted) in wanted {
        let sql = format!("SELECT {}", what.replace("FROM ", &format!("FROM {}.", bench.database)));
        assert_eq!(bench.clickhouse.number(&sql), wanted, "{sql}");
    }
}
