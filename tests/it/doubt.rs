//! Inserts whose outcome the program cannot know, between the program and a real server: nothing is lost, and where the
//! server recognises a repetition, nothing is doubled.

use std::time::Duration;

use crate::harness::fleet::in_full;
use crate::harness::proxy::{Fault, Proxy};
use crate::harness::{Bench, ClickHouse, Fleet, Kafka, Table};
use crate::tables::assert_views_count;

const LIMIT: Duration = Duration::from_secs(120);
const BATCH: u64 = 250;

/// Every fault, each before a good answer and twice in a row.
fn script() -> Vec<Fault> {
    Fault::ALL.iter().flat_map(|fault| [*fault, Fault::Pass, *fault, *fault, Fault::Pass]).collect()
}

/// Two replicas insert through the proxy until every fault was played a few times; the number of events.
fn spoil(bench: &Bench<'_>, proxy: &Proxy) -> u64 {
    let (events, rate) = if in_full() { (120_000, 2_000.0) } else { (8_000, 6_000.0) };
    let (url, batch) = (proxy.url(), BATCH.to_string());
    let more = [("CLICKHOUSE_URL", url.as_str()), ("CLICKHOUSE_TIMEOUT_MS", "700"), ("BATCH_SIZE", &batch)];
    let fleet = Fleet::start(bench, 2, &more);
    let indices = bench.produce_at(events, Some(rate)).wait();
    // Most attempts fail, some of them only after their time limit.
    let limit = if in_full() { Duration::from_secs(900) } else { LIMIT };
    bench.wait_rows(&fleet.replicas[0], events, limit);
    bench.wait_committed_to_the_end(&fleet.replicas[0], limit);
    for replica in &fleet.replicas {
        replica.wait_healthy();
    }
    fleet.stop();
    let done = proxy.done();
    println!("{}: {events} events, {done:?}", bench.topic);
    for fault in Fault::ALL {
        assert!(done.get(&fault).is_some_and(|times| *times >= 3), "{fault:?} in {done:?}");
    }
    indices.end
}

#[test]
fn long_nothing_is_lost_or_doubled_whatever_becomes_of_the_answers() {
    let bench = Bench::new("doubt", Kafka::shared(), ClickHouse::shared(), Table { window: true, views: true });
    let proxy = Proxy::start(bench.clickhouse.port, &script());
    let events = spoil(&bench, &proxy);
    bench.assert_exactly_once(0..events);
    assert_views_count(&bench, 0..events);
}

#[test]
fn long_without_a_window_nothing_is_lost_and_only_what_was_in_doubt_is_doubled() {
    let bench = Bench::new("doubt_plain", Kafka::shared(), ClickHouse::shared(), Table { window: false, views: false });
    let proxy = Proxy::start(bench.clickhouse.port, &script());
    let events = spoil(&bench, &proxy);
    let tally = bench.tally(0..events);
    assert!(tally.missing.is_empty() && tally.foreign.is_empty(), "{tally:?}");
    let spoilt: u32 = proxy.done().iter().filter(|(fault, _)| **fault != Fault::Pass).map(|(_, times)| times).sum();
    assert!(tally.surplus > 0, "a server without a window cannot recognise a repetition");
    assert!(tally.surplus <= u64::from(spoilt) * BATCH, "{} rows too many after {spoilt} faults", tally.surplus);
}

#[test]
fn another_address_is_asked_after_a_refusal_and_never_while_an_outcome_is_unknown() {
    let second = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::shared("addresses");
    let there = bench.elsewhere(bench.kafka, &second);
    there.create_table(crate::harness::bench::SHIPPED);
    bench.books.set_apart("two tables");
    let proxy = Proxy::start(bench.clickhouse.port, &[Fault::LostAnswer, Fault::Silence, Fault::CutBody, Fault::Pass]);
    let url = format!("{},{}", proxy.url(), second.url());
    let consumer = bench.start(&[("CLICKHOUSE_URL", &url), ("CLICKHOUSE_TIMEOUT_MS", "1000")]);
    let first = bench.produce(1_000);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    assert_eq!(there.rows(), 0, "an outcome was unknown, and another address was asked");
    bench.assert_exactly_once(first.clone());

    // Unknown, and then nobody is there: the second address stays unasked, however long that lasts.
    proxy.play(&[Fault::LastWords]);
    let doubtful = bench.produce(100);
    // Perhaps in two batches: the first of them is the one in doubt.
    bench.wait_rows(&consumer, doubtful.start + 1, LIMIT);
    let failed = consumer.health().unwrap().1["errors"].as_u64().unwrap();
    consumer.wait(LIMIT, "four refused attempts", || {
        let errors = consumer.health()?.1["errors"].as_u64().unwrap();
        if errors >= failed + 4 { Ok(()) } else { Err(format!("{errors} errors, {failed} before")) }
    });
    consumer.wait_health(503, LIMIT);
    assert_eq!(there.rows(), 0, "an outcome was unknown, and another address was asked");
    proxy.play(&[Fault::Pass]);
    proxy.refuse(false);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    assert_eq!(there.rows(), 0);
    bench.assert_exactly_once(0..doubtful.end);

    // Refused for certain: the second address takes over.
    proxy.refuse(true);
    let last = bench.produce(1_000);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..doubtful.end);
    there.assert_exactly_once(last);
}
