//! The health port belongs to the probes: whoever else connects to it, /livez and `healthcheck` are answered within a
//! second, and the events go on.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::consumer::binary;
use crate::harness::flood::{Flood, Habit};
use crate::harness::{Bench, Consumer, http, pause};

const LIMIT: Duration = Duration::from_secs(90);
const IN_TIME: Duration = Duration::from_secs(1);

/// How long the machine takes now for something that needs the processor and nothing of the program under test.
fn pace_of_the_machine() -> Duration {
    let began = Instant::now();
    let status = Command::new(binary()).arg("--version").stdout(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "--version: {status:?}");
    began.elapsed()
}

/// Asks again and again for this long; how often, and what was not as it must be, in words. On a machine that is busy
/// with other things the time allowed grows with what those take.
fn probed(consumer: &Consumer, time: Duration) -> (u32, Vec<String>) {
    let (mut asked, mut faults) = (0, Vec::new());
    let end = Instant::now() + time;
    while Instant::now() < end {
        let pace = pace_of_the_machine();
        let mut answers = Vec::new();
        for path in ["/livez", "/readyz"] {
            let began = Instant::now();
            let status = http::request(consumer.port, "GET", path, &[], b"").map(|answer| answer.status);
            answers.push((status == Ok(200), began.elapsed(), format!("{path}: {status:?}")));
        }
        let began = Instant::now();
        let (code, said) = consumer.healthcheck();
        answers.push((code == Some(0), began.elapsed(), format!("healthcheck: {code:?} {said}")));
        let limit = IN_TIME + pace.max(pace_of_the_machine()) * 8;
        for (good, took, said) in answers {
            asked += 1;
            if !good || took > limit {
                faults.push(format!("{said} after {took:?} of {limit:?}"));
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    (asked, faults)
}

/// Probes are answered through a flood while events pass, and the program's memory stays where it was.
fn withstand(bench: &Bench<'_>, consumer: &Consumer, habit: Habit, connections: usize, peers: u8) {
    let before = consumer.rss_kib();
    let stored = bench.rows();
    let began = Instant::now();
    let flood = Flood::start(consumer.port, habit, connections, peers);
    let producing = bench.produce_at(300, Some(300.0));
    let (asked, faults) = probed(consumer, Duration::from_millis(1500));
    producing.wait();
    bench.wait_rows(consumer, stored + 300, LIMIT);
    let made = flood.connected();
    assert!(made >= connections as u64, "{made} connections of {habit:?} were made");
    println!("{habit:?} from {peers} peers: {asked} probes, {made} connections made in {:?}", began.elapsed());
    drop(flood);
    assert!(faults.is_empty(), "{habit:?}, {peers} peers: {} of {asked}: {faults:#?}", faults.len());
    let grown = consumer.rss_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{habit:?}: {grown} KiB more");
}

#[test]
fn alone_a_probe_is_answered_whoever_else_connects() {
    let bench = Bench::shared("flood");
    bench.produce(100);
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, 100, LIMIT);
    consumer.wait_healthy();
    for habit in [Habit::Drip, Habit::Idle, Habit::HalfOpen, Habit::Pipeline, Habit::Deaf, Habit::Churn] {
        withstand(&bench, &consumer, habit, 500, 1);
    }
    for habit in [Habit::Drip, Habit::Pipeline, Habit::Deaf] {
        withstand(&bench, &consumer, habit, 500, 200);
    }
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(bench.all());
}

#[test]
fn alone_a_probe_is_answered_and_events_pass_with_few_descriptors() {
    const DESCRIPTORS: u32 = 48;
    let bench = Bench::shared("descriptors");
    bench.produce(100);
    let consumer = Consumer::start_with_descriptors(DESCRIPTORS, &bench.env(&[]));
    bench.wait_rows(&consumer, 100, LIMIT);
    consumer.wait_healthy();
    // The connections that ask for log ends and probe ClickHouse come about in the first seconds.
    let began = Instant::now();
    let mut idle = 0;
    while began.elapsed() < Duration::from_secs(8) {
        idle = idle.max(consumer.descriptors().len());
        pause(began);
    }
    for (habit, peers) in [(Habit::Drip, 1), (Habit::Idle, 100), (Habit::Deaf, 100)] {
        withstand(&bench, &consumer, habit, 500, peers);
        assert!(consumer.descriptors().len() < DESCRIPTORS as usize, "some are left for Kafka and ClickHouse");
    }
    consumer.wait(Duration::from_secs(40), "descriptors are given back", || {
        let open = consumer.descriptors().len();
        if open <= idle + 4 { Ok(()) } else { Err(format!("{open} after {idle}")) }
    });
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(bench.all());
}

/// The limit is lowered under the running program to what it has open: from then on the system has none to give.
#[test]
fn alone_a_probe_is_answered_without_a_free_descriptor() {
    let bench = Bench::shared("no_descriptor");
    bench.produce(100);
    let consumer = bench.start(&[]);
    bench.wait_rows(&consumer, 100, LIMIT);
    consumer.wait_healthy();
    let open = consumer.descriptors();
    let lowest_free = (0..).find(|descriptor| !open.contains(descriptor)).unwrap();
    consumer.limit_descriptors(lowest_free);
    withstand(&bench, &consumer, Habit::Drip, 500, 1);
    withstand(&bench, &consumer, Habit::Deaf, 500, 100);
    consumer.wait_log(LIMIT, &["WARNING", "health server", "(os error 24)"]);
    consumer.limit_descriptors(1024);
    let (_, faults) = probed(&consumer, Duration::from_secs(1));
    assert!(faults.is_empty(), "after it: {faults:?}");
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(bench.all());
}
