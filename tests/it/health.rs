//! What /health, /readyz, /status, /metrics and the log say while something that the program needs is away.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bench::SHIPPED;
use crate::harness::guarded::Guarded;
use crate::harness::relay::{FIND_COORDINATOR, Mode, OFFSET_COMMIT, OFFSET_FETCH, Relay, SYNC_GROUP};
use crate::harness::{Bench, ClickHouse, Consumer, Kafka, Table, free_port, hold, http};

const LIMIT: Duration = Duration::from_secs(60);

fn ready(consumer: &Consumer) -> Result<(u16, String), String> {
    let answer = http::request(consumer.port, "GET", "/readyz", &[], b"")?;
    Ok((answer.status, answer.text()?))
}

/// The ERROR lines of one class of reason, by their text.
fn errors(consumer: &Consumer, class: &str) -> Vec<Value> {
    let lines = consumer.log_lines();
    lines.into_iter().filter(|line| line["level"] == "ERROR" && line["class"] == class).collect()
}

/// Nothing listens at either address: the last error and the address are named from the first attempt on.
#[test]
fn a_start_without_services_names_errors_and_addresses() {
    let bench = Bench::shared("start_away");
    let (kafka, clickhouse) = (format!("127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &kafka), ("CLICKHOUSE_URL", &clickhouse)]);
    let address = clickhouse.trim_start_matches("http://");
    consumer.wait(Duration::from_secs(5), "both causes are named", || {
        let (status, text) = ready(&consumer)?;
        let named = text.contains(&kafka) && text.contains(address) && text.contains("refuses");
        if status == 503 && named { Ok(()) } else { Err(format!("{status} {text}")) }
    });
    let status = consumer.status().unwrap();
    let kafka_status = &status["kafka"];
    assert!(kafka_status["failure"].as_str().is_some_and(|failure| failure.contains(&kafka)), "{status}");
    assert!(status["clickhouse"]["failure"].as_str().is_some_and(|failure| failure.contains(address)), "{status}");
    assert_eq!((&kafka_status["state"], &kafka_status["generation"]), (&"connecting".into(), &(-1).into()), "{status}");
    let metrics = consumer.metrics().unwrap();
    assert!(metrics.contains("\nsandarb_consumer_group_generation -1\n"), "{metrics}");
    assert!(!metrics.contains("\nsandarb_consumer_last_flush_timestamp_seconds "), "{metrics}");
    for class in ["kafka", "clickhouse"] {
        assert!(metrics.contains(&format!("\nsandarb_consumer_blocked{{what=\"{class}\"}} 1\n")), "{metrics}");
        consumer.wait(LIMIT, "an ERROR line of each", || match errors(&consumer, class).as_slice() {
            [line] => Ok(line.clone()),
            lines => Err(format!("{class}: {lines:?}")),
        });
    }
    let waiting = consumer.status().unwrap()["waiting"].clone();
    let since = |at: usize| waiting[at]["since"].as_str().map(str::to_owned);
    assert!(since(0).is_some() && since(1).is_some(), "{waiting}");
}

/// Looks at the program each second while a fault is held: unhealthy from the tenth second to the end, with a reason, a
/// count and an ERROR line that names the address; and ready again soon after `end` has ended the fault.
fn watch_fault(consumer: &Consumer, class: &str, address: &str, begin: impl FnOnce(), end: impl FnOnce()) {
    consumer.wait_healthy();
    begin();
    let began = Instant::now();
    let mut healthy_at = Vec::new();
    while began.elapsed() < hold(41) {
        std::thread::sleep(Duration::from_secs(1));
        let at = began.elapsed().as_secs();
        let (health, _) = consumer.health().unwrap();
        let (readyz, text) = ready(consumer).unwrap();
        let metrics = consumer.metrics().unwrap();
        let blocked: u32 = metrics
            .lines()
            .filter(|line| line.starts_with("sandarb_consumer_blocked{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
            .sum();
        if health != 503 || readyz != 503 || blocked == 0 || !text.contains("(since ") {
            healthy_at.push((at, health, readyz, blocked, text));
        }
    }
    let late: Vec<_> = healthy_at.iter().filter(|(at, ..)| *at > 10).collect();
    assert!(late.is_empty(), "healthy in an outage: {late:?}");
    let lines = errors(consumer, class);
    assert!(!lines.is_empty(), "no ERROR of {class}: {:#?}", consumer.log_lines());
    let named = |line: &Value| line["cause"].as_str().is_some_and(|cause| cause.contains(address));
    assert!(lines.iter().any(named), "none of these names {address}: {lines:#?}");
    assert!(lines.len() as u64 <= 8 + began.elapsed().as_secs() / 60, "too many lines: {lines:#?}");
    end();
    let ended = Instant::now();
    consumer.wait_health(200, Duration::from_secs(60));
    println!("healthy at {:?} after the begin, and {:?} after the end", healthy_at, ended.elapsed());
    assert!(ended.elapsed() < Duration::from_secs(20), "ready after {:?}", ended.elapsed());
}

fn stores_on(bench: &Bench<'_>, consumer: &Consumer, events: Range<u64>) {
    bench.produce(events.end - events.start);
    bench.wait_rows(consumer, events.end, LIMIT);
}

#[test]
fn long_a_killed_broker_is_unhealthy_to_the_end() {
    let kafka = Kafka::start(0);
    let bench = Bench::new("killed", &kafka, ClickHouse::shared(), SHIPPED);
    let consumer = bench.start(&[]);
    stores_on(&bench, &consumer, 0..500);
    watch_fault(&consumer, "kafka", &kafka.bootstrap(), || kafka.kill9(), || kafka.restart());
    stores_on(&bench, &consumer, 500..1000);
    consumer.stop();
    bench.assert_exactly_once(0..1000);
}

#[test]
fn long_a_frozen_broker_is_unhealthy_to_the_end() {
    let kafka = Kafka::start(0);
    let bench = Bench::new("frozen", &kafka, ClickHouse::shared(), SHIPPED);
    let consumer = bench.start(&[]);
    stores_on(&bench, &consumer, 0..500);
    watch_fault(&consumer, "kafka", &kafka.bootstrap(), || kafka.signal("STOP"), || kafka.signal("CONT"));
    stores_on(&bench, &consumer, 500..1000);
    consumer.stop();
    bench.assert_exactly_once(0..1000);
}

#[test]
fn long_a_swallowed_way_to_the_broker_is_unhealthy_to_the_end() {
    let relay = Relay::start();
    let bench = Bench::new("swallowed", &relay.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = relay.bootstrap();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap)]);
    stores_on(&bench, &consumer, 0..500);
    watch_fault(&consumer, "kafka", &bootstrap, || relay.set(Mode::Swallow), || relay.set(Mode::Pass));
    stores_on(&bench, &consumer, 500..1000);
    consumer.stop();
    bench.assert_exactly_once(0..1000);
}

/// Commits are answered with `code`: reported with it, without a hot loop, and over once they are taken again.
fn commits_refused(name: &str, code: i16, code_name: &str) {
    let relay = Relay::start();
    let bench = Bench::new(name, &relay.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = relay.bootstrap();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap), ("KAFKA_SESSION_TIMEOUT_MS", "10000")]);
    stores_on(&bench, &consumer, 0..500);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    relay.answer_commits(code);
    let before = relay.requests(OFFSET_COMMIT);
    stores_on(&bench, &consumer, 500..1000);
    let began = Instant::now();
    consumer.wait(Duration::from_secs(14), "the refused commits are a reason", || {
        let (status, text) = ready(&consumer)?;
        if status == 503 && text.contains(code_name) && text.contains("not committed") { Ok(()) } else { Err(text) }
    });
    println!("{name}: a reason after {:?}", began.elapsed());
    while began.elapsed() < hold(20) {
        std::thread::sleep(Duration::from_secs(1));
        let (status, text) = ready(&consumer).unwrap();
        assert!(status == 503 && text.contains(code_name), "{status} {text}");
    }
    let commits = relay.requests(OFFSET_COMMIT) - before;
    println!("{name}: {commits} commits in {:?}", began.elapsed());
    assert!(commits < 8 + began.elapsed().as_secs(), "{commits} commits in {:?}", began.elapsed());
    let lines = errors(&consumer, "commits");
    assert_eq!(lines.len() as u64, 1 + (began.elapsed().as_secs() - 8) / 60, "{lines:#?}");
    relay.edit(None);
    consumer.wait_health(200, Duration::from_secs(15));
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..1000);
}

