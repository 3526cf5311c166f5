//! The tools that read the manifests. One that is missing is a failure that says what to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

#[path = "../support/cache.rs"]
mod cache;

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the project.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What kustomize 5 makes of a directory, from kubectl, the PATH or the cache of dev/setup.
pub(crate) fn kustomize(directory: &Path) -> String {
    static TOOL: OnceLock<Vec<String>> = OnceLock::new();
    let words = TOOL.get_or_init(|| {
        let cached = cache::cache().join("bin/kustomize").to_string_lossy().into_owned();
        let candidates: [(&[&str], &[&str]); 3] = [
            (&["kubectl", "kustomize"], &["kubectl", "version", "--client"]),
            (&["kustomize", "build"], &["kustomize", "version"]),
            (&[&cached, "build"], &[&cached, "version"]),
        ];
        for (words, version) in candidates {
            let Some(said) = answer(version) else { continue };
            // `Kustomize Version: v5.5.0` or `v5.5.0`.
            let is_5 =
                said.lines().filter_map(|line| line.split_whitespace().next_back()).any(|v| v.starts_with("v5."));
            let says_which = words[0] != "kubectl" || said.contains("Kustomize Version: v5.");
            if is_5 && says_which {
                return words.iter().map(|word| (*word).to_owned()).collect();
            }
        }
        panic!("neither kubectl with kustomize 5 nor kustomize 5 is here: run dev/setup");
    });
    run(Command::new(&words[0]).args(&words[1..]).arg(directory))
}

/// What Compose makes of a file, its profiles included, in an environment that sets nothing.
pub(crate) fn compose(file: &str) -> String {
    static TOOL: OnceLock<Vec<&str>> = OnceLock::new();
    let words = TOOL.get_or_init(|| {
        let candidates: [&[&str]; 2] = [&["docker-compose"], &["docker", "compose"]];
        let found = candidates.into_iter().find(|words| answer(&[words, &["version"][..]].concat()).is_some());
        found.expect("there is neither docker-compose nor docker compose: run dev/setup").to_vec()
    });
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["--profile", "sample", "--file"]).arg(project(file)).arg("config");
    let kept = std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME");
    run(command.env_clear().envs(kept))
}

/// What a command says on stdout; `None` when it cannot be run or fails.
fn answer(words: &[&str]) -> Option<String> {
    let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
