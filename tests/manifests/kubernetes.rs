//! Kubernetes: base, overlays and components, alone and together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Capabilities, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sandarb_consumer::config::Config;

use crate::environment::{PARTITIONS, UID, secrets};
use crate::rendered::{Rendered, Workload};
use crate::tools;

const ROOTS: [&str; 3] = ["base", "overlays/gke", "overlays/edge"];
const COMPONENTS: [&str; 3] = ["network-policy", "static-membership", "autoscale"];
/// autoscale before static-membership, as the latter says.
const TOGETHER: [&str; 3] = ["network-policy", "autoscale", "static-membership"];
const NAME: &str = "sandarb-consumer";

/// Each root, alone, with each component, and with all.
fn all() -> Vec<Rendered> {
    let render = |root: &str| {
        let alone = [Rendered::new(root, &[])];
        let each = COMPONENTS.map(|component| Rendered::new(root, &[component]));
        alone.into_iter().chain(each).chain([Rendered::new(root, &TOGETHER)]).collect::<Vec<_>>()
    };
    ROOTS.into_iter().flat_map(render).collect()
}

/// One test for all renderings: rendering is what takes the time.
#[test]
fn every_rendering_fits_together() {
    for rendered in all() {
        names(&rendered);
        selectors(&rendered);
        let config = rendered.config();
        ports(&rendered, &config);
        probes(&rendered);
        secrets_by_reference(&rendered);
        replicas(&rendered);
        security(&rendered);
        resources(&rendered, &config);
        disruption(&rendered);
        network(&rendered, &config);
        autoscaling(&rendered);
    }
}

fn names(rendered: &Rendered) {
    for (kind, metadata) in rendered.metadata() {
        let place = format!("{}: {kind}", rendered.name);
        assert_eq!(metadata.namespace.as_deref(), Some("sandarb-data"), "{place}");
        let name = metadata.name.as_deref().unwrap();
        if kind == "ConfigMap" {
            // With a hash of its content: a change of it rolls the pods.
            assert!(name.strip_prefix("sandarb-consumer-").is_some_and(|hash| hash.len() == 10), "{place}: {name}");
        } else {
            assert_eq!(name, NAME, "{place}");
        }
        let labels = metadata.labels.as_ref().unwrap();
        assert_eq!(labels.get("app.kubernetes.io/name").map(String::as_str), Some(NAME), "{place}");
    }
    let container = rendered.container();
    assert_eq!(container.image.as_deref(), Some(concat!("sandarb-consumer:", env!("CARGO_PKG_VERSION"))));
    // The image's own entry point, and no command that asks for a shell.
    assert_eq!((&container.command, &container.args), (&None, &None), "{}", rendered.name);
}

fn selectors(rendered: &Rendered) {
    let labels = rendered.template().metadata.as_ref().unwrap().labels.as_ref().unwrap();
    let selects = |selector: &BTreeMap<String, String>| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let by_labels = |selector: &LabelSelector| {
        selector.match_expressions.is_none() && selector.match_labels.as_ref().is_some_and(selects)
    };
    let name = &rendered.name;
    assert!(by_labels(rendered.selector()), "{name}");
    assert!(selects(rendered.service.spec.as_ref().unwrap().selector.as_ref().unwrap()), "{name}");
    assert!(by_labels(rendered.budget.spec.as_ref().unwrap().selector.as_ref().unwrap()), "{name}");
    if let Some(policy) = &rendered.network_policy {
        assert!(by_labels(policy.spec.as_ref().unwrap().pod_selector.as_ref().unwrap()), "{name}");
    }
    let spread = rendered.pod().topology_spread_constraints.as_deref().unwrap();
    assert!(spread.iter().any(|constraint| constraint.topology_key == "kubernetes.io/hostname"), "{name}");
    assert!(spread.iter().all(|constraint| by_labels(constraint.label_selector.as_ref().unwrap())), "{name}");
}

fn ports(rendered: &Rendered, config: &Config) {
    let port = i32::from(config.health_port);
    let ports = rendered.container().ports.as_deref().unwrap();
    let [only] = ports else { panic!("{}: {ports:?}", rendered.name) };
    assert_eq!((only.name.as_deref(), only.container_port, only.host_port), (Some("http"), port, None));
    let service = rendered.service.spec.as_ref().unwrap();
    let [served] = service.ports.as_deref().unwrap() else { panic!("{}: one port", rendered.name) };
    assert_eq!((served.port, &served.target_port), (port, &Some(IntOrString::String("http".to_owned()))));
}

