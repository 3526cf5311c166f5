//! Record batches as any peer may send them.
#![no_main]

#[path = "../records_entry.rs"]
mod records_entry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| records_entry::records(input));
