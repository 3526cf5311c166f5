//! What a container's environment means to the program.

use std::collections::BTreeMap;
use std::ffi::OsString;

use sandarb_consumer::config::{Config, DefaultValue, Exposure, TABLE, look_alikes, variable_names};

/// The partitions of the topic that is deployed for.
pub(crate) const PARTITIONS: i32 = 12;
/// Who the program runs as.
pub(crate) const UID: i64 = 10_001;

/// Reads an environment as the program would. Panics on a name that the program does not know, on what it refuses, and
/// on what it warns about.
pub(crate) fn load(what: &str, environment: &BTreeMap<String, String>) -> Config {
    let known = variable_names();
    for name in environment.keys() {
        assert!(known.contains(name), "{what}: {name} is no variable of the program");
    }
    let source = |name: &str| environment.get(name).map(OsString::from);
    let loaded = Config::load(&source).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(loaded.warnings, [], "{what}");
    assert_eq!(look_alikes(environment.keys().map(String::as_str)), [], "{what}");
    loaded.config
}

/// The names whose values must not be written down, those of secret files not among them.
pub(crate) fn secrets() -> Vec<&'static str> {
    TABLE.iter().filter(|entry| entry.exposure == Exposure::Secret).map(|entry| entry.name).collect()
}

/// The default of a variable that has one.
pub(crate) fn default(name: &str) -> &'static str {
    let entry = TABLE.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no variable {name}"));
    let DefaultValue::Value(value) = entry.default else { panic!("{name} has no plain default") };
    value
}

#[test]
#[should_panic(expected = "KAFKA_BROKERS is no variable of the program")]
fn a_variable_that_the_program_does_not_know_is_seen() {
    load("test", &BTreeMap::from([("KAFKA_BROKERS".to_owned(), "kafka:9092".to_owned())]));
}
