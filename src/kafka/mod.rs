//! The Kafka side: group membership, fetching, record batches. Knows nothing of ClickHouse.

pub mod assignor;
mod checked;
pub mod cluster;
pub mod connection;
pub mod consumer;
mod direct;
pub mod epochs;
pub mod error;
pub mod faults;
pub mod fetcher;
pub mod fetching;
pub mod group;
pub mod lag;
mod leader;
mod lent;
pub mod producer;
pub mod protocol;
pub mod records;
pub mod round_trip;
pub mod sample;
pub mod start;
