//! A real Kafka broker, and librdkafka as an independent client of it (tests/it/peer.py).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{Process, spawn, tethered};
use super::{cache, free_port, project, scratch, wait_until};

/// One broker with a data directory of its own.
#[derive(Debug)]
pub(crate) struct Kafka {
    /// The client port; the same after a restart.
    pub(crate) port: u16,
    controller: u16,
    rebalance_delay_ms: u32,
    dir: PathBuf,
    process: Mutex<Process>,
    peer: Mutex<Peer>,
}

impl Kafka {
    /// The broker that tests share which do not stop theirs. Groups form at once (no initial rebalance delay).
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(0))
    }

    /// Starts a broker with this `group.initial.rebalance.delay.ms` and waits until it answers.
    pub(crate) fn start(rebalance_delay_ms: u32) -> Self {
        let (port, controller, dir) = (free_port(), free_port(), scratch("kafka"));
        let process = Mutex::new(launch(port, controller, rebalance_delay_ms, &dir));
        let peer = Mutex::new(Peer::start(port));
        let kafka = Self { port, controller, rebalance_delay_ms, dir, process, peer };
        kafka.wait_ready();
        kafka
    }

    /// For `KAFKA_BOOTSTRAP_SERVERS`.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill9(&self) {
        self.process().kill9();
    }

    /// Starts it again on the same port and data.
    pub(crate) fn restart(&self) {
        *self.process() = launch(self.port, self.controller, self.rebalance_delay_ms, &self.dir);
        self.wait_ready();
    }

    /// Creates a topic; it must not exist.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        self.peer(&json!({"op": "create_topic", "topic": topic, "partitions": partitions}));
    }

    /// The same with settings of its own.
    pub(crate) fn create_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let settings: BTreeMap<&str, &str> = settings.iter().copied().collect();
        self.peer(&json!({"op": "create_topic", "topic": topic, "partitions": partitions, "settings": settings}));
    }

    /// Changes a setting of a topic.
    pub(crate) fn alter_topic(&self, topic: &str, name: &str, value: &str) {
        self.peer(&json!({"op": "alter_topic", "topic": topic, "name": name, "value": value}));
    }

    /// The settings of a topic.
    pub(crate) fn topic_settings(&self, topic: &str) -> Value {
        self.peer(&json!({"op": "topic_settings", "topic": topic}))["settings"].clone()
    }

    /// The names of all topics.
    pub(crate) fn topics(&self) -> Vec<String> {
        let answer = self.peer(&json!({"op": "topics"}));
        answer["topics"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// The group's committed offsets of the topic by partition; a partition without one is not in it.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        offsets(&self.peer(&json!({"op": "committed", "group": group, "topic": topic})))
    }

    /// The ends of the topic's partitions.
    pub(crate) fn end_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        offsets(&self.peer(&json!({"op": "end_offsets", "topic": topic})))
    }

    /// Produces one record as librdkafka does. Bytes go as hexadecimal text, null as None.
    pub(crate) fn produce(&self, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
        let hex = |bytes: Option<&[u8]>| bytes.map(to_hex);
        self.peer(&json!({
            "op": "produce", "topic": topic, "partition": partition, "key": hex(key), "value": hex(value),
        }));
    }

    /// The records of the topic's partition from its start to its end, as librdkafka reads them:
    /// `{offset, timestamp, key, value, headers: [[name, value]]}`, bytes as hexadecimal text or null.
    pub(crate) fn consume(&self, topic: &str, partition: i32) -> Vec<Value> {
        let answer = self.peer(&json!({"op": "consume", "topic": topic, "partition": partition}));
        answer["records"].as_array().unwrap().clone()
    }

    fn peer(&self, order: &Value) -> Value {
        let mut peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        peer.call(order).unwrap_or_else(|error| panic!("{order}: {error}\n{}", self.process().log_tail(10)))
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_ready(&self) {
        wait_until(Duration::from_secs(90), "Kafka answers Metadata", || {
            self.process().assert_runs();
            self.peer.lock().unwrap_or_else(PoisonError::into_inner).call(&json!({"op": "ping"}))
        });
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn launch(port: u16, controller: u16, rebalance_delay_ms: u32, dir: &std::path::Path) -> Process {
    let mut command = Command::new(project("dev/kafka-server"));
    command.arg(port.to_string()).arg(controller.to_string()).arg(dir.join("data"));
    command.env("KAFKA_REBALANCE_DELAY_MS", rebalance_delay_ms.to_string());
    Process::spawn("kafka", &mut command, &dir.join("kafka.log"))
}

fn offsets(answer: &Value) -> BTreeMap<i32, i64> {
    let offsets = answer["offsets"].as_object().unwrap();
    offsets.iter().map(|(partition, offset)| (partition.parse().unwrap(), offset.as_i64().unwrap())).collect()
}

/// The Python process; one JSON line in, one out.
#[derive(Debug)]
struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(port: u16) -> Self {
        let mut command = Command::new(cache().join("venv/bin/python"));
        command.arg(project("tests/it/peer.py")).arg(format!("127.0.0.1:{port}"));
        let mut child = spawn(tethered(&command).stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, orders, answers: BufReader::new(answers) }
    }

    fn call(&mut self, order: &Value) -> Result<Value, String> {
        let words = |error: std::io::Error| format!("peer.py: {error}");
        writeln!(self.orders, "{order}").map_err(words)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(words)?;
        let answer: Value = serde_json::from_str(&line).map_err(|error| format!("peer.py said {line:?}: {error}"))?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("peer.py could not be killed: {error}");
        }
    }
}
