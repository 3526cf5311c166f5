//! Three brokers: every topic has a replica on each, and two of them are enough to write.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::kafka::{Kafka, Node};
use super::{free_port, scratch, wait_until};

impl Kafka {
    /// Starts three brokers that are their own controllers, and waits until each answers.
    pub(crate) fn three() -> Self {
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
        let voters: Vec<String> =
            (1..).zip(&ports).map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}")).collect();
        let node = |(id, (port, controller)): (u32, &(u16, u16))| {
            let properties = [
                format!("node.id={id}"),
                format!("controller.quorum.voters={}", voters.join(",")),
                "offsets.topic.replication.factor=3".to_owned(),
                "min.insync.replicas=2".to_owned(),
                // A dead broker is noticed a little sooner than after the default 9 s.
                "broker.session.timeout.ms=6000".to_owned(),
            ];
            let env = vec![
                ("KAFKA_REBALANCE_DELAY_MS", "0".to_owned()),
                ("KAFKA_PROPERTIES", properties.join("\n")),
                ("KAFKA_CLUSTER_ID", CLUSTER_ID.to_owned()),
                ("KAFKA_HEAP", "256m".to_owned()),
            ];
            Node { port: *port, controller: *controller, dir: scratch("kafka"), env }
        };
        Self::start_nodes((1..).zip(&ports).map(node).collect())
    }

    /// Creates a topic of one partition with replicas on these nodes, by their ids; the first of them leads.
    pub(crate) fn create_topic_on(&self, topic: &str, nodes: &[u32], settings: &Value) {
        self.peer(&json!({
            "op": "create_topic", "topic": topic, "partitions": 1, "replicas": [nodes], "settings": settings,
        }));
    }

    /// Waits until this node leads the topic's first partition.
    pub(crate) fn wait_leader(&self, topic: &str, node: i64) {
        wait_until(Duration::from_secs(120), &format!("node {node} leads {topic}"), || {
            let leader = self.replicas(topic)[0].0;
            if leader == node { Ok(()) } else { Err(format!("leader {leader}")) }
        });
    }

    /// The index of the group coordinator's broker.
    pub(crate) fn coordinator(&self, group: &str) -> usize {
        self.peer(&json!({"op": "coordinator", "group": group}))["node"].as_u64().unwrap() as usize - 1
    }

    /// How many partitions of the topic each broker leads, by its index.
    pub(crate) fn led(&self, topic: &str) -> BTreeMap<usize, usize> {
        let mut led = BTreeMap::new();
        for (leader, _) in self.replicas(topic) {
            *led.entry(leader as usize - 1).or_default() += 1;
        }
        led
    }

    /// Waits until every replica of the topic and of the group's offsets is in sync again.
    pub(crate) fn wait_in_sync(&self, topic: &str) {
        for topic in [topic, "__consumer_offsets"] {
            wait_until(Duration::from_secs(120), &format!("{topic} has three replicas in sync"), || {
                let replicas = self.replicas(topic);
                if replicas.iter().all(|(leader, in_sync)| *leader > 0 && *in_sync == 3) {
                    Ok(())
                } else {
                    Err(format!("{replicas:?}"))
                }
            });
        }
    }

    /// The leader's node id and the number of replicas in sync of each partition.
    fn replicas(&self, topic: &str) -> Vec<(i64, i64)> {
        let answer = self.peer(&json!({"op": "replicas", "topic": topic}));
        let partitions = answer["partitions"].as_object().unwrap();
        partitions.values().map(|of| (of[0].as_i64().unwrap(), of[1].as_i64().unwrap())).collect()
    }
}

/// Any 16 bytes, the same for all three.
const CLUSTER_ID: &str = "c2FuZGFyYi10aHJlZS1ubw";
