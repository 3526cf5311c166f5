//! What benches/run measures against: rdkafka, serde_json and RowBinary over HTTP, the straightforward way.
//!
//! It reads the variables of sandarb-consumer that it needs, stores batches of BATCH_SIZE events or BATCH_TIMEOUT_MS, and
//! commits offsets once ClickHouse has them. Any error ends it: it has none of the other duties.

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use chrono::DateTime;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(default)]
struct Event {
    event_id: Uuid,
    event_type: String,
    event_category: String,
    agent_id: String,
    agent_name: String,
    org_id: String,
    org_name: String,
    context_id: String,
    context_name: String,
    version_id: String,
    version_number: u32,
    prompt_id: String,
    prompt_name: String,
    data_classification: String,
    governance_hash: String,
    hash_type: String,
    template_rendered: bool,
    denial_reason: String,
    violation_type: String,
    severity: String,
    trace_id: String,
    source_ip: String,
    request_method: String,
    request_path: String,
    event_time: String,
    metadata: String,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            event_id: Uuid::nil(),
            hash_type: "sha256".to_owned(),
            metadata: "{}".to_owned(),
            version_number: 0,
            template_rendered: false,
            event_type: String::new(),
            event_category: String::new(),
            agent_id: String::new(),
            agent_name: String::new(),
            org_id: String::new(),
            org_name: String::new(),
            context_id: String::new(),
            context_name: String::new(),
            version_id: String::new(),
            prompt_id: String::new(),
            prompt_name: String::new(),
            data_classification: String::new(),
            governance_hash: String::new(),
            denial_reason: String::new(),
            violation_type: String::new(),
            severity: String::new(),
            trace_id: String::new(),
            source_ip: String::new(),
            request_method: String::new(),
            request_path: String::new(),
            event_time: String::new(),
        }
    }
}

const COLUMNS: &str = "event_id,event_type,event_category,agent_id,agent_name,org_id,org_name,context_id,context_name,\
    version_id,version_number,prompt_id,prompt_name,data_classification,governance_hash,hash_type,template_rendered,\
    denial_reason,violation_type,severity,trace_id,source_ip,request_method,request_path,event_time,metadata";

fn put_text(text: &str, out: &mut Vec<u8>) {
    let mut length = text.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text.as_bytes());
}

fn put_row(event: &Event, out: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let (high, low) = event.event_id.as_u64_pair();
    out.extend_from_slice(&high.to_le_bytes());
    out.extend_from_slice(&low.to_le_bytes());
    for text in [
        &event.event_type,
        &event.event_category,
        &event.agent_id,
        &event.agent_name,
        &event.org_id,
        &event.org_name,
        &event.context_id,
        &event.context_name,
        &event.version_id,
    ] {
        put_text(text, out);
    }
    out.extend_from_slice(&event.version_number.to_le_bytes());
    for text in
        [&event.prompt_id, &event.prompt_name, &event.data_classification, &event.governance_hash, &event.hash_type]
    {
        put_text(text, out);
    }
    out.push(u8::from(event.template_rendered));
    for text in [
        &event.denial_reason,
        &event.violation_type,
        &event.severity,
        &event.trace_id,
        &event.source_ip,
        &event.request_method,
        &event.request_path,
    ] {
        put_text(text, out);
    }
    let time = DateTime::parse_from_rfc3339(&event.event_time)?;
    out.extend_from_slice(&time.timestamp_millis().to_le_bytes());
    put_text(&event.metadata, out);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let size: usize = env::var("BATCH_SIZE")?.parse()?;
    let age = Duration::from_millis(env::var("BATCH_TIMEOUT_MS")?.parse()?);
    let query = format!("INSERT INTO {}.events ({COLUMNS}) FORMAT RowBinary", env::var("CLICKHOUSE_DATABASE")?);
    let url = env::var("CLICKHOUSE_URL")?;
    let (user, password) = (env::var("CLICKHOUSE_USER")?, env::var("CLICKHOUSE_PASSWORD")?);
    let agent = ureq::Agent::new_with_defaults();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", env::var("KAFKA_BOOTSTRAP_SERVERS")?)
        .set("group.id", env::var("KAFKA_GROUP_ID")?)
        .set("auto.offset.reset", env::var("KAFKA_AUTO_OFFSET_RESET")?)
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[&env::var("KAFKA_TOPIC")?])?;

    let mut body = Vec::new();
    let mut rows = 0;
    let mut opened = Instant::now();
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            if rows == 0 {
                opened = Instant::now();
            }
            let event: Event = serde_json::from_slice(message?.payload().unwrap_or_default())?;
            put_row(&event, &mut body)?;
            rows += 1;
        }
        if rows >= size || (rows > 0 && opened.elapsed() >= age) {
            agent
                .post(&url)
                .query("query", &query)
                .header("X-ClickHouse-User", &user)
                .header("X-ClickHouse-Key", &password)
                .send(&body)?;
            consumer.commit_consumer_state(CommitMode::Async)?;
            body.clear();
            rows = 0;
        }
    }
}
