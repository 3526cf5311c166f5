//! `sandarb-consumer`: reads JSON events from a Kafka topic in a consumer group and inserts them into ClickHouse.
//!
//! Data flows one way: `main → run → {pipeline, admin, commands} → {batch, decode} → {columns, kafka, clickhouse} →
//! {net, offsets, fence, backoff} → config values`. `kafka` never names ClickHouse, `clickhouse` never names Kafka.
//! The life of a batch, the file map and the traps are in ARCHITECTURE.md.

pub mod backoff;
pub mod clickhouse;
pub mod columns;
pub mod config;
pub mod decode;
pub mod fence;
pub mod kafka;
pub mod net;
pub mod progress;
