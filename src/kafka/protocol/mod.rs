//! Messages of the Kafka protocol that rskafka lacks, or has in a form that does not serve here; one file an API.

pub mod produce;
