//! Commands beside the bridge itself.

pub mod check;
pub mod healthcheck;
pub mod schema;
