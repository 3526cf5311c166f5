//! A broker with an authorizer: who comes through its second listener has a name, and only the rights that were granted.

use std::sync::OnceLock;

use serde_json::json;

use super::kafka::{Kafka, Node, controller_listener, kafka_version, needs_kafka};
use super::{free_port, scratch};

/// The broker, and the port of the listener that asks for a name. The first listener's user may do everything.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) kafka: Kafka,
    pub(crate) port: u16,
}

/// Users that PLAIN knows; everybody's password is the name with `-secret` behind it.
const PLAIN: [&str; 2] = ["plain", "reader"];

impl Guarded {
    /// The one that tests share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Guarded> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of its own, for a test that stops it.
    pub(crate) fn start() -> Self {
        let (open, port, controller) = (free_port(), free_port(), free_port());
        let users: Vec<String> = PLAIN.iter().map(|name| format!("user_{name}=\"{name}-secret\"")).collect();
        let module = "org.apache.kafka.common.security";
        let listener = "listener.name.sasl_plaintext";
        let own_listener = controller_listener(controller);
        let authorizer = if kafka_version() < (3, 0) {
            "kafka.security.authorizer.AclAuthorizer"
        } else {
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        };
        let clients = format!("PLAINTEXT://127.0.0.1:{open},SASL_PLAINTEXT://127.0.0.1:{port}");
        let properties = [
            format!("listeners={clients}{own_listener}"),
            format!("advertised.listeners={clients}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"
                .to_owned(),
            format!("authorizer.class.name={authorizer}"),
            "super.users=User:ANONYMOUS".to_owned(),
            format!("{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
            format!("{listener}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required {};", users.join(" ")),
            format!("{listener}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
            format!("{listener}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
        ];
        let env = vec![("KAFKA_REBALANCE_DELAY_MS", "0".to_owned()), ("KAFKA_PROPERTIES", properties.join("\n"))];
        let node = Node { port: open, controller, dir: scratch("kafka-guarded"), env };
        Self { kafka: Kafka::start_nodes(vec![node]), port }
    }

    /// Grants a user an operation (`READ`, `WRITE`, …) on a resource (`TOPIC`, `GROUP`).
    pub(crate) fn grant(&self, user: &str, operation: &str, resource: &str, name: &str) {
        let order = json!({"op": "grant", "user": user, "operation": operation, "resource": resource, "name": name});
        self.kafka.peer(&order);
    }

    /// Makes a user known by both SCRAM mechanisms. Brokers with KRaft keep such users from 3.5 on (KIP-900).
    pub(crate) fn add_scram(&self, user: &str) {
        if kafka_version() >= (3, 0) {
            needs_kafka((3, 5), "SCRAM without ZooKeeper");
        }
        self.set_scram(user, &format!("{user}-secret"));
    }

    /// Gives such a user a password.
    pub(crate) fn set_scram(&self, user: &str, password: &str) {
        self.kafka.peer(&json!({"op": "add_scram", "user": user, "password": password}));
    }

    /// The variables of a user who logs in by this mechanism.
    pub(crate) fn login(&self, user: &str, mechanism: &str) -> Vec<(&'static str, String)> {
        vec![
            ("KAFKA_BOOTSTRAP_SERVERS", format!("127.0.0.1:{}", self.port)),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT".to_owned()),
            ("KAFKA_SASL_MECHANISM", mechanism.to_owned()),
            ("KAFKA_SASL_USERNAME", user.to_owned()),
            ("KAFKA_SASL_PASSWORD", format!("{user}-secret")),
        ]
    }
}
