//! `sandarb-consumer`: reads JSON events from a Kafka topic in a consumer group and inserts them into ClickHouse.
//!
//! Data flows one way: `program → run → {pipeline, admin, commands} → {batch, decode} → {columns, kafka, clickhouse} →
//! {net, part, offsets, fence, backoff} → config values`. `kafka` never names ClickHouse, `clickhouse` never names Kafka.
//! The life of a batch, the file map and the traps are in ARCHITECTURE.md.

pub mod admin;
pub mod backoff;
pub mod batch;
pub mod cli;
pub mod clickhouse;
pub mod columns;
pub mod commands;
pub mod config;
pub mod dead_letter;
pub mod decode;
pub mod fence;
pub mod kafka;
pub mod ledger;
mod movement;
pub mod net;
pub mod offsets;
pub mod part;
pub mod pipeline;
pub mod program;
pub mod progress;
pub mod reason_log;
pub mod reasons;
pub mod run;
pub mod shutdown;
pub mod stall;
pub mod telemetry;
