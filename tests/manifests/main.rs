//! What is deployed: Kubernetes manifests as kustomize renders them, Compose files as Compose reads them, and the text of
//! the Dockerfile. Every environment goes through the program's own configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod compose;
mod dockerfile;
mod environment;
mod keda;
mod kubernetes;
mod rendered;
mod tools;
mod workflows;
