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

/// One broker or more, each with a data directory of its own.
#[derive(Debug)]
pub(crate) struct Kafka {
    nodes: Vec<Running>,
    /// Of new topics.
    replication: i32,
    /// Those that nobody has given an order to: tests do not wait for each other's.
    idle: Mutex<Vec<Peer>>,
    /// The one whose transactions stay open from one order to the next.
    transacting: Mutex<Option<Peer>>,
}

/// How a broker is started.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The client port; the same after a restart.
    pub(super) port: u16,
    pub(super) controller: u16,
    pub(super) dir: PathBuf,
    /// For dev/kafka-server.
    pub(super) env: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Running {
    node: Node,
    /// The client port, once it is another one.
    moved: Mutex<Option<u16>>,
    process: Mutex<Process>,
}

impl Running {
    fn port(&self) -> u16 {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(self.node.port)
    }
}

impl Kafka {
    /// The broker that tests share which do not stop theirs. Groups form at once (no initial rebalance delay).
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(0))
    }

    /// Starts a broker with this `group.initial.rebalance.delay.ms` and waits until it answers.
    pub(crate) fn start(rebalance_delay_ms: u32) -> Self {
        let env = vec![("KAFKA_REBALANCE_DELAY_MS", rebalance_delay_ms.to_string())];
        Self::start_nodes(vec![Node { port: free_port(), controller: free_port(), dir: scratch("kafka"), env }])
    }

    /// Starts these brokers, as many as topics are to have replicas, and waits until each answers.
    pub(super) fn start_nodes(nodes: Vec<Node>) -> Self {
        let replication = nodes.len() as i32;
        let nodes: Vec<Running> = nodes
            .into_iter()
            .map(|node| Running { process: Mutex::new(launch(&node)), node, moved: Mutex::default() })
            .collect();
        let kafka = Self { nodes, replication, idle: Mutex::default(), transacting: Mutex::default() };
        for index in 0..kafka.nodes.len() {
            kafka.wait_ready(index);
        }
        kafka
    }

    /// For `KAFKA_BOOTSTRAP_SERVERS`.
    pub(crate) fn bootstrap(&self) -> String {
        self.nodes.iter().map(|running| format!("127.0.0.1:{}", running.port())).collect::<Vec<_>>().join(",")
    }

    /// The same, one by one.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.bootstrap().split(',').map(str::to_owned).collect()
    }

    /// The first broker's port.
    pub(crate) fn port(&self) -> u16 {
        self.nodes[0].node.port
    }

    /// kill -9 for the first broker.
    pub(crate) fn kill9(&self) {
        self.kill9_node(0);
    }

    /// kill -9 for one broker.
    pub(crate) fn kill9_node(&self, index: usize) {
        self.process(index).kill9();
    }

    /// Sends the first broker a signal, named as kill(1) names it.
    pub(crate) fn signal(&self, signal: &str) {
        self.process(0).signal(signal);
    }

    /// SIGTERM for one broker: it hands its partitions over and ends.
    pub(crate) fn stop_node(&self, index: usize) {
        self.process(index).signal("TERM");
        self.process(index).wait_exit(Duration::from_secs(60));
    }

    /// SIGTERM for the first broker: its logs are closed cleanly, so that the next start takes them as they are.
    pub(crate) fn stop(&self) {
        self.stop_node(0);
    }

    /// The directory of a partition's log at the first broker, for tests that damage it.
    pub(crate) fn log_dir(&self, topic: &str, partition: i32) -> PathBuf {
        self.nodes[0].node.dir.join(format!("data/log/{topic}-{partition}"))
    }

    /// What the first broker has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process(0).log()
    }

    /// Starts the first broker again on the same port and data.
    pub(crate) fn restart(&self) {
        self.restart_node(0);
    }

    /// Starts the first broker again on the same data and another port, as a pod that has a new address.
    pub(crate) fn restart_elsewhere(&self, port: u16) {
        *self.process(0) = launch(&Node { port, ..self.nodes[0].node.clone() });
        // Clients of before know the old address only.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.nodes[0].moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(port);
        self.wait_ready(0);
    }

    /// Starts one broker again on the same port and data.
    pub(crate) fn restart_node(&self, index: usize) {
        *self.process(index) = launch(&self.nodes[index].node);
        self.wait_ready(index);
    }

    /// Creates a topic; it must not exist.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        self.try_create_topic(topic, partitions).unwrap_or_else(|error| panic!("{topic}: {error}"));
    }

    /// The same, with librdkafka's error as text.
    pub(crate) fn try_create_topic(&self, topic: &str, partitions: i32) -> Result<(), String> {
        let replication = self.replication;
        let order = json!({"op": "create_topic", "topic": topic, "partitions": partitions, "replication": replication});
        self.try_peer(&order).map(|_| ())
    }

    /// Deletes a topic.
    pub(crate) fn delete_topic(&self, topic: &str) {
        self.peer(&json!({"op": "delete_topic", "topic": topic}));
    }

    /// Gives a topic more partitions.
    pub(crate) fn grow_topic(&self, topic: &str, partitions: i32) {
        self.peer(&json!({"op": "grow_topic", "topic": topic, "partitions": partitions}));
    }

    /// Creates a topic with settings of its own, as a JSON object of strings.
    pub(crate) fn create_topic_with(&self, topic: &str, partitions: i32, settings: &Value) {
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

    /// The group's state in a word and its members, as the broker describes them.
    pub(crate) fn describe(&self, group: &str) -> (String, BTreeMap<String, Described>) {
        let answer = self.peer(&json!({"op": "describe", "group": group}));
        let members = answer["members"].as_object().unwrap();
        let members = members.iter().map(|(id, member)| (id.clone(), Described::read(member))).collect();
        (answer["state"].as_str().unwrap().to_owned(), members)
    }

    /// Forms a group of librdkafka's for each shape; per shape and member what it got.
    pub(crate) fn shapes(&self, shapes: &[Value]) -> Vec<Vec<Value>> {
        let answer = self.peer(&json!({"op": "shapes", "shapes": shapes}));
        let shapes = answer["shapes"].as_array().unwrap();
        shapes.iter().map(|shape| shape.as_array().unwrap().clone()).collect()
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

    /// What peer.py answers: the orders are there.
    pub(crate) fn peer(&self, order: &Value) -> Value {
        self.try_peer(order).unwrap_or_else(|error| panic!("{order}: {error}\n{}", self.process(0).log_tail(10)))
    }

    fn try_peer(&self, order: &Value) -> Result<Value, String> {
        let start = || Peer::start(&self.bootstrap());
        if order["op"] == "transact" {
            return self
                .transacting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(start)
                .call(order);
        }
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = idle().pop();
        let mut peer = peer.unwrap_or_else(start);
        let answer = peer.call(order);
        idle().push(peer);
        answer
    }

    fn process(&self, index: usize) -> MutexGuard<'_, Process> {
        self.nodes[index].process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_ready(&self, index: usize) {
        let order = json!({"op": "ping", "address": format!("127.0.0.1:{}", self.nodes[index].port())});
        wait_until(START, "Kafka answers Metadata", || {
            self.process(index).assert_runs();
            self.try_peer(&order)
        });
    }
}

/// A member as the broker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// The instance id of a static member.
    pub(crate) instance: Option<String>,
    /// What it holds: topic and partition, in order.
    pub(crate) partitions: Vec<(String, i32)>,
}