#[test]
fn long_refused_commits_are_a_reason() {
    commits_refused("commits_7", 7, "(7)");
}

#[test]
fn long_commits_refused_without_a_text_do_not_loop() {
    commits_refused("commits_12", 12, "(12)");
}

#[test]
fn long_commits_refused_as_too_large_do_not_loop() {
    commits_refused("commits_28", 28, "(28)");
}

/// An answer without its last partition, as OffsetFetch v5 and OffsetCommit v7 have it: what is left says nothing.
fn without_a_partition(mut answer: Vec<u8>) -> Vec<u8> {
    let name = usize::from(u16::from_be_bytes([answer[12], answer[13]]));
    let at = 14 + name;
    let count = u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    // The first partition comes last and once more: one is doubled, and one is missing.
    answer[at..at + 4].copy_from_slice(&count.to_be_bytes());
    answer[at + 4..at + 8].copy_from_slice(&1_u32.to_be_bytes());
    answer
}

/// Answers of the coordinator that lack, double or contradict what was asked are asked for again, and are a reason.
#[test]
fn answers_without_what_was_asked_are_no_facts() {
    let relay = Relay::start();
    let bench = Bench::new("unasked", &relay.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = relay.bootstrap();
    let env = [("KAFKA_BOOTSTRAP_SERVERS", bootstrap.as_str())];
    let mut stored = 0;
    let mut consumer = bench.start(&env);
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(i16, &str, Spoil); 4] = [
        (OFFSET_FETCH, "OffsetFetch", without_a_partition),
        (OFFSET_COMMIT, "OffsetCommit", without_a_partition),
        (SYNC_GROUP, "SyncGroup", |answer| [&answer[..10], &[0, 0, 0, 3, 0, 0, 0]].concat()),
        (FIND_COORDINATOR, "FindCoordinator", |answer| [&answer[..answer.len() - 4], &[0; 4]].concat()),
    ];
    for (key, name, spoil) in cases {
        stores_on(&bench, &consumer, stored..stored + 200);
        stored += 200;
        bench.wait_committed_to_the_end(&consumer, LIMIT);
        consumer.stop();
        relay.edit(Some(Box::new(move |of, answer| if of == key { spoil(answer) } else { answer })));
        consumer = bench.start(&env);
        let new = if key == OFFSET_COMMIT { 200 } else { 0 };
        bench.produce(new);
        stored += new;
        consumer.wait(LIMIT, "it is said what is wrong with the answer", || {
            let (status, text) = ready(&consumer)?;
            let said = text.contains(name) && text.contains("what was not asked");
            if status == 503 && said { Ok(()) } else { Err(format!("{name}: {text}")) }
        });
        relay.edit(None);
        consumer.wait_health(200, Duration::from_secs(20));
        let health = consumer.wait_healthy();
        assert_eq!(health["events_consumed"], new, "{name}: what is committed is not read again");
    }
    stores_on(&bench, &consumer, stored..stored + 200);
    consumer.stop();
    bench.assert_exactly_once(0..stored + 200);
}

