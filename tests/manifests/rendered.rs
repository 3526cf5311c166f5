//! One rendering of the manifests, read strictly into the API's types.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, PodSpec, PodTemplateSpec, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_yaml_ng::Value;

use crate::environment;
use crate::keda::ScaledObject;
use crate::tools;

/// What the pods come from.
#[derive(Debug)]
pub(crate) enum Workload {
    Deployment(Box<Deployment>),
    StatefulSet(Box<StatefulSet>),
}

/// The objects of one rendering. Each kind is there at most once.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) name: String,
    pub(crate) workload: Workload,
    pub(crate) config_map: ConfigMap,
    pub(crate) service: Service,
    pub(crate) service_account: ServiceAccount,
    pub(crate) budget: PodDisruptionBudget,
    pub(crate) network_policy: Option<NetworkPolicy>,
    pub(crate) scaled_object: Option<ScaledObject>,
}

impl Rendered {
    /// Renders a directory under k8s/ with components.
    pub(crate) fn new(directory: &str, components: &[&str]) -> Self {
        let name = format!("{directory} {components:?}");
        let text = if components.is_empty() {
            tools::kustomize(&tools::project("k8s").join(directory))
        } else {
            let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kustomize").join(name.replace(['/', '"'], "-"));
            std::fs::create_dir_all(&place).unwrap();
            let k8s = relative(&place, &tools::project("k8s"));
            let mut lines = format!("resources:\n- {k8s}/{directory}\ncomponents:\n");
            for component in components {
                lines += &format!("- {k8s}/components/{component}\n");
            }
            std::fs::write(place.join("kustomization.yaml"), lines).unwrap();
            tools::kustomize(&place)
        };
        Self::read(name, &text)
    }

    /// Reads rendered text. Panics on a kind that is not expected, on one that is there twice, and on unknown fields.
    pub(crate) fn read(name: String, text: &str) -> Self {
        let mut documents = BTreeMap::new();
        for document in serde_yaml_ng::Deserializer::from_str(text) {
            let value = Value::deserialize(document).unwrap_or_else(|error| panic!("{name}: {error}"));
            let kind = value["kind"].as_str().expect("an object has a kind").to_owned();
            assert!(documents.insert(kind.clone(), value).is_none(), "{name}: two of {kind}");
        }
        let workload = match (take(&name, &mut documents, "Deployment"), take(&name, &mut documents, "StatefulSet")) {
            (Some(deployment), None) => Workload::Deployment(Box::new(deployment)),
            (None, Some(set)) => Workload::StatefulSet(Box::new(set)),
            _ => panic!("{name}: neither or both of Deployment and StatefulSet"),
        };
        let rendered = Self {
            workload,
            config_map: take(&name, &mut documents, "ConfigMap").expect("a ConfigMap"),
            service: take(&name, &mut documents, "Service").expect("a Service"),
            service_account: take(&name, &mut documents, "ServiceAccount").expect("a ServiceAccount"),
            budget: take(&name, &mut documents, "PodDisruptionBudget").expect("a PodDisruptionBudget"),
            network_policy: take(&name, &mut documents, "NetworkPolicy"),
            scaled_object: take(&name, &mut documents, "ScaledObject"),
            name,
        };
        // A Secret, above all.
        assert!(documents.is_empty(), "{}: not expected: {:?}", rendered.name, documents.keys());
        rendered
    }

    /// Name, namespace and labels of all objects.
    pub(crate) fn metadata(&self) -> Vec<(&'static str, &ObjectMeta)> {
        let workload = match &self.workload {
            Workload::Deployment(deployment) => ("Deployment", &deployment.metadata),
            Workload::StatefulSet(set) => ("StatefulSet", &set.metadata),
        };
        let mut all = vec![
            workload,
            ("ConfigMap", &self.config_map.metadata),
            ("Service", &self.service.metadata),
            ("ServiceAccount", &self.service_account.metadata),
            ("PodDisruptionBudget", &self.budget.metadata),
        ];
        all.extend(self.network_policy.iter().map(|policy| ("NetworkPolicy", &policy.metadata)));
        all.extend(self.scaled_object.iter().map(|object| ("ScaledObject", &object.metadata)));
        all
    }