fn probes(rendered: &Rendered) {
    let container = rendered.container();
    let place = |probe: &Option<Probe>| {
        let probe = probe.as_ref().unwrap_or_else(|| panic!("{}: a probe is missing", rendered.name));
        let get = probe.http_get.as_ref().expect("probes are HTTP: the image has no shell");
        assert_eq!(get.port, IntOrString::String("http".to_owned()), "{}", rendered.name);
        get.path.clone().unwrap()
    };
    // /health and /readyz are about services that are away: no reason to restart.
    assert_eq!(place(&container.liveness_probe), "/livez", "{}", rendered.name);
    assert_eq!(place(&container.readiness_probe), "/readyz", "{}", rendered.name);
    assert!(container.startup_probe.is_none(), "/livez answers from the first moment");
}

fn secrets_by_reference(rendered: &Rendered) {
    let container = rendered.container();
    for secret in secrets() {
        assert!(!rendered.config_data().contains_key(secret), "{}: {secret} is written down", rendered.name);
        for variable in container.env.iter().flatten().filter(|variable| variable.name == secret) {
            assert!(variable.value.is_none(), "{}: {secret} is written down", rendered.name);
            let source = variable.value_from.as_ref().unwrap();
            assert!(source.secret_key_ref.is_some(), "{}: {secret} is no reference to a Secret", rendered.name);
        }
    }
    let password = container.env.iter().flatten().find(|variable| variable.name == "CLICKHOUSE_PASSWORD");
    let source = password.and_then(|variable| variable.value_from.as_ref()).expect("a password");
    let key = source.secret_key_ref.as_ref().unwrap();
    // Not optional: without it the pod must not start with the default.
    assert_eq!(
        (key.name.as_str(), key.key.as_str(), key.optional),
        ("sandarb-data-secrets", "clickhouse-password", None)
    );
}

fn replicas(rendered: &Rendered) {
    match rendered.replicas() {
        Some(replicas) => assert!((1..=PARTITIONS).contains(&replicas), "{}: {replicas}", rendered.name),
        None => assert!(rendered.scaled_object.is_some(), "{}: nobody says how many", rendered.name),
    }
}

fn security(rendered: &Rendered) {
    let name = &rendered.name;
    let pod = rendered.pod();
    let of_pod = pod.security_context.as_ref().unwrap();
    assert_eq!(of_pod.run_as_non_root, Some(true), "{name}");
    assert_eq!((of_pod.run_as_user, of_pod.run_as_group), (Some(UID), Some(UID)), "{name}");
    assert_eq!(of_pod.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault", "{name}");
    let of_container = rendered.container().security_context.as_ref().unwrap();
    assert_eq!(of_container.allow_privilege_escalation, Some(false), "{name}");
    assert_eq!(of_container.read_only_root_filesystem, Some(true), "{name}");
    assert_ne!(of_container.privileged, Some(true), "{name}");
    let none = Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) };
    assert_eq!(of_container.capabilities.as_ref(), Some(&none), "{name}");
    // What the container could say differently.
    assert_eq!((of_container.run_as_user, of_container.run_as_non_root), (None, None), "{name}");
    assert!(pod.volumes.is_none() && pod.host_network.is_none() && pod.host_pid.is_none(), "{name}");
    assert_eq!(pod.automount_service_account_token, Some(false), "{name}");
    assert_eq!(rendered.service_account.automount_service_account_token, Some(false), "{name}");
    assert_eq!(pod.service_account_name.as_deref(), Some(NAME), "{name}");
    assert_eq!(pod.enable_service_links, Some(false), "{name}");
}