/// A link with a round trip above two seconds: the limits grow with it.
#[test]
fn long_a_slow_link_has_longer_limits() {
    let relay = Relay::start();
    let bench = Bench::new("slow_link", &relay.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = relay.bootstrap();
    relay.set(Mode::Delay(Duration::from_millis(1100)));
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap)]);
    consumer.wait_health(200, LIMIT);
    bench.produce(500);
    bench.wait_rows(&consumer, 500, LIMIT);
    let began = Instant::now();
    while began.elapsed() < hold(15) {
        std::thread::sleep(Duration::from_secs(1));
        let (status, text) = ready(&consumer).unwrap();
        assert_eq!(status, 200, "{text}");
    }
    let kafka = consumer.status().unwrap()["kafka"].clone();
    let seconds = |name: &str| kafka[name].as_f64().unwrap();
    assert!(seconds("round_trip_seconds") > 2.0, "{kafka}");
    assert!(seconds("contact_limit_seconds") >= 5.0 * seconds("round_trip_seconds") - 0.1, "{kafka}");
    relay.set(Mode::Pass);
    consumer.stop();
}

/// What the leaders have and the group has not committed, by an independent client.
fn real_lag(bench: &Bench<'_>) -> i64 {
    let committed = bench.kafka.committed(&bench.group, &bench.topic);
    let ends = bench.kafka.end_offsets(&bench.topic);
    ends.iter().map(|(partition, end)| end - committed.get(partition).copied().unwrap_or(0)).sum()
}