    pub(crate) fn kind(&self) -> &'static str {
        match &self.workload {
            Workload::Deployment(_) => "Deployment",
            Workload::StatefulSet(_) => "StatefulSet",
        }
    }

    pub(crate) fn replicas(&self) -> Option<i32> {
        match &self.workload {
            Workload::Deployment(deployment) => deployment.spec.as_ref().unwrap().replicas,
            Workload::StatefulSet(set) => set.spec.as_ref().unwrap().replicas,
        }
    }

    pub(crate) fn selector(&self) -> &LabelSelector {
        match &self.workload {
            Workload::Deployment(deployment) => &deployment.spec.as_ref().unwrap().selector,
            Workload::StatefulSet(set) => &set.spec.as_ref().unwrap().selector,
        }
    }

    pub(crate) fn template(&self) -> &PodTemplateSpec {
        match &self.workload {
            Workload::Deployment(deployment) => &deployment.spec.as_ref().unwrap().template,
            Workload::StatefulSet(set) => &set.spec.as_ref().unwrap().template,
        }
    }

    pub(crate) fn pod(&self) -> &PodSpec {
        self.template().spec.as_ref().unwrap()
    }

    /// The one container.
    pub(crate) fn container(&self) -> &Container {
        let pod = self.pod();
        assert_eq!((pod.containers.len(), pod.init_containers.iter().flatten().count()), (1, 0), "{}", self.name);
        &pod.containers[0]
    }

    pub(crate) fn config_data(&self) -> &BTreeMap<String, String> {
        self.config_map.data.as_ref().expect("a ConfigMap has data")
    }

    /// What the program finds in its environment; what is not in the manifests as "elsewhere".
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let container = self.container();
        let mut found = BTreeMap::new();
        for source in container.env_from.iter().flatten() {
            let map = source.config_map_ref.as_ref().expect("only config maps are taken over whole");
            assert_eq!(Some(&map.name), self.config_map.metadata.name.as_ref(), "{}", self.name);
            found.extend(self.config_data().clone());
        }
        for variable in container.env.iter().flatten() {
            let value = match (&variable.value, &variable.value_from) {
                (Some(value), None) => value.clone(),
                (
                    None,
                    Some(EnvVarSource { secret_key_ref: Some(_), .. } | EnvVarSource { field_ref: Some(_), .. }),
                ) => "elsewhere".to_owned(),
                _ => panic!("{}: {}: neither a value nor a reference that is known", self.name, variable.name),
            };
            found.insert(variable.name.clone(), value);
        }
        found
    }

    pub(crate) fn config(&self) -> sandarb_consumer::config::Config {
        environment::load(&self.name, &self.environment())
    }
}

/// Takes an object out and reads it strictly.
fn take<T: DeserializeOwned>(name: &str, documents: &mut BTreeMap<String, Value>, kind: &str) -> Option<T> {
    let value = documents.remove(kind)?;
    Some(strict(value).unwrap_or_else(|error| panic!("{name}: {kind}: {error}")))
}

/// Deserialises; a field that the type does not know is an error. (The API's types skip those silently.)
pub(crate) fn strict<'de, T: Deserialize<'de>>(source: impl Deserializer<'de>) -> Result<T, String> {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(source, |path| unknown.push(path.to_string()));
    match read {
        Ok(value) if unknown.is_empty() => Ok(value),
        Ok(_) => Err(format!("unknown fields: {}", unknown.join(", "))),
        Err(error) => Err(error.to_string()),
    }
}

/// The way from one absolute directory to another: kustomize takes no absolute ones.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to) = (from.canonicalize().unwrap(), to.canonicalize().unwrap());
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| "..".to_owned());
    let down = to.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[test]
fn an_unknown_field_is_seen_at_any_depth() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1, targetport: 2}]}\n";
    let error = strict::<Service>(serde_yaml_ng::Deserializer::from_str(text)).unwrap_err();
    assert_eq!(error, "unknown fields: spec.?.ports.?.0.targetport");
    let value: Value = serde_yaml_ng::from_str(text).unwrap();
    assert!(strict::<Service>(value).unwrap_err().contains("targetport"));
    let of_another_kind = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n";
    strict::<Service>(serde_yaml_ng::Deserializer::from_str(of_another_kind)).unwrap_err();
}
