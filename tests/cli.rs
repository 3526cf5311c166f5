//! The binary's command line, with the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Output;

use sandarb_consumer::admin::{Health, serve};
use sandarb_consumer::config::{HealthHttpStatus, TABLE, readme_table};
use sandarb_consumer::progress::{InsertProgress, KafkaProgress, PipelineProgress, Progress};
use sandarb_consumer::reason_log::Standing;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

/// Runs the binary with these arguments and, of the environment, only these variables.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandarb-consumer"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(20), command.output()).await.expect("it does not end").unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn version_and_help_go_to_stdout() {
    let output = run(&["--version"], &[]).await;
    assert_eq!(text(&output.stdout), concat!("sandarb-consumer ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    // Even where the configuration is wrong.
    let output = run(&["--help"], &[("BATCH_SIZE", "x")]).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(TABLE.iter().all(|entry| text(&output.stdout).contains(entry.name)));
    assert!(TABLE.iter().all(|entry| readme_table().contains(&format!("| `{}`", entry.name))));
}

#[tokio::test]
async fn an_unknown_argument_is_one_line_and_exit_code_2() {
    for arguments in [&["--verbose"][..], &["consume"], &["healthcheck", "now"]] {
        let output = run(arguments, &[]).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{arguments:?}");
        let line = text(&output.stderr);
        assert!(line.starts_with("sandarb-consumer: ") && line.contains(arguments[arguments.len() - 1]), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[tokio::test]
async fn every_fault_of_the_configuration_is_listed_and_exit_code_2() {
    let output = run(
        &[],
        &[
            ("BATCH_SIZE", "many"),
            ("CLICKHOUSE_URL", "http://me:hunter2@ch:8123"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_PASSWORD", "hunter2\n"),
        ],
    )
    .await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!(lines[0], "sandarb-consumer: 5 faults in the configuration");
    for (line, start) in lines[1..].iter().zip([
        "  KAFKA_SASL_PASSWORD=… holds a control character",
        "  KAFKA_SASL_MECHANISM is not set, but",
        "  KAFKA_SASL_USERNAME is not set, but",
        "  CLICKHOUSE_URL=\"…@ch:8123\" holds a user",
        "  BATCH_SIZE=\"many\" is not a whole number",
    ]) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(lines.len(), 6);
    assert!(!text(&output.stderr).contains("hunter2"));
}

#[tokio::test]
async fn healthcheck_passes_on_what_health_says() {
    let (kafka, kafka_end) = watch::channel(KafkaProgress {
        good_until: Some(Instant::now() + Duration::from_secs(3600)),
        ..KafkaProgress::default()
    });
    let (insert, insert_end) = watch::channel(InsertProgress { connected: true, ..InsertProgress::default() });
    let (pipeline, pipeline_end) = watch::channel(PipelineProgress::default());
    let (_stall, stall) = watch::channel(Duration::ZERO);
    let progress = Progress { kafka: kafka_end, insert: insert_end, pipeline: pipeline_end, stall };
    let (stop, stop_end) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = tokio::spawn(serve(
        listener,
        Health::new(progress, watch::channel(Standing::default()).1, HealthHttpStatus::Strict),
        stop_end,
    ));

    // Only HEALTH_PORT counts here.
    let variables = [("HEALTH_PORT", port.as_str()), ("BATCH_SIZE", "many")];
    let output = run(&["healthcheck"], &variables).await;
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));

    insert.send_modify(|insert| insert.connected = false);
    let output = run(&["healthcheck"], &variables).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let line = text(&output.stderr);
    assert!(line.starts_with("sandarb-consumer: unhealthy: HTTP 503: {\"status\": \"unhealthy\", "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");

    stop.send_replace(true);
    server.await.unwrap();
    let output = run(&["healthcheck"], &variables).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("no answer from 127.0.0.1:{port} (HEALTH_PORT)")));
    let output = run(&["healthcheck"], &[("HEALTH_PORT", "http")]).await;
    assert_eq!(output.status.code(), Some(2));
    drop((kafka, pipeline));
}
