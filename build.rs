//! Tells the linker of the static binary to keep it small.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// For rustc's own linker only (`.cargo/config.toml` names it): others spell these otherwise or lack them.
const SMALLER: [&str; 3] = [
    // Identical functions become one. Nothing here compares the addresses of functions.
    "--icf=all",
    // At a random address the binary relocates itself; musl reads the packed form, about a bit instead of 24 bytes each.
    "--pack-dyn-relocs=relr",
    "--no-eh-frame-hdr",
];

/// What only unwinding needs. A panic ends the process, so std's tables, too, would never be read.
const NO_UNWINDING: &str = "\
SECTIONS {
  /DISCARD/ : { *(.eh_frame .gcc_except_table .gcc_except_table.*) }
} INSERT AFTER .text;
";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let linker = env::var_os("RUSTC_LINKER").map(PathBuf::from);
    let is_musl = env::var_os("CARGO_CFG_TARGET_ENV").is_some_and(|env| env == "musl");
    if is_musl && linker.as_deref().and_then(Path::file_stem).is_some_and(|name| name == "rust-lld") {
        let script = Path::new(&env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?).join("no-unwinding.ld");
        fs::write(&script, NO_UNWINDING)?;
        for option in SMALLER {
            println!("cargo::rustc-link-arg-bins={option}");
        }
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
    Ok(())
}
