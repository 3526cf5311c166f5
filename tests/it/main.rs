//! Integration tests: the real program between a real Kafka and a real ClickHouse, which the tests start themselves
//! (dev/setup brings what they need). `cargo test --test it`; several at a time are fine: each has a topic, a group and a
//! database of its own. Most of them wait most of the time. Those named alone_ measure times that other tests would make
//! longer: `make integration` runs them by themselves. Those named long_ are longer in `make faults`.
//!
//! SANDARB_CONSUMER_BIN names the binary to test, by default the one that cargo has just built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    reason = "a test that meets the unexpected is to fail on the spot; and it waits for real processes in real time"
)]

mod alters;
mod batching;
mod check;
mod checks;
mod codecs;
mod commits;
mod compose;
mod confirmed;
mod dashboards;
mod dead_letters;
mod doubt;
mod doubt_handed_over;
mod faults;
mod first_row;
mod foreign;
mod grants;
mod group_brokers;
mod group_changes;
mod group_members;
mod group_mixed;
mod group_topics;
mod harness;
mod health;
mod health_port;
mod isolation;
mod ledger;
mod limits;
mod log_changes;
mod log_cuts;
mod log_starts;
mod memory;
mod metrics;
mod odd_values;
mod old_formats;
mod outage;
mod profiles;
mod read_faults;
mod records;
mod records_damage;
mod records_fetch;
mod refused_doubt;
mod refused_rows;
mod refused_speed;
mod remedies;
mod rights;
mod schema_command;
mod shutdown;
mod sites;
mod stall;
mod start;
mod tables;
mod transactions;
mod values;
