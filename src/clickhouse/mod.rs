//! The ClickHouse side: schema, Native blocks, inserts over HTTP. Knows nothing of Kafka.

mod asking;
pub mod block;
pub mod client;
pub mod compress;
pub mod error;
pub mod evidence;
pub mod inserter;
mod lz4;
pub mod presence;
pub mod prober;
pub mod schema;
mod settings;
pub mod targets;
mod tries;
pub mod types;
mod wire;
pub mod zones;
