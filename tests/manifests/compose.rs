//! Compose: the files as Compose itself reads them.

use std::collections::BTreeMap;

use sandarb_consumer::config::Config;
use serde_yaml_ng::Value;

use crate::environment::{PARTITIONS, UID, load};
use crate::tools;

fn services(file: &str) -> BTreeMap<String, Value> {
    let text = tools::compose(file);
    let whole: Value = serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
    serde_yaml_ng::from_value(whole["services"].clone()).unwrap()
}

/// The environment, which Compose writes as a map or as a list of NAME=VALUE.
fn environment(service: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        other => panic!("a variable without a value: {other:?}"),
    };
    match &service["environment"] {
        Value::Mapping(map) => map.iter().map(|(name, value)| (text(name), text(value))).collect(),
        Value::Sequence(list) => list
            .iter()
            .map(|line| line.as_str().and_then(|line| line.split_once('=')).expect("NAME=VALUE"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        other => panic!("no environment: {other:?}"),
    }
}

/// (host address, host port, container port), which Compose writes as text or as a map.
fn port(service: &Value) -> (String, u16, u16) {
    let [only] = service["ports"].as_sequence().unwrap().as_slice() else { panic!("one port") };
    let text = if let Some(text) = only.as_str() {
        text.trim_end_matches("/tcp").to_owned()
    } else {
        let plain = |key: &str| match &only[key] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => panic!("{key}: {other:?}"),
        };
        format!("{}:{}:{}", plain("host_ip"), plain("published"), plain("target"))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let [host, published, target] = parts[..] else { panic!("{text}: not published on loopback only") };
    (host.to_owned(), published.parse().unwrap(), target.parse().unwrap())
}

/// `30s` and `1m0s`, the units that are used.
fn seconds(value: &Value) -> u64 {
    let mut number = 0;
    let mut sum = 0;
    for letter in value.as_str().expect("a duration").chars() {
        match letter {
            'm' => sum += 60 * std::mem::take(&mut number),
            's' => sum += std::mem::take(&mut number),
            digit => number = number * 10 + u64::from(digit.to_digit(10).unwrap()),
        }
    }
    assert_eq!(number, 0, "a duration without a unit");
    sum
}

/// What holds for each container of the program; its configuration.
fn consumer(name: &str, service: &Value) -> Config {
    let config = load(name, &environment(service));
    assert_eq!(service["user"].as_str(), Some(format!("{UID}:{UID}").as_str()), "{name}");
    assert_eq!(service["read_only"].as_bool(), Some(true), "{name}");
    let text = |key: &str| serde_yaml_ng::to_string(&service[key]).unwrap();
    assert_eq!(text("cap_drop").trim(), "- ALL", "{name}");
    assert_eq!(text("security_opt").trim(), "- no-new-privileges:true", "{name}");
    assert!(["32m", "33554432"].contains(&text("mem_limit").trim().trim_matches(['"', '\''])), "{name}");
    assert_eq!(service["restart"].as_str(), Some("unless-stopped"), "{name}");
    assert!(service["privileged"].is_null() && service["volumes"].is_null() && service["command"].is_null(), "{name}");
    assert!(u128::from(seconds(&service["stop_grace_period"])) * 1000 > config.shutdown_timeout.as_millis(), "{name}");
    assert_eq!(service["build"]["dockerfile"].as_str(), Some("Dockerfile.scratch"), "{name}");
    let check: Vec<&str> =
        service["healthcheck"]["test"].as_sequence().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(check, ["CMD", "/sandarb-consumer", "healthcheck"], "{name}");
    assert!(seconds(&service["healthcheck"]["timeout"]) > 3, "{name}: its own limit is 3 s");
    config
}

/// Two members of one group on 8079 and 8080, each asked on the port it listens on.
fn pair(first: (&str, &Value), second: (&str, &Value)) -> Config {
    let configs = [(first, 8079), (second, 8080)].map(|((name, service), wanted)| {
        let config = consumer(name, service);
        assert_eq!(port(service), ("127.0.0.1".to_owned(), wanted, wanted), "{name}");
        assert_eq!(config.health_port, wanted, "{name}");
        config
    });
    assert_eq!(configs[0].kafka.group_id, configs[1].kafka.group_id);
    assert_eq!(configs[0].kafka.topic, configs[1].kafka.topic);
    let [config, _] = configs;
    config
}

#[test]
fn the_whole_picture() {
    let services = services("docker-compose.yml");
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["clickhouse", "consumer-01", "consumer-02", "kafka", "sample", "topic"]);
    let config = pair(("01", &services["consumer-01"]), ("02", &services["consumer-02"]));

    // Where the program looks, there is something.
    let broker = &config.kafka.bootstrap[0];
    assert_eq!(broker.to_string(), "kafka:19092");
    let kafka = environment(&services["kafka"]);
    assert!(kafka["KAFKA_ADVERTISED_LISTENERS"].contains(&format!("INSIDE://{broker}")));
    assert!(kafka["KAFKA_LISTENERS"].contains(&format!("INSIDE://:{}", broker.port)));
    let server = &config.clickhouse.addresses[0];
    assert_eq!((server.tls, server.host.to_string().as_str()), (false, "clickhouse:8123"));
    let login = environment(&services["clickhouse"]);
    assert_eq!(login["CLICKHOUSE_USER"], config.clickhouse.user);
    assert_eq!(login["CLICKHOUSE_PASSWORD"], environment(&services["consumer-01"])["CLICKHOUSE_PASSWORD"]);
    let mounted = serde_yaml_ng::to_string(&services["clickhouse"]["volumes"]).unwrap();
    // In the order of their names: the views read the table.
    for file in ["events.sql", "views.sql"] {
        let mount = format!("/sql/{file}:/docker-entrypoint-initdb.d/{file}:ro");
        assert!(mounted.contains(&mount) && tools::project("sql").join(file).exists(), "{mounted}");
    }
    let create = serde_yaml_ng::to_string(&services["topic"]["command"]).unwrap().replace(['\n', '-'], " ");
    let words: Vec<&str> = create.split_whitespace().collect();
    let after = |name: &str| words[words.iter().position(|word| *word == name).expect(name) + 1];
    assert_eq!((after("topic"), after("partitions")), (config.kafka.topic.as_str(), PARTITIONS.to_string().as_str()));

    // All that stays has a health check, and nobody is waited for in vain.
    for name in ["kafka", "clickhouse"] {
        assert!(!services[name]["healthcheck"]["test"].is_null(), "{name}");
        assert_eq!(port(&services[name]).0, "127.0.0.1", "{name}");
    }
    for name in ["consumer-01", "consumer-02"] {
        let wait = &services[name]["depends_on"];
        assert_eq!(wait["clickhouse"]["condition"].as_str(), Some("service_healthy"), "{name}");
        assert_eq!(wait["topic"]["condition"].as_str(), Some("service_completed_successfully"), "{name}");
    }
    let sample = &services["sample"];
    assert_eq!(sample["profiles"][0].as_str(), Some("sample"));
    assert_eq!(sample["build"]["target"].as_str(), Some("sample"));
    assert_eq!(sample["user"].as_str(), Some(format!("{UID}:{UID}").as_str()));
}