fn shown_lag(consumer: &Consumer) -> i64 {
    let lags = consumer.status().unwrap()["kafka"]["lags"].clone();
    lags.as_object().unwrap().values().map(|lag| lag.as_i64().unwrap()).sum()
}

/// Nothing is fetched while ClickHouse is away, and the lag grows all the same.
#[test]
fn long_lag_is_known_while_nothing_is_fetched() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("lag_away", Kafka::shared(), &clickhouse, SHIPPED);
    let consumer = bench.start(&[]);
    stores_on(&bench, &consumer, 0..1000);
    clickhouse.kill9();
    let began = Instant::now();
    let mut produced = 1000;
    while began.elapsed() < hold(20) {
        bench.produce(4_000);
        produced += 4_000;
        let real = real_lag(&bench);
        consumer.wait(Duration::from_secs(15), "the lag shown is the real one", || {
            let shown = shown_lag(&consumer);
            if shown == real { Ok(()) } else { Err(format!("{shown} shown for {real}")) }
        });
    }
    assert!(shown_lag(&consumer) >= 4_000);
    let metrics = consumer.metrics().unwrap();
    assert!(metrics.contains("\nsandarb_consumer_lag_age_seconds "), "{metrics}");
    clickhouse.restart();
    bench.wait_rows(&consumer, produced, LIMIT);
    consumer.wait(Duration::from_secs(15), "no lag", || match shown_lag(&consumer) {
        0 => Ok(()),
        lag => Err(lag.to_string()),
    });
    consumer.stop();
    bench.assert_exactly_once(0..produced);
}

/// The coordinator is silent while the leaders answer: nothing new is stored that could not be committed.
#[test]
fn long_a_silent_coordinator_doubles_two_batches_at_most() {
    const BATCH: u64 = 500;
    let relay = Relay::start();
    let bench = Bench::new("silent", &relay.kafka, ClickHouse::shared(), Table { window: false, views: false });
    let bootstrap = relay.bootstrap();
    let batch = BATCH.to_string();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap), ("BATCH_SIZE", &batch)]);
    let load = bench.load(1_000);
    bench.wait_rows(&consumer, 3_000, LIMIT);
    relay.set(Mode::MuteGroup);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(9));
    let stored = bench.rows();
    while began.elapsed() < hold(38) {
        std::thread::sleep(Duration::from_secs(1));
        let (status, text) = ready(&consumer).unwrap();
        assert!(began.elapsed().as_secs() <= 10 || status == 503, "{status} {text}");
        assert_eq!(bench.rows(), stored, "stored {:?} after the coordinator fell silent", began.elapsed());
    }
    relay.set(Mode::Pass);
    let events = load.stop();
    consumer.wait_health(200, LIMIT);
    bench.produced(&events);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    let tally = bench.tally(events);
    println!("{} doubles", tally.surplus);
    assert!(tally.missing.is_empty() && tally.foreign.is_empty(), "{tally:?}");
    assert!(tally.surplus <= 2 * BATCH, "{} rows too many", tally.surplus);
}

