//! Sockets, for both sides.

pub mod dial;
