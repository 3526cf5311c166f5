//! The tables that installations have: with and without the five views, with and without a deduplication window.

use std::time::Duration;

use crate::harness::{Bench, ClickHouse, Kafka, Table};

const EVENTS: u64 = 5_000;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn plain_with_window() {
    fill("plain_window", Table { window: true, views: false }, "window 10000");
}

#[test]
fn plain_without_window() {
    fill("plain", Table { window: false, views: false }, "off");
}

#[test]
fn views_with_window() {
    fill("views_window", Table { window: true, views: true }, "window 10000");
}

#[test]
fn views_without_window() {
    fill("views", Table { window: false, views: true }, "off");
}

fn fill(name: &str, table: Table, dedup: &str) {
    let bench = Bench::new(name, Kafka::shared(), ClickHouse::shared(), table);
    let indices = bench.produce(EVENTS);
    let consumer = bench.start(&[]);
    consumer.wait_log(LIMIT, &["dedup", dedup]);
    bench.wait_rows(&consumer, EVENTS, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let health = consumer.wait_healthy();
    assert_eq!(health["events_inserted"], EVENTS, "rows of views are not counted: {health}");
    assert_eq!(health["errors"], 0, "{health}");
    consumer.stop();
    bench.assert_exactly_once(indices);
    if table.views {
        assert_views_are_filled(&bench);
    }
}

/// Each view has rows, however it aggregates, and the one of denials has counted each denied event.
fn assert_views_are_filled(bench: &Bench<'_>) {
    let sql =
        format!("SELECT name FROM system.tables WHERE database = '{}' AND engine = 'MaterializedView'", bench.database);
    let views: Vec<String> = bench.clickhouse.rows(&sql).into_iter().flatten().collect();
    assert_eq!(views.len(), 5, "{views:?}");
    for view in views {
        let rows = bench.clickhouse.number(&format!("SELECT count() FROM {}.{view}", bench.database));
        assert!(rows > 0, "{view} is empty");
    }
}
