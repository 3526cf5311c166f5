//! Servers that die, freeze or fail half-way: the rows are stored once all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::bench::{Bench, block_of, event, iso};
use support::clickhouse::Server;

#[tokio::test]
async fn a_killed_server_gets_the_rows_once_it_is_back() {
    let mut server = Server::start().await;
    server.apply("events.sql").await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    let time = iso(&server, 7).await;
    let block = block_of(&schema, &(0..500).map(|number| event(number, &time)).collect::<Vec<_>>());
    bench.stored(&block, "before").await;

    server.kill().await;
    let progress = bench.progress.clone();
    let second = block_of(&schema, &(500..1000).map(|number| event(number, &time)).collect::<Vec<_>>());
    let insert = bench.stored(&second, "after");
    let outage = async {
        let mut progress = progress;
        let blocked = progress.wait_for(|progress| progress.failed_attempts >= 4).await.unwrap().clone();
        assert!(!blocked.connected);
        assert!(blocked.blocked.unwrap().contains("CLICKHOUSE_URL"));
        server.restart().await;
    };
    let (attempts, ()) =
        tokio::time::timeout(Duration::from_secs(90), async { tokio::join!(insert, outage) }).await.unwrap();
    assert!(attempts > 4);
    let progress = bench.progress.borrow().clone();
    assert!(progress.connected && progress.blocked.is_none());
    // The first batch again, as after a crash before its offsets were committed.
    bench.stored(&block, "before").await;
    assert_eq!(server.query("SELECT count(), uniqExact(event_id) FROM sandarb.events").await, "1000\t1000");
}

#[tokio::test]
async fn what_a_frozen_server_was_sent_again_and_again_it_stores_once() {
    let server = Server::start().await;
    server.apply("events.sql").await;
    server.apply("views.sql").await;
    let mut config = server.config("sandarb", "events");
    config.timeout = Duration::from_secs(1);
    let mut bench = Bench::new(config);
    let schema = bench.schema().await;
    let time = iso(&server, 9).await;
    let block = block_of(&schema, &(0..500).map(|number| event(number, &time)).collect::<Vec<_>>());
    let mut progress = bench.progress.clone();

    server.signal("STOP").await;
    let insert = bench.stored(&block, "frozen");
    let thaw = async {
        progress.wait_for(|progress| progress.failed_attempts == 3).await.unwrap();
        server.signal("CONT").await;
    };
    let (attempts, ()) = tokio::join!(insert, thaw);
    assert!(attempts >= 4);
    // The attempts nobody waits for any more are carried out as well: wait until the server has finished two at least.
    let finished =
        "SELECT count() >= 2 FROM system.query_log WHERE type = 'QueryFinish' AND startsWith(query_id, 'frozen-')";
    let seen = async {
        loop {
            server.query("SYSTEM FLUSH LOGS").await;
            if server.query(finished).await == "1" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.expect("an abandoned attempt that ends");
    assert_eq!(server.query("SELECT count(), uniqExact(event_id) FROM sandarb.events").await, "500\t500");
    assert_eq!(server.query("SELECT sum(event_count) FROM sandarb.daily_kpis").await, "500");
}

#[tokio::test]
async fn a_failing_view_blocks_until_it_is_repaired_and_doubles_nothing() {
    let server = Server::start().await;
    server.apply("events.sql").await;
    server
        .query(
            "CREATE TABLE sandarb.copies (trace_id String) ENGINE = MergeTree ORDER BY trace_id \
        SETTINGS non_replicated_deduplication_window = 100",
        )
        .await;
    let select = |fails: bool| format!("SELECT trace_id FROM sandarb.events WHERE throwIf({fails}, 'on purpose') = 0");
    let view = "CREATE MATERIALIZED VIEW sandarb.copies_view TO sandarb.copies AS ";
    server.query(&format!("{view}{}", select(true))).await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    let block = block_of(&schema, &[json!({"trace_id": "a"}), json!({"trace_id": "b"})]);
    let mut progress = bench.progress.clone();
    let insert = bench.stored(&block, "view");
    let repair = async {
        let seen = progress.wait_for(|progress| progress.failed_attempts == 2).await.unwrap().clone();
        assert!(seen.connected);
        assert!(seen.blocked.unwrap().contains("repair the materialized view"));
        assert_eq!(server.query("SELECT count() FROM sandarb.events").await, "2", "the table holds the rows already");
        // In one step: an attempt between a DROP and a CREATE would go through without the view.
        server.query(&format!("ALTER TABLE sandarb.copies_view MODIFY QUERY {}", select(false))).await;
    };
    let (attempts, ()) = tokio::join!(insert, repair);
    assert!(attempts >= 3);
    assert!(bench.progress.borrow().blocked.is_none());
    for table in ["events", "copies"] {
        assert_eq!(server.query(&format!("SELECT count() FROM sandarb.{table}")).await, "2", "{table}");
    }
}
