//! The public workflow files.

use serde_yaml_ng::Value;

use crate::tools;

#[test]
fn workflows_run_the_gate_and_pin_what_they_use() {
    let directory = tools::project(".github/workflows");
    let mut runs_gate = false;
    let mut attests = false;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Without it a token may write to the repository.
        assert_eq!(file["permissions"]["contents"].as_str(), Some("read"), "{}", path.display());
        for (name, job) in file["jobs"].as_mapping().unwrap() {
            assert!(job["timeout-minutes"].as_u64().is_some(), "{name:?} has no time limit");
            for step in job["steps"].as_sequence().unwrap() {
                if let Some(action) = step["uses"].as_str() {
                    let (_, version) = action.split_once('@').unwrap_or_else(|| panic!("{action} has no version"));
                    let digits = version.strip_prefix('v').unwrap_or_else(|| panic!("{action}"));
                    assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()), "{action}");
                    attests |= action.starts_with("actions/attest-");
                }
                runs_gate |= step["run"].as_str() == Some(".ci/run");
            }
        }
    }
    assert!(runs_gate && attests);
    assert!(tools::project(".ci/run").exists());
}