/// A class's ERROR lines, and the present text of /readyz, name these words from the tenth second of a fault to its end.
fn watch_cause(consumer: &Consumer, class: &str, words: &[&str], short: u64) {
    let began = Instant::now();
    while began.elapsed() < hold(short) {
        std::thread::sleep(Duration::from_secs(1));
        let (status, text) = ready(consumer).unwrap();
        let named = status == 503 && words.iter().all(|word| text.contains(word));
        assert!(began.elapsed().as_secs() <= 12 || named, "after {:?}: {status} {text}", began.elapsed());
    }
    let lines = errors(consumer, class);
    let named =
        |line: &Value| words.iter().all(|word| line["cause"].as_str().is_some_and(|cause| cause.contains(word)));
    assert!(lines.iter().any(named), "none of these has {words:?}: {lines:#?}");
    assert!(lines.len() as u64 <= 8 + began.elapsed().as_secs() / 60, "too many lines: {lines:#?}");
}

/// One broker cannot make the offsets topic with three replicas: there is never a coordinator.
#[test]
fn long_no_coordinator_is_a_reason_with_its_cause() {
    let relay = Relay::start_with(&["offsets.topic.replication.factor=3"]);
    let bench = Bench::new("no_coordinator", &relay.kafka, ClickHouse::shared(), SHIPPED);
    let consumer = bench.start(&[]);
    watch_cause(&consumer, "kafka", &["127.0.0.1:", "(15)", "offsets.topic.replication.factor"], 20);
}

/// The password is another one after the start: running connections go on, new ones are refused.
#[test]
fn long_a_changed_password_is_the_present_cause() {
    let guarded = Guarded::start();
    guarded.set_scram("rotating", "rotating-secret");
    let bench = Bench::new("rotated", &guarded.kafka, ClickHouse::shared(), SHIPPED);
    guarded.grant("rotating", "READ", "TOPIC", &bench.topic);
    guarded.grant("rotating", "READ", "GROUP", &bench.group);
    let login = guarded.login("rotating", "SCRAM-SHA-256");
    let env: Vec<(&str, &str)> = login.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let consumer = bench.start(&env);
    stores_on(&bench, &consumer, 0..500);
    guarded.set_scram("rotating", "another-secret");
    guarded.kafka.kill9();
    guarded.kafka.restart();
    let address = format!("127.0.0.1:{}", guarded.port);
    watch_cause(&consumer, "kafka", &[&address, "refuses the login"], 25);
    guarded.set_scram("rotating", "rotating-secret");
    consumer.wait_health(200, Duration::from_secs(20));
    stores_on(&bench, &consumer, 500..1000);
    consumer.stop();
    bench.assert_exactly_once(0..1000);
}

/// Nothing is fetched although everything else answers: whatever the cause, events that wait are a reason.
#[test]
fn long_events_that_do_not_move_are_a_reason() {
    let relay = Relay::start();
    let bench = Bench::new("unmoved", &relay.kafka, ClickHouse::shared(), SHIPPED);
    let bootstrap = relay.bootstrap();
    let consumer = bench.start(&[("KAFKA_BOOTSTRAP_SERVERS", &bootstrap)]);
    stores_on(&bench, &consumer, 0..500);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    relay.set(Mode::MuteFetch);
    bench.produce(500);
    let began = Instant::now();
    consumer.wait(Duration::from_secs(30), "events that wait are a reason", || match ready(&consumer)? {
        (503, _) => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    });
    println!("a reason after {:?}", began.elapsed());
    while began.elapsed() < hold(35) {
        std::thread::sleep(Duration::from_secs(1));
        let (status, text) = ready(&consumer).unwrap();
        assert_eq!(status, 503, "after {:?}: {text}", began.elapsed());
        let metrics = consumer.metrics().unwrap();
        assert!(metrics.contains("\nsandarb_consumer_healthy 0\n"), "{metrics}");
    }
    relay.set(Mode::Pass);
    bench.wait_rows(&consumer, 1000, LIMIT);
    consumer.wait_health(200, Duration::from_secs(15));
    consumer.stop();
    bench.assert_exactly_once(0..1000);
}
