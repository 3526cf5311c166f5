//! KEDA's ScaledObject, as far as the manifests use it: <https://keda.sh/docs/latest/reference/scaledobject-spec/> and
//! <https://keda.sh/docs/latest/scalers/apache-kafka/>.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScaledObject {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) scale_target_ref: Target,
    pub(crate) min_replica_count: i32,
    pub(crate) max_replica_count: i32,
    pub(crate) polling_interval: i32,
    pub(crate) advanced: Advanced,
    pub(crate) triggers: Vec<Trigger>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Advanced {
    pub(crate) horizontal_pod_autoscaler_config: Autoscaler,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Autoscaler {
    pub(crate) behavior: HorizontalPodAutoscalerBehavior,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Trigger {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) metadata: BTreeMap<String, String>,
}
