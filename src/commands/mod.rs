//! Commands beside the bridge itself.

pub mod healthcheck;
pub mod schema;
