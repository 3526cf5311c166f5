//! The binary. What it does begins in [`sandarb_consumer::program`].

use std::process::ExitCode;

// Named here, or the linker would silently take musl's own functions.
#[cfg(target_env = "musl")]
extern crate fast_mem as _;

fn main() -> ExitCode {
    sandarb_consumer::program::main()
}
