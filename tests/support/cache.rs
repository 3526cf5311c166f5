//! Where dev/setup puts what it fetches; also for the test binaries that use nothing else of this directory.

use std::path::PathBuf;

/// As dev/setup finds it. A variable that is empty counts as unset.
pub(crate) fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SANDARB_CACHE").unwrap_or_else(|| {
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        base.expect("none of SANDARB_CACHE, XDG_CACHE_HOME, HOME is set").join("sandarb-consumer")
    })
}
