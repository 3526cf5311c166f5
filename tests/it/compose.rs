//! What docker-compose.yml asks of its services, tried on real ones.

use std::net::TcpListener;
use std::process::Command;

use serde_yaml_ng::Value;

use crate::harness::{Kafka, project};

/// Runs the broker's health check against an address; whether it says healthy.
fn broker_is_healthy(address: &str) -> bool {
    let text = std::fs::read_to_string(project("docker-compose.yml")).unwrap();
    let file: Value = serde_yaml_ng::from_str(&text).unwrap();
    let check = file["services"]["kafka"]["healthcheck"]["test"].as_sequence().unwrap();
    let words: Vec<&str> = check.iter().map(|word| word.as_str().unwrap()).collect();
    let ["CMD", program, option, script] = words[..] else { panic!("{words:?}") };
    let (host, port) = address.split_once(':').unwrap();
    let asked = "/dev/tcp/localhost/19092";
    assert!(script.contains(asked), "{script}");
    // Compose reads two dollar signs as one.
    let script = script.replace("$$", "$").replace(asked, &format!("/dev/tcp/{host}/{port}"));
    Command::new(program).args([option, &script]).output().unwrap().status.success()
}

#[test]
fn the_brokers_health_check_takes_an_answer_and_no_open_port() {
    assert!(broker_is_healthy(&Kafka::shared().bootstrap()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let closing = std::thread::spawn(move || silent.accept().map(drop));
    assert!(!broker_is_healthy(&address.to_string()), "it accepts and closes");
    closing.join().unwrap().unwrap();
    assert!(!broker_is_healthy(&address.to_string()), "nobody listens");
}
