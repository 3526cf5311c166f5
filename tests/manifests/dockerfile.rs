//! The text of Dockerfile.scratch.

use crate::environment::{UID, default};
use crate::tools;

/// The instructions of a Dockerfile, each on one line, in stages.
fn stages(text: &str) -> Vec<Vec<(String, String)>> {
    let mut stages: Vec<Vec<(String, String)>> = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    for line in lines.join("\n").replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
        let (word, rest) = line.trim().split_once(char::is_whitespace).expect("an instruction has arguments");
        if word == "FROM" {
            stages.push(Vec::new());
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        stages.last_mut().expect("FROM comes first").push((word.to_owned(), rest));
    }
    stages
}

fn all<'a>(stage: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    stage.iter().filter(|(name, _)| name == word).map(|(_, rest)| rest.as_str()).collect()
}

#[test]
fn what_ships_is_one_binary_on_nothing_without_a_shell() {
    let stages = stages(&tools::read("Dockerfile.scratch"));
    let last = stages.last().unwrap();
    assert_eq!(all(last, "FROM"), ["scratch"]);
    for word in ["RUN", "SHELL", "ADD", "VOLUME", "ENV", "CMD", "ONBUILD"] {
        assert!(all(last, word).is_empty(), "{word}");
    }
    assert_eq!(all(last, "ENTRYPOINT"), [r#"["/sandarb-consumer"]"#]);
    let [check] = all(last, "HEALTHCHECK")[..] else { panic!("one HEALTHCHECK") };
    assert!(check.ends_with(r#"CMD ["/sandarb-consumer", "healthcheck"]"#), "{check}");
    assert_eq!(all(last, "USER"), [format!("{UID}:{UID}")]);
    assert_eq!(all(last, "EXPOSE"), [default("HEALTH_PORT")]);
    let copied = all(last, "COPY");
    assert_eq!(
        copied,
        ["dev/image/passwd dev/image/group /etc/", "--from=build /out/sandarb-consumer /sandarb-consumer"]
    );
    assert_eq!(all(last, "ARG"), [concat!("VERSION=", env!("CARGO_PKG_VERSION")), "REVISION=unknown"]);
    let labels = all(last, "LABEL").join(" ");
    for label in ["title", "description", "licenses", "version", "revision"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=\"")), "{label}");
    }
    // The generator is built on nothing as well; only what compiles has a system under it.
    let under: Vec<&str> =
        stages.iter().flat_map(|stage| all(stage, "FROM")).filter(|from| !from.starts_with("scratch")).collect();
    assert_eq!(under, ["--platform=$BUILDPLATFORM rust:1.95-bookworm AS build"]);
}

#[test]
fn the_user_has_a_name_and_no_shell() {
    assert_eq!(tools::read("dev/image/passwd"), format!("consumer:x:{UID}:{UID}:consumer:/:/sbin/nologin\n"));
    assert_eq!(tools::read("dev/image/group"), format!("consumer:x:{UID}:\n"));
}

#[test]
fn the_compiler_is_the_oldest_that_is_promised() {
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    assert!(tools::read("Dockerfile.scratch").contains(&format!("rust:{oldest}-")));
}

/// A file that the build reads and that .dockerignore keeps back fails only where there is an engine.
#[test]
fn the_context_holds_what_the_build_reads() {
    let let_in: Vec<String> =
        tools::read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    let mut read =
        ["Cargo.toml", "Cargo.lock", "build.rs", ".cargo/config.toml", "dev/image/build"].map(str::to_owned).to_vec();
    for instruction in stages(&tools::read("Dockerfile.scratch")).concat() {
        if instruction.0 == "COPY" && !instruction.1.starts_with("--from") && !instruction.1.starts_with('.') {
            let mut words: Vec<String> = instruction.1.split(' ').map(str::to_owned).collect();
            words.pop();
            read.extend(words);
        }
    }
    let members = tools::read("Cargo.toml");
    let members = members.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
    read.extend(members.split(',').map(|member| member.trim().trim_matches('"').to_owned()).filter(|path| path != "."));
    for path in read {
        assert!(tools::project(&path).exists(), "{path}");
        assert!(
            let_in.iter().any(|kept| path == *kept || path.starts_with(&format!("{kept}/"))),
            "{path} is kept back"
        );
    }
}