impl Described {
    /// From `{"instance", "partitions": [[topic, partition]]}`.
    pub(crate) fn read(member: &Value) -> Self {
        let partitions = member["partitions"].as_array().unwrap();
        let place = |place: &Value| (place[0].as_str().unwrap().to_owned(), place[1].as_i64().unwrap() as i32);
        Self {
            instance: member["instance"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
            partitions: partitions.iter().map(place).collect(),
        }
    }
}

/// The brokers' version: KAFKA_VERSION, else that of dev/kafka/pom.xml.
pub(crate) fn kafka_version_text() -> String {
    let set = std::env::var("KAFKA_VERSION").ok().filter(|text| !text.is_empty());
    set.unwrap_or_else(|| {
        let pom = std::fs::read_to_string(project("dev/kafka/pom.xml")).unwrap();
        let (_, rest) = pom.split_once("<kafka.version>").unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    })
}

/// What a node that names its own `listeners` must add to them: before 3.0 the port of the controller is that of ZooKeeper.
pub(super) fn controller_listener(port: u16) -> String {
    if kafka_version() < (3, 0) { String::new() } else { format!(",CONTROLLER://127.0.0.1:{port}") }
}

/// Its major and minor number.
pub(crate) fn kafka_version() -> (u32, u32) {
    let version = kafka_version_text();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or_else(|error| panic!("{version}: {error}")));
    (parts.next().unwrap(), parts.next().unwrap())
}

/// For tests of what older brokers lack: `make integration` leaves them out, by name, for such a KAFKA_VERSION.
pub(crate) fn needs_kafka(least: (u32, u32), what: &str) {
    let (major, minor) = kafka_version();
    assert!(
        (major, minor) >= least,
        "{what} needs Kafka {}.{} and this is {major}.{minor}: leave the test out, as `make integration` does",
        least.0,
        least.1
    );
}

/// Lower-case hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]).collect()
}

/// The bytes of hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn launch(node: &Node) -> Process {
    let mut command = Command::new(project("dev/kafka-server"));
    command.arg(node.port.to_string()).arg(node.controller.to_string()).arg(node.dir.join("data"));
    command.envs(node.env.iter().map(|(name, value)| (name, value)));
    Process::spawn("kafka", &mut command, &node.dir.join("kafka.log"))
}

fn offsets(answer: &Value) -> BTreeMap<i32, i64> {
    let offsets = answer["offsets"].as_object().unwrap();
    offsets.iter().map(|(partition, offset)| (partition.parse().unwrap(), offset.as_i64().unwrap())).collect()
}

/// A JVM that recovers its log beside two others, on a machine with other work: mostly start-up of Java code.
const START: Duration = Duration::from_secs(180);

/// The Python process; one JSON line in, one out.
#[derive(Debug)]
struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(bootstrap: &str) -> Self {
        let mut command = Command::new(cache().join("venv/bin/python"));
        command.arg(project("tests/it/peer.py")).arg(bootstrap);
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
