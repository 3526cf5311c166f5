//! The way to other hosts.

pub mod dial;
