//! The HTTP endpoints for probes and people: /health, /livez, /readyz, /status, /metrics.

mod health;
mod metrics;
mod server;

pub use health::{Health, HealthReport, StatusReport};
pub use server::{BindError, bind, serve};