fn resources(rendered: &Rendered, config: &Config) {
    let name = &rendered.name;
    let resources = rendered.container().resources.as_ref().unwrap();
    let quantity = |of: &Option<BTreeMap<String, _>>, what: &str| {
        let quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> = of.as_ref().unwrap().get(what);
        quantity.map(|quantity| quantity.0.clone())
    };
    let of = (
        quantity(&resources.requests, "cpu"),
        quantity(&resources.requests, "memory"),
        quantity(&resources.limits, "cpu"),
        quantity(&resources.limits, "memory"),
    );
    let some = |text: &str| Some(text.to_owned());
    if name.starts_with("overlays/edge") {
        assert_eq!(of, (some("10m"), some("16Mi"), None, some("32Mi")), "{name}");
    } else {
        assert_eq!(of, (some("50m"), some("32Mi"), None, some("64Mi")), "{name}");
    }
    let limit: usize = of.3.unwrap().trim_end_matches("Mi").parse().unwrap();
    assert!(limit * 1024 * 1024 >= 3 * config.memory_budget, "{name}: {} bytes of budget", config.memory_budget);
    let grace = rendered.pod().termination_grace_period_seconds.unwrap();
    assert!(u128::try_from(grace).unwrap() * 1000 > config.shutdown_timeout.as_millis(), "{name}: {grace} s");
}

fn disruption(rendered: &Rendered) {
    let one = Some(IntOrString::Int(1));
    let budget = rendered.budget.spec.as_ref().unwrap();
    assert_eq!((&budget.max_unavailable, &budget.min_available), (&one, &None), "{}", rendered.name);
    match &rendered.workload {
        Workload::Deployment(deployment) => {
            let strategy = deployment.spec.as_ref().unwrap().strategy.as_ref().unwrap();
            assert_eq!(strategy.type_.as_deref(), Some("RollingUpdate"));
            assert_eq!(strategy.rolling_update.as_ref().unwrap().max_unavailable, one, "{}", rendered.name);
        }
        Workload::StatefulSet(set) => {
            let spec = set.spec.as_ref().unwrap();
            assert_eq!(spec.update_strategy.as_ref().unwrap().type_.as_deref(), Some("RollingUpdate"));
            assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"), "{}", rendered.name);
            assert_eq!(spec.service_name, rendered.service.metadata.name, "{}", rendered.name);
            let env = rendered.container().env.as_deref().unwrap();
            let member = env.iter().find(|variable| variable.name == "KAFKA_GROUP_INSTANCE_ID").unwrap();
            let field = member.value_from.as_ref().unwrap().field_ref.as_ref().unwrap();
            assert_eq!(field.field_path, "metadata.name");
        }
    }
    let is_static = matches!(rendered.workload, Workload::StatefulSet(_));
    assert_eq!(is_static, rendered.environment().contains_key("KAFKA_GROUP_INSTANCE_ID"), "{}", rendered.name);
    assert_eq!(is_static, rendered.name.contains("static-membership"), "{}", rendered.name);
}

fn network(rendered: &Rendered, config: &Config) {
    assert_eq!(rendered.network_policy.is_some(), rendered.name.contains("network-policy"), "{}", rendered.name);
    let Some(policy) = &rendered.network_policy else { return };
    let spec = policy.spec.as_ref().unwrap();
    assert_eq!(spec.policy_types.as_deref(), Some(&["Ingress".to_owned(), "Egress".to_owned()][..]));
    let list = |ports: Option<&Vec<k8s_openapi::api::networking::v1::NetworkPolicyPort>>| {
        let ports = ports.expect("a rule without ports lets everything through");
        let of =
            |port: &k8s_openapi::api::networking::v1::NetworkPolicyPort| match (&port.port, port.protocol.as_deref()) {
                (Some(IntOrString::Int(number)), Some(protocol)) => (protocol.to_owned(), *number),
                other => panic!("{other:?}"),
            };
        ports.iter().map(of).collect::<Vec<_>>()
    };
    let within: Vec<_> = spec.ingress.iter().flatten().flat_map(|rule| list(rule.ports.as_ref())).collect();
    assert_eq!(within, [("TCP".to_owned(), i32::from(config.health_port))]);
    let out: Vec<_> = spec.egress.iter().flatten().flat_map(|rule| list(rule.ports.as_ref())).collect();
    let brokers = config.kafka.bootstrap.iter().map(|broker| broker.port);
    let servers = config.clickhouse.addresses.iter().map(|address| address.host.port);
    for port in brokers.chain(servers).chain([53]) {
        assert!(out.contains(&("TCP".to_owned(), i32::from(port))), "{}: no way out to {port}", rendered.name);
    }
    assert!(out.contains(&("UDP".to_owned(), 53)), "{}", rendered.name);
}

