//! The Kafka side: group membership, fetching, record batches. Knows nothing of ClickHouse.
