//! What a refusal of this table proves about the rows of the insert.
//!
//! One insert becomes one part in each table partition. Constraints, DEFAULT and MATERIALIZED expressions, types and the
//! partition key are computed over the whole block, before a part is written. The sorting key, skip indexes, TTL,
//! projections, and what an engine merges as it inserts, are computed part by part, and a part is committed once the one
//! after the next is begun: with one or two table partitions nothing is stored when one of them throws, with three and
//! more the first parts are (26.9: 1, 2 and 4 of 3, 4 and 6 rows with the last one bad, one row a partition).

use super::error::Failure;
use super::schema::SchemaColumn;
use super::types::DataType;

/// What writing parts can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// One part an insert, or nothing in writing parts that a row could make fail: a refusal stores nothing.
    AllOrNothing,
    /// A refusal may leave some of the parts stored.
    OneByOne,
    /// An engine of which nothing is known.
    Unknown,
}

impl Parts {
    /// Of a table, by what system.tables says of it: its engine, with `engine_full`, partition key and definition.
    pub fn of(
        engine: &str,
        engine_full: &str,
        partition_key: &str,
        definition: &str,
        columns: &[SchemaColumn],
    ) -> Self {
        if !engine.ends_with("MergeTree") {
            return Self::Unknown;
        }
        let known = ["MergeTree", "ReplicatedMergeTree", "SharedMergeTree"].contains(&engine);
        // An index or a projection stands among the columns, as does a column's own TTL.
        let among_columns = [" INDEX ", " PROJECTION ", " TTL "]
            .iter()
            .any(|word| definition.split_once("ENGINE = ").map_or(definition, |(columns, _)| columns).contains(word));
        if partition_key.is_empty() || (known && !among_columns && cannot_throw(engine_full, columns)) {
            Self::AllOrNothing
        } else {
            Self::OneByOne
        }
    }

    /// Whether a refusal of an insert of this many rows is known to have stored none of them. The failure is one of
    /// [`super::error::Outcome::BadRows`] or [`super::error::Outcome::SchemaChanged`].
    pub fn prove_nothing_stored(self, failure: &Failure, rows: u64) -> bool {
        // LOGICAL_ERROR, STD_EXCEPTION, UNKNOWN_EXCEPTION: thrown by anything at any time.
        if matches!(failure.code(), None | Some(49 | 1001 | 1002)) || failure.is_of_a_shard() || failure.is_in_a_200() {
            return false;
        }
        match self {
            Self::AllOrNothing => true,
            // No more parts than rows.
            Self::OneByOne => rows <= 2,
            Self::Unknown => false,
        }
    }
}

/// Functions that take every value of the types below.
const TOTAL: [&str; 22] = [
    "MergeTree",
    "ReplicatedMergeTree",
    "SharedMergeTree",
    "tuple",
    "toDate",
    "toDateTime",
    "toYYYYMM",
    "toYYYYMMDD",
    "toYear",
    "toMonth",
    "toMonday",
    "toStartOfDay",
    "toStartOfHour",
    "toStartOfWeek",
    "toStartOfMonth",
    "toStartOfYear",
    "toIntervalDay",
    "toIntervalWeek",
    "toIntervalMonth",
    "toIntervalYear",
    "toIntervalHour",
    "toIntervalSecond",
];
/// Words beside names of columns.
const WORDS: [&str; 15] = [
    "PARTITION",
    "BY",
    "PRIMARY",
    "KEY",
    "ORDER",
    "TTL",
    "INTERVAL",
    "DAY",
    "MONTH",
    "YEAR",
    "WEEK",
    "HOUR",
    "DELETE",
    "DESC",
    "ASC",
];

/// Whether the keys and the TTL of a table are of columns as they are, or of functions of times that throw for no value.
fn cannot_throw(engine_full: &str, columns: &[SchemaColumn]) -> bool {
    let keys = engine_full.split_once(" SETTINGS ").map_or(engine_full, |(keys, _)| keys);
    let mut depth = 0_u32;
    let mut in_call = Vec::new();
    let mut rest = keys;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            match first {
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    in_call.retain(|at| *at <= depth);
                }
                ' ' | ',' | '+' => {}
                // The place of a replicated table is a text.
                '\'' => rest = rest.get(1..).and_then(|rest| rest.split_once('\'')).map_or("", |(_, rest)| rest),
                _ => return false,
            }
            rest = if first == '\'' { rest } else { rest.get(first.len_utf8()..).unwrap_or("") };
            continue;
        }
        let (word, behind) = rest.split_at(end);
        if behind.starts_with('(') {
            if !TOTAL.contains(&word) {
                return false;
            }
            if !word.ends_with("MergeTree") && word != "tuple" {
                in_call.push(depth + 1);
            }
        } else if let Some(column) = columns.iter().find(|column| column.name == word) {
            if !in_call.is_empty() && !is_time(&column.data_type) {
                return false;
            }
        } else if !WORDS.contains(&word) && !TOTAL.contains(&word) && !word.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        rest = behind;
    }
    true
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date | DataType::Date32 | DataType::DateTime | DataType::DateTime64(_))
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