fn autoscaling(rendered: &Rendered) {
    assert_eq!(rendered.scaled_object.is_some(), rendered.name.contains("autoscale"), "{}", rendered.name);
    let Some(object) = &rendered.scaled_object else { return };
    assert_eq!((object.api_version.as_str(), object.kind.as_str()), ("keda.sh/v1alpha1", "ScaledObject"));
    let target = &object.spec.scale_target_ref;
    assert_eq!(
        (target.api_version.as_str(), target.kind.as_str(), target.name.as_str()),
        ("apps/v1", rendered.kind(), NAME)
    );
    // Another count in the workload would set KEDA's back at each apply.
    assert_eq!(rendered.replicas(), None, "{}", rendered.name);
    // From 0 a group without members would have nobody to start; above the partitions members idle.
    assert!(object.spec.min_replica_count >= 1 && object.spec.max_replica_count <= PARTITIONS, "{}", rendered.name);
    assert!(object.spec.min_replica_count <= object.spec.max_replica_count && object.spec.polling_interval > 0);
    let behavior = &object.spec.advanced.horizontal_pod_autoscaler_config.behavior;
    assert!(behavior.scale_down.as_ref().unwrap().stabilization_window_seconds.unwrap() >= 300);
    let [trigger] = object.spec.triggers.as_slice() else { panic!("one trigger") };
    assert_eq!(trigger.kind, "kafka");
    let environment = rendered.environment();
    for (key, value) in &trigger.metadata {
        match key.as_str() {
            "bootstrapServersFromEnv" => assert_eq!(value, "KAFKA_BOOTSTRAP_SERVERS"),
            "consumerGroupFromEnv" => assert_eq!(value, "KAFKA_GROUP_ID"),
            "topicFromEnv" => assert_eq!(value, "KAFKA_TOPIC"),
            "offsetResetPolicy" => assert_eq!(Some(value), environment.get("KAFKA_AUTO_OFFSET_RESET")),
            "lagThreshold" => assert!(value.parse::<u64>().unwrap() > 0),
            _ => panic!("{key} is no parameter of KEDA's Kafka scaler that is used here"),
        }
        assert!(!key.ends_with("FromEnv") || environment.contains_key(value), "{value} is not in the environment");
    }
    assert_eq!(trigger.metadata.len(), 5);
}

/// What the deployment of the Python consumer was checked for, as far as it still makes sense.
#[test]
fn gke_is_three_replicas_five_brokers_and_larger_batches() {
    let gke = Rendered::new("overlays/gke", &[]);
    assert_eq!((gke.kind(), gke.replicas()), ("Deployment", Some(3)));
    let config = gke.config();
    let brokers: Vec<String> = config.kafka.bootstrap.iter().map(ToString::to_string).collect();
    assert_eq!(brokers, ["broker01:9090", "broker02:9090", "broker03:9090", "broker04:9090", "broker05:9090"]);
    assert!(config.batch_size.get() >= 5000);
    assert_eq!(config.kafka.group_id, "sandarb-clickhouse-consumer");
    assert_eq!(config.kafka.topic, "sandarb_events");
    assert_eq!(config.clickhouse.database, "sandarb");
    assert_eq!(gke.service.metadata.name.as_deref(), Some("sandarb-consumer"));
}

#[test]
fn base_is_three_replicas_and_edge_one() {
    assert_eq!(Rendered::new("base", &[]).replicas(), Some(3));
    assert_eq!(Rendered::new("overlays/edge", &[]).replicas(), Some(1));
}

#[test]
fn another_value_rolls_the_pods() {
    let [base, edge] = ["base", "overlays/edge"].map(|root| Rendered::new(root, &[]));
    assert_ne!(base.config_map.metadata.name, edge.config_map.metadata.name);
}

/// A member that stays away for as long as a pod takes to be replaced keeps its partitions.
#[test]
fn static_members_have_time_to_come_back() {
    let [plain, fixed] = [&[][..], &["static-membership"]].map(|components| Rendered::new("base", components).config());
    assert!(fixed.kafka.session_timeout > plain.kafka.session_timeout);
    assert!(fixed.kafka.group_instance_id.is_some() && plain.kafka.group_instance_id.is_none());
}

/// Also not in what no rendering of these tests takes in.
#[test]
fn no_file_has_a_probe_on_health() {
    let mut places = vec![tools::project("k8s")];
    let mut seen = 0;
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let text = std::fs::read_to_string(&place).unwrap();
            assert!(!text.contains("path: /health"), "{}", place.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} files");
}
