//! What /health, /readyz, /status, /metrics and the log say while something that the program needs is away.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Bench, Consumer, free_port, http};

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
