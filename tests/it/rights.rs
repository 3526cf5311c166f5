//! Names and rights at a broker with an authorizer: every way to log in, and what is missing is named with the command
//! that grants it.

use std::process::Command;
use std::time::Duration;

use crate::harness::bench::SHIPPED;
use crate::harness::consumer::binary;
use crate::harness::guarded::Guarded;
use crate::harness::raw::Raw;
use crate::harness::{Bench, ClickHouse, Consumer, http};

const LIMIT: Duration = Duration::from_secs(90);

fn bench(name: &str) -> (&'static Guarded, Bench<'static>) {
    let guarded = Guarded::shared();
    (guarded, Bench::new(name, &guarded.kafka, ClickHouse::shared(), SHIPPED))
}

fn start(bench: &Bench<'_>, login: &[(&'static str, String)]) -> Consumer {
    let login: Vec<(&str, &str)> = login.iter().map(|(name, value)| (*name, value.as_str())).collect();
    bench.start(&login)
}

fn check(bench: &Bench<'_>, login: &[(&'static str, String)]) -> (Option<i32>, String) {
    let login: Vec<(&str, &str)> = login.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut command = Command::new(binary());
    let output = command.arg("check").env_clear().envs(bench.env(&login)).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn has(text: &str, head: &str, words: &str) {
    let found = text.lines().any(|line| line.starts_with(head) && line.contains(words));
    assert!(found, "no line {head} with {words:?} in:\n{text}");
}

#[test]
fn plain_logs_in_and_a_wrong_password_is_told_from_an_absent_broker() {
    let (guarded, bench) = bench("plain");
    logs_in(guarded, &bench, &[("plain", "PLAIN")]);
}

#[test]
fn scram_logs_in_and_a_wrong_password_is_told_from_an_absent_broker() {
    let (guarded, bench) = bench("scram");
    guarded.add_scram("scram");
    logs_in(guarded, &bench, &[("scram", "SCRAM-SHA-256"), ("scram", "SCRAM-SHA-512")]);
}

fn logs_in(guarded: &Guarded, bench: &Bench<'_>, users: &[(&str, &str)]) {
    let mut produced = 0;
    for (user, mechanism) in users {
        guarded.grant(user, "READ", "TOPIC", &bench.topic);
        guarded.grant(user, "READ", "GROUP", &bench.group);
        bench.produce(500);
        produced += 500;
        let consumer = start(bench, &guarded.login(user, mechanism));
        bench.wait_rows(&consumer, produced, LIMIT);
        bench.wait_committed_to_the_end(&consumer, LIMIT);
        consumer.wait_healthy();
        consumer.stop();
        let mut wrong = guarded.login(user, mechanism);
        wrong.retain(|(name, _)| *name != "KAFKA_SASL_PASSWORD");
        wrong.push(("KAFKA_SASL_PASSWORD", "mistaken-secret".to_owned()));
        let (code, text) = check(bench, &wrong);
        assert_eq!(code, Some(1), "{text}");
        has(&text, "FAIL brokers: ", "KAFKA_SASL_USERNAME");
        assert!(!text.contains("mistaken-secret"), "{text}");
    }
    bench.assert_exactly_once(0..produced);
}

#[test]
fn a_topic_that_may_not_be_read_is_waited_for() {
    let (guarded, bench) = bench("topic_right");
    let acl = format!("--operation Read --topic {}", bench.topic);
    guarded.grant("reader", "READ", "GROUP", &bench.group);
    bench.produce(500);
    let consumer = start(&bench, &guarded.login("reader", "PLAIN"));
    let line = consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", "no right to the topic", "KAFKA_TOPIC", &acl]);
    let ready = http::request(consumer.port, "GET", "/readyz", &[], b"").unwrap();
    assert_eq!(ready.status, 503);
    has(&ready.text().unwrap(), "", &acl);
    let body = consumer.wait_health(503, LIMIT);
    assert_eq!((&body["status"], &body["kafka_connected"]), (&"unhealthy".into(), &true.into()), "{body}");
    let status = consumer.status().unwrap();
    assert!(status["kafka"]["blocked"].as_str().is_some_and(|why| why.contains(&acl)), "{status}");
    // Two more looks at the topic, 10 s apart: still the same, and not said again.
    consumer.wait(LIMIT, "22 s are over", || {
        let status = consumer.status()?;
        status["uptime_seconds"].as_u64().filter(|up| *up >= 22).ok_or_else(|| status.to_string())
    });
    assert_eq!(consumer.health().unwrap().0, 503);
    assert_eq!(bench.rows(), 0);

    guarded.grant("reader", "READ", "TOPIC", &bench.topic);
    bench.wait_rows(&consumer, 500, Duration::from_secs(20));
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    let lines = consumer.log_lines().into_iter().filter(|seen| seen["msg"] == line["msg"]).count();
    assert_eq!(lines, 1, "said once");
    consumer.stop();
    bench.assert_exactly_once(0..500);
}

#[test]
fn missing_rights_are_named_with_the_command_that_grants_them() {
    let (guarded, bench) = bench("rights");
    let (topic, dlq) = (&bench.topic, format!("{}.dlq", bench.topic));
    let login = guarded.login("reader", "PLAIN");
    let (code, text) = check(&bench, &login);
    assert_eq!(code, Some(1), "{text}");
    has(&text, "FAIL topic: ", &format!("--operation Read --topic {topic}"));
    has(&text, "FAIL group: ", &format!("--operation Read --group {}", bench.group));

    guarded.grant("reader", "READ", "TOPIC", topic);
    guarded.grant("reader", "READ", "GROUP", &bench.group);
    let acl = format!("--operation Write --operation Create --topic {dlq}");
    let (code, text) = check(&bench, &login);
    assert_eq!(code, Some(0), "{text}");
    has(&text, "ok   topic: ", topic);
    has(&text, "ok   group: ", &bench.group);
    has(&text, "warn dead letters: ", &acl);

    // The start says so before the first bad event comes; that one makes its partition wait until the right is there.
    let consumer = start(&bench, &login);
    consumer.wait_log(LIMIT, &["\"level\":\"WARNING\"", "dead letters could not be written", &acl]);
    bench.produce(500);
    bench.wait_rows(&consumer, 500, LIMIT);
    consumer.wait_healthy();
    let place = bench.kafka.write(topic, 3, bench.source.base_ms, &[Raw::of("poison")]);
    consumer.wait_health(503, LIMIT);
    consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", "dead letters cannot be written", &dlq, "kafka-acls"]);
    assert!(bench.kafka.committed(&bench.group, topic).get(&3).is_none_or(|offset| *offset <= place));
    guarded.grant("reader", "CREATE", "TOPIC", &dlq);
    guarded.grant("reader", "WRITE", "TOPIC", &dlq);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    let letters = bench.kafka.read(&dlq, 3);
    assert_eq!(letters.iter().map(|letter| letter.value.as_deref()).collect::<Vec<_>>(), [Some(&b"poison"[..])]);
    bench.assert_exactly_once(0..500);
    let (code, text) = check(&bench, &login);
    assert_eq!(code, Some(0), "{text}");
    has(&text, "ok   dead letters: ", &dlq);
}
