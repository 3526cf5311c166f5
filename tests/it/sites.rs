//! What looks like the same batch and is another: a second cluster with the same topic name, and a topic created anew. The
//! server would drop the second one's rows, and say that it had stored them, if both had the same token.

use std::time::Duration;

use crate::harness::bench::SHIPPED;
use crate::harness::guarded::Guarded;
use crate::harness::raw::Raw;
use crate::harness::{Bench, ClickHouse, Kafka, wait_until};

const LIMIT: Duration = Duration::from_secs(90);
const EVENTS: u64 = 2_000;

/// Events without an id, so that cluster and place decide on it; the same bytes at the same offsets whoever writes them.
fn write(bench: &Bench<'_>, name: &str, timestamp: i64) {
    let event = |number| Raw::of(format!(r#"{{"trace_id": "{name} {number}", "org_id": "o"}}"#));
    for start in (0..EVENTS).step_by(500) {
        let events: Vec<Raw> = (start..start + 500).map(event).collect();
        bench.kafka.write(&bench.topic, 0, timestamp, &events);
    }
}

fn number(bench: &Bench<'_>, what: &str) -> u64 {
    bench.clickhouse.number(&format!("SELECT {what} FROM {}.events", bench.database))
}

#[test]
fn two_clusters_with_the_same_topic_name_fill_one_table() {
    let here = Bench::bare("sites", Kafka::shared(), ClickHouse::shared());
    let there = here.elsewhere(&Guarded::shared().kafka, here.clickhouse);
    here.create_table(SHIPPED);
    for site in [&here, &there] {
        site.kafka.create_topic(&site.topic, 1);
        write(site, "event", here.source.base_ms);
    }
    // The same ranges in both: only the number of rows closes a batch.
    let more = [("BATCH_SIZE", "500"), ("BATCH_TIMEOUT_MS", "20000")];
    let consumers = [here.start(&more), there.start(&more)];
    here.wait_rows(&consumers[0], 2 * EVENTS, LIMIT);
    for (site, consumer) in [&here, &there].into_iter().zip(&consumers) {
        site.wait_committed_to_the_end(consumer, LIMIT);
        consumer.wait_healthy();
        consumer.stop();
    }
    let inserts: Vec<u64> = here.inserts().iter().map(|insert| insert.rows).collect();
    assert_eq!(inserts, [500; 8], "the batches had the same bounds at both sites");
    assert_eq!((here.rows(), number(&here, "uniqExact(event_id)")), (2 * EVENTS, 2 * EVENTS));
    assert_eq!(number(&here, "uniqExact(trace_id)"), EVENTS);
}

#[test]
fn all_rows_of_a_topic_created_anew_are_stored() {
    let bench = Bench::bare("recreated", Kafka::shared(), ClickHouse::shared());
    bench.create_table(SHIPPED);
    let more = [("BATCH_SIZE", "500"), ("BATCH_TIMEOUT_MS", "20000")];
    for (round, name) in ["old", "new"].into_iter().enumerate() {
        wait_until(LIMIT, "the topic is created", || bench.kafka.try_create_topic(&bench.topic, 1));
        write(&bench, name, bench.source.base_ms + round as i64);
        let consumer = bench.start(&more);
        bench.wait_rows(&consumer, EVENTS * (round as u64 + 1), LIMIT);
        bench.wait_committed_to_the_end(&consumer, LIMIT);
        consumer.wait_healthy();
        consumer.stop();
        if round == 0 {
            bench.kafka.delete_topic(&bench.topic);
        }
    }
    assert_eq!((bench.rows(), number(&bench, "uniqExact(trace_id)")), (2 * EVENTS, 2 * EVENTS));
}
