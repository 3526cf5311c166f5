//! Answers that do not confirm what is stored, or say that they do beside something else.

use std::time::{Duration, Instant};

use crate::harness::proxy::{Fault, Proxy};
use crate::harness::{Bench, ClickHouse, Kafka, Table, hold, pause, same};

const LIMIT: Duration = Duration::from_secs(60);
/// A repetition would be stored once more.
const PLAIN: Table = Table { window: false, views: false };

#[test]
fn where_answers_never_confirm_rows_the_start_is_refused() {
    let bench = Bench::new("unconfirmed", Kafka::shared(), ClickHouse::shared(), PLAIN);
    bench.produce(10);
    let proxy = Proxy::start(bench.clickhouse.port, &[]);
    proxy.hide_summaries(true);
    let consumer = bench.start(&[("CLICKHOUSE_URL", &proxy.url())]);
    assert_eq!(consumer.wait_exit(LIMIT), Some(2));
    consumer.wait_log_of_the_ended(&["X-ClickHouse-Summary", "do not say how many rows are stored"]);
    assert_eq!(bench.rows(), 0);
}

#[test]
fn long_what_a_whole_200_does_not_confirm_is_not_repeated_blindly() {
    let bench = Bench::new("blind", Kafka::shared(), ClickHouse::shared(), PLAIN);
    let proxy = Proxy::start(bench.clickhouse.port, &[]);
    let consumer = bench.start(&[("CLICKHOUSE_URL", &proxy.url())]);
    consumer.wait_healthy();
    proxy.hide_summaries(true);
    bench.produce(10);
    consumer.wait_health(503, LIMIT);
    let began = Instant::now();
    while began.elapsed() < hold(10) {
        assert_eq!(bench.rows(), 10, "the same rows once more");
        assert_eq!(consumer.health().unwrap().0, 503);
        pause(began);
    }
    let reason = consumer.status().unwrap()["clickhouse"]["blocked"].to_string();
    assert!(reason.contains("X-ClickHouse-Summary") && reason.contains("not repeated"), "{reason}");
    proxy.hide_summaries(false);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    let tally = bench.tally(0..10);
    assert!(tally.missing.is_empty() && tally.surplus <= 10, "at most once more, after a change: {tally:?}");
}

#[test]
fn an_exception_code_that_is_no_number_is_no_success() {
    let bench = Bench::new("oddcode", Kafka::shared(), ClickHouse::shared(), PLAIN);
    let proxy = Proxy::start(bench.clickhouse.port, &[Fault::OddCode, Fault::Pass]);
    let consumer = bench.start(&[("CLICKHOUSE_URL", &proxy.url())]);
    bench.produce(50);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_log(LIMIT, &["99999999999"]);
    consumer.stop();
    bench.assert_exactly_once(0..50);
}

#[test]
fn a_body_too_large_for_a_proxy_is_not_stored_and_the_variable_is_named() {
    let bench = Bench::new("toolarge", Kafka::shared(), ClickHouse::shared(), PLAIN);
    let proxy = Proxy::start(bench.clickhouse.port, &[Fault::TooLarge]);
    let consumer = bench.start(&[("CLICKHOUSE_URL", &proxy.url())]);
    bench.produce(500);
    consumer.wait_health(503, LIMIT);
    let reason = consumer.wait(LIMIT, "the reason", || {
        consumer.status()?["clickhouse"]["blocked"].as_str().map(str::to_owned).ok_or_else(|| "none".to_owned())
    });
    assert!(reason.contains("413") && reason.contains(" bytes are more") && reason.contains("BATCH_SIZE"), "{reason}");
    // Nothing is in doubt, so a stop waits for nothing and the next process sends what it likes.
    let began = Instant::now();
    consumer.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    consumer.wait_log_of_the_ended(&["gave up an insert", "\"on_wire_unknown\":false"]);
    proxy.play(&[]);
    let next = bench.start(&[("CLICKHOUSE_URL", &proxy.url()), ("BATCH_SIZE", "100")]);
    bench.wait_committed_to_the_end(&next, LIMIT);
    next.wait(LIMIT, "rows", || same(bench.rows(), 500));
    next.stop();
    bench.assert_exactly_once(0..500);
}
