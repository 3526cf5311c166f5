//! The ClickHouse side: schema, Native blocks, inserts over HTTP. Knows nothing of Kafka.
