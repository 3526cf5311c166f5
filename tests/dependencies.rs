//! What is linked into the binary: how many crates, under which licences, from where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const PACKAGE: &str = env!("CARGO_PKG_NAME");
const TARGET: &str = "x86_64-unknown-linux-musl";
const MOST_CRATES: usize = 100;

/// Licences that ask for no more than a notice.
const LICENCES: [&str; 9] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    // The list of Mozilla's roots in webpki-roots: data.
    "CDLA-Permissive-2.0",
];

/// Linked in two versions. Each is here with its reason; another one fails.
const TWICE: [(&str, &str); 1] = [("thiserror", "rskafka 0.6 is on version 1")];

/// What must not come in by a feature of some dependency: another TLS library, C codecs, another allocator.
const NEVER: [&str; 9] = [
    "openssl-sys",
    "native-tls",
    "aws-lc-sys",
    "aws-lc-rs",
    "zstd-sys",
    "libz-sys",
    "rdkafka-sys",
    "libmimalloc-sys",
    "tikv-jemalloc-sys",
];

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// (name, version) of all crates that are linked into the program, itself not among them.
fn linked() -> BTreeSet<(String, String)> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package",
        PACKAGE,
        "--edges",
        "normal,no-proc-macro",
        "--target",
        TARGET,
        "--prefix",
        "none",
    ]);
    let crates = tree.lines().map(|line| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        (name.to_owned(), version.trim_start_matches('v').to_owned())
    });
    crates.filter(|(name, _)| name != PACKAGE).collect()
}

/// The packages by name and version, those for building and testing included.
fn packages() -> BTreeMap<(String, String), Value> {
    let text = cargo(&["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]);
    let Value::Array(packages) = serde_json::from_str::<Value>(&text).unwrap()["packages"].take() else {
        panic!("no packages")
    };
    let text = |package: &Value, key: &str| package[key].as_str().unwrap().to_owned();
    packages.into_iter().map(|package| ((text(&package, "name"), text(&package, "version")), package)).collect()
}

/// Whether one may choose only licences of the list. Takes SPDX without parentheses inside parentheses, and `/` for OR.
fn allowed(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ");
    if let Some((before, rest)) = flat.split_once('(') {
        let (inside, after) = rest.split_once(')').expect("a closing parenthesis");
        let verdict = if allowed(inside) { "Apache-2.0" } else { "not-allowed" };
        return allowed(&format!("{before}{verdict}{after}"));
    }
    // AND binds stronger.
    flat.split(" OR ").any(|choice| choice.split(" AND ").all(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn few_crates_are_linked() {
    let linked = linked();
    println!("{} crates are linked", linked.len());
    assert!((50..=MOST_CRATES).contains(&linked.len()), "{} crates are linked: {linked:#?}", linked.len());
    for name in NEVER {
        assert!(linked.iter().all(|(linked, _)| linked != name), "{name} is linked");
    }
}

#[test]
fn two_versions_of_a_crate_are_the_known_ones() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, version) in linked() {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let found: Vec<&str> = versions.keys().map(String::as_str).collect();
    let known = TWICE.map(|(name, _)| name);
    assert_eq!(found, known, "{versions:?}; a new one needs a reason, one that is gone its line taken away");
}

#[test]
fn licences_ask_for_no_more_than_a_notice() {
    let packages = packages();
    for one in linked() {
        let package = packages.get(&one).unwrap_or_else(|| panic!("{one:?} is linked and has no metadata"));
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{one:?} names no licence"));
        assert!(allowed(licence), "{one:?}: {licence}");
    }
}

#[test]
fn all_crates_come_from_the_public_registry() {
    for (one, package) in packages() {
        let source = &package["source"];
        let own =
            source.is_null() && package["manifest_path"].as_str().unwrap().starts_with(env!("CARGO_MANIFEST_DIR"));
        let public = source.as_str() == Some("registry+https://github.com/rust-lang/crates.io-index");
        assert!(own || public, "{one:?}: {source}");
    }
}

#[test]
fn expressions_of_licences() {
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND Unicode-3.0", "Apache-2.0 AND ISC"] {
        assert!(allowed(good), "{good}");
    }
    for bad in ["GPL-3.0-only", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND MPL-2.0", "", "(GPL-2.0) OR LGPL-3.0"] {
        assert!(!allowed(bad), "{bad}");
    }
}
