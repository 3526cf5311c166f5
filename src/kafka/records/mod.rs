//! Record batches, format v2.

pub mod write;
