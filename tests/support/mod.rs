//! What the tests against real services share.
// Each test binary uses its part of it.
#![allow(dead_code)]

pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod clickhouse;
pub(crate) mod port;
pub(crate) mod scratch;
