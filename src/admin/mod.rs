//! The HTTP endpoints for probes and people: /health, /livez, /readyz, /status, /metrics.

mod connection;
mod descriptors;
mod health;
mod metrics;
mod places;
mod server;

pub use health::{Health, HealthReport, StatusReport};
pub use server::{BindError, bind, serve};
