//! Directories for what servers and programs write during a test.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new directory for data and logs under target/tmp. Those of this test binary's processes that have ended are removed
/// first.
pub(crate) fn scratch(name: &str) -> PathBuf {
    const PREFIX: &str = concat!(env!("CARGO_CRATE_NAME"), "-");
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = ROOT.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(tmp).unwrap();
        for entry in std::fs::read_dir(tmp).unwrap().flatten() {
            let file = entry.file_name();
            let pid = file.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                eprintln!("{} stays: {error}", entry.path().display());
            }
        }
        tmp.join(format!("{PREFIX}{}", std::process::id()))
    });
    let dir = root.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
