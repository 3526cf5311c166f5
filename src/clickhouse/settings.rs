//! The settings that every insert carries: what makes an insert whole or an error, whatever the user's profile says.
//!
//! Which of a server's settings can turn a cut insert into a success was tried out with each setting of 26.9 that has to
//! do with limits, inserts or views. A setting is sent only to a server that knows it, as an unknown one is refused (115).

use super::error::Failure;

/// Names the batch to the server, so that its repetition is recognised.
pub(super) const TOKEN: &str = "insert_deduplication_token";

/// What is done once a limit is passed: `break` and `any` store less than was sent and say that all is well. These exist
/// in every version; a later server's own are found by their names.
const OVERFLOW: &str = "overflow_mode";
const THROW: &str = "throw";

/// Said explicitly, because the defaults differ by version and a profile may say otherwise.
const SAFE: [(&str, &str); 21] = [
    // No queue of the server's between us and the table; where the table has one of its own, its outcome is waited for.
    ("async_insert", "0"),
    ("wait_for_async_insert", "1"),
    ("async_insert_deduplicate", "1"),
    // A repetition is recognised, also by the targets of views.
    ("insert_deduplicate", "1"),
    ("deduplicate_insert", "enable"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // A view that fails, or has lost its target, fails the insert; and it sees all rows.
    ("materialized_views_ignore_errors", "0"),
    ("ignore_materialized_views_with_dropped_target_table", "0"),
    ("additional_table_filters", "{}"),
    // A block stays whole, so that it is one part in each partition of the table.
    ("use_strict_insert_block_limits", "0"),
    // A NULL asks for the DEFAULT, and so does a column that the block lacks; a column that is gone is an error.
    ("input_format_null_as_default", "1"),
    ("input_format_defaults_for_omitted_fields", "1"),
    ("input_format_skip_unknown_fields", "0"),
    ("input_format_native_allow_types_conversion", "1"),
    ("input_format_native_decode_types_in_binary_format", "0"),
    // A Distributed table answers after its shards did.
    ("distributed_foreground_insert", "1"),
    // The older name of the one above.
    ("insert_distributed_sync", "1"),
    // Once headers of progress are sent, a refusal comes in a 200.
    ("send_progress_in_http_headers", "0"),
    // Several blocks of one insert become one, and that one part: the defaults, which a profile may have made smaller.
    (MIN_BLOCK_ROWS, "1048449"),
    (MIN_BLOCK_BYTES, "268402944"),
    // One block goes through one thread: more of them are only started (2 to 6 % of an insert, benches/README.md).
    (MAX_INSERT_THREADS, "1"),
];

const MIN_BLOCK_ROWS: &str = "min_insert_block_size_rows";
const MIN_BLOCK_BYTES: &str = "min_insert_block_size_bytes";
/// What every version has: an answer without them is none.
pub(super) const OLD: [&str; 3] = ["insert_deduplicate", "timeout_overflow_mode", "max_insert_threads"];

const MAX_INSERT_THREADS: &str = "max_insert_threads";
/// An insert that nobody waits for any more is to end on the server, too.
pub(super) const MAX_EXECUTION_TIME: &str = "max_execution_time";

/// Settings without which an insert does the same, only slower, longer, or in more parts.
const TUNING: [&str; 4] = [MAX_INSERT_THREADS, MAX_EXECUTION_TIME, MIN_BLOCK_ROWS, MIN_BLOCK_BYTES];

/// Asks which of the settings this server knows; its one row goes to [`for_inserts`].
pub(super) fn question() -> String {
    let names: Vec<String> = SAFE.iter().map(|(name, _)| format!("'{name}'")).collect();
    format!(
        "SELECT version(), count(), groupArray(name) FROM system.settings \
         WHERE name IN ('{TOKEN}', {}) OR name LIKE '%{OVERFLOW}%' FORMAT JSONCompactEachRow",
        names.join(", ")
    )
}

/// The settings of an insert into a server that knows these.
pub(super) fn for_inserts(known: &[String]) -> Vec<(String, String)> {
    let knows = |name: &str| known.iter().any(|one| one == name);
    let newer = knows("distributed_foreground_insert");
    let safe = SAFE.iter().filter(|(name, _)| knows(name) && !(newer && *name == "insert_distributed_sync"));
    let mut settings: Vec<_> = safe.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut overflow: Vec<_> = known.iter().filter(|name| name.contains(OVERFLOW)).collect();
    overflow.sort();
    settings.extend(overflow.into_iter().map(|name| (name.clone(), THROW.to_owned())));
    settings
}

/// The tuning setting that the user's profile does not let us change, where the refusal is for one.
pub(super) fn constrained(failure: &Failure) -> Option<&'static str> {
    /// SETTING_CONSTRAINT_VIOLATION, READONLY, UNKNOWN_SETTING.
    const CODES: [u32; 3] = [452, 164, 115];
    let text = failure.code().filter(|code| CODES.contains(code)).map(|_| failure.to_string())?;
    TUNING
        .into_iter()
        .find(|name| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == *name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::client::Answer;

    #[test]
    fn only_known_settings_are_sent_and_every_overflow_throws() {
        let known = ["async_insert", "insert_distributed_sync", "z_overflow_mode", "timeout_overflow_mode_leaf", "x"];
        let known = known.map(str::to_owned);
        let sent = for_inserts(&known);
        let sent: Vec<_> = sent.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            sent,
            [
                ("async_insert", "0"),
                ("insert_distributed_sync", "1"),
                ("timeout_overflow_mode_leaf", "throw"),
                ("z_overflow_mode", "throw"),
            ]
        );
        let known = ["distributed_foreground_insert", "insert_distributed_sync"].map(str::to_owned);
        assert_eq!(for_inserts(&known), [("distributed_foreground_insert".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn only_what_is_tuning_may_be_left_out() {
        let refused = |code: u32, text: &str| {
            let text = format!("Code: {code}. DB::Exception: {text}");
            let answer = Answer { status: 500, code: Some(code), text, ..Answer::default() };
            constrained(&Failure::of_insert(&answer, 1).unwrap())
        };
        let greater = "Setting max_execution_time shouldn't be greater than 7.";
        assert_eq!(refused(452, greater), Some("max_execution_time"));
        assert_eq!(refused(452, "Setting max_insert_threads should not be changed."), Some("max_insert_threads"));
        assert_eq!(refused(452, "Setting async_insert should not be changed."), None);
        assert_eq!(refused(452, "Setting max_insert_threads_x should not be changed."), None);
        assert_eq!(refused(241, greater), None);
    }
}
