//! JSON events into the columns of the open batch.

mod epoch;
pub mod foreign;
mod items;
mod paths;
mod reject;
mod rows;
mod scan;
mod time;
mod value;
mod visit;
mod written;

pub use reject::{Class, Reject};
pub use rows::{Origin, Place, Rows, UnknownKeys};
