//! The table of variables for people.

use super::variables::{DefaultValue, Entry, TABLE};

/// The variables as `--help` shows them: name and default, then the meaning and the values it takes.
pub fn help_table() -> String {
    let mut text = String::new();
    for entry in TABLE {
        text.push_str(&format!("  {} [{}]\n", names(entry, ""), default_text(entry, "")));
        text.push_str(&format!("      {}.\n      Allowed: {}.\n", entry.help, entry.allowed));
    }
    text
}

/// The variables as a Markdown table, as the README shows them.
pub fn readme_table() -> String {
    let mut text = "| Variable | Default | Description |\n|---|---|---|\n".to_owned();
    for entry in TABLE {
        let (names, default) = (names(entry, "`"), default_text(entry, "`"));
        text.push_str(&format!("| {names} | {default} | {}. Allowed: {}. |\n", entry.help, entry.allowed));
    }
    text
}

fn names(entry: &Entry, quote: &str) -> String {
    let name = entry.name;
    if entry.may_be_file() {
        format!("{quote}{name}{quote} or {quote}{name}_FILE{quote}")
    } else {
        format!("{quote}{name}{quote}")
    }
}

fn default_text(entry: &Entry, quote: &str) -> String {
    match entry.default {
        DefaultValue::Value(text) => format!("{quote}{text}{quote}"),
        DefaultValue::Derived(words) => words.to_owned(),
        DefaultValue::Unset => "unset".to_owned(),
    }
}
