//! The documents and the code say the same.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use sandarb_consumer::config::readme_table;
use sandarb_consumer::reasons::Class;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_readme_has_the_table_of_variables() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("<!-- variables: begin -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- variables: end -->").unwrap();
    assert_eq!(table, readme_table(), "put the output of config::readme_table() between the marks in README.md");
}

/// Who changes the image first and the probe later has pods restarted at each outage.
#[test]
fn the_upgrade_page_begins_with_the_probe() {
    let page = fs::read_to_string(root().join("docs/upgrade.md")).unwrap();
    let first = page.lines().next().unwrap();
    for word in ["liveness", "`/livez`", "`HEALTH_HTTP_STATUS=always200`"] {
        assert!(first.contains(word), "{word}: {first}");
    }
}

/// The page that says what to do has a section for every kind of reason, in the order of /readyz.
#[test]
fn the_operations_page_has_every_class_of_reasons() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    assert_eq!(sections, Class::ALL.map(Class::name));
}

/// What a room may use of the others; a room may always use what lies below it in this list.
const ROOMS: [(&str, &[&str]); 6] = [
    ("kafka", &["clickhouse", "columns", "decode", "batch", "pipeline", "run", "admin", "commands", "dead_letter"]),
    ("clickhouse", &["kafka", "decode", "batch", "pipeline", "run", "admin", "commands", "dead_letter"]),
    ("columns", &["kafka", "decode", "batch", "pipeline", "run", "admin", "commands", "net", "dead_letter"]),
    ("decode", &["kafka", "batch", "pipeline", "run", "admin", "commands", "net", "dead_letter"]),
    ("net", &["kafka", "clickhouse", "columns", "decode", "batch", "pipeline", "run", "admin", "commands"]),
    ("admin", &["kafka", "clickhouse", "columns", "decode", "batch", "pipeline", "run", "commands"]),
];

#[test]
fn data_flows_one_way() {
    let mut faults = Vec::new();
    for (room, forbidden) in ROOMS {
        for file in files(&root().join("src").join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for other in forbidden {
                if text.contains(&format!("crate::{other}")) {
                    faults.push(format!("{} uses {other}", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}