#[test]
fn the_consumers_alone() {
    let file = "docker-compose.consumers.yml";
    let services = services(file);
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["sandarb-consumer-01", "sandarb-consumer-02"]);
    let [first, second] = names[..] else { panic!("two") };
    let config = pair((first, &services[first]), (second, &services[second]));
    // The defaults of the program, spelled out.
    let plain = load("defaults", &BTreeMap::new());
    assert_eq!(config.kafka.bootstrap, plain.kafka.bootstrap);
    assert_eq!(config.clickhouse.addresses, plain.clickhouse.addresses);
    assert_eq!((config.kafka.topic, config.kafka.group_id), (plain.kafka.topic, plain.kafka.group_id));
    let whole: Value = serde_yaml_ng::from_str(&tools::compose(file)).unwrap();
    for name in names {
        let service = &services[name];
        assert_eq!(service["container_name"].as_str(), Some(name));
        let hosts = serde_yaml_ng::to_string(&service["extra_hosts"]).unwrap().replace('=', ":");
        assert!(hosts.contains("host.docker.internal:host-gateway"), "{name}: {hosts}");
        let networks = service["networks"].as_mapping().unwrap();
        let network = networks.keys().next().and_then(Value::as_str).unwrap();
        assert_eq!(networks.len(), 1);
        assert_eq!(whole["networks"][network]["name"].as_str(), Some("sandarb-kafka-cluster_kafka-net"));
        assert_eq!(whole["networks"][network]["external"].as_bool(), Some(true));
    }
}
