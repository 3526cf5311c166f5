//! The Kafka side: group membership, fetching, record batches. Knows nothing of ClickHouse.

pub mod protocol;
pub mod records;
