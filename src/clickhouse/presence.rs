//! Asks the table which rows of an insert it holds, when the answers to the insert do not tell: by their event_id.

use std::collections::BTreeMap;

use thiserror::Error;

use super::asking::{Number, counted, row, row_of};
use super::block::{quoted, readable};
use super::client::Client;
use super::error::Failure;
use super::evidence::Parts;
use super::schema::{DescribeError, Schema, escaped};
use super::types::DataType;

/// The column that identifies an event.
pub const EVENT_ID: &str = "event_id";
/// Ids asked for at once: their text stays below the server's limit for a query (max_query_size, 256 KiB).
const AT_ONCE: usize = 4000;
/// The same in bytes.
const BYTES_AT_ONCE: usize = 200 * 1024;
const PRESENCE: &str = "which rows of an insert the table holds";

/// Why it is not known which rows the table holds.
#[derive(Debug, Error)]
pub enum NotKnown {
    /// The table has nothing to tell its rows apart by.
    #[error(
        "{table} has no column event_id (a UUID, or a String that every event fills) that tells its rows apart; look at what \
         it holds and mend the table, or move the group's offsets past the batch"
    )]
    NoIdentity {
        /// The table.
        table: String,
    },
    /// The user may not read it.
    #[error("{failure}; GRANT SELECT({EVENT_ID}) ON {table} TO the user")]
    Denied {
        /// The table.
        table: String,
        /// What the server said.
        failure: Box<Failure>,
    },
    /// The server did not answer the question.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// An answer that cannot be read.
    #[error("cannot read the server's answer: {0}")]
    Garbled(String),
}

/// How many rows with each of these ids the table holds.
pub(super) async fn present(
    client: &mut Client,
    schema: &Schema,
    ids: &[String],
) -> Result<BTreeMap<String, u64>, NotKnown> {
    let table = format!("{}.{}", readable(&schema.database), readable(&schema.table));
    if !can_be_asked(schema) || ids.iter().any(String::is_empty) {
        return Err(NotKnown::NoIdentity { table });
    }
    let mut found = BTreeMap::new();
    let mut left = ids;
    while !left.is_empty() {
        let mut list = String::new();
        let mut taken = 0;
        for id in left.iter().take(AT_ONCE) {
            if taken > 0 {
                list.push(',');
            }
            list.push_str(&literal(id));
            taken += 1;
            if list.len() >= BYTES_AT_ONCE {
                break;
            }
        }
        left = left.get(taken..).unwrap_or(&[]);
        // One row with its own count: an answer that lacks some would have rows sent once more.
        let sql = format!(
            "SELECT count(), groupArray((id, n)) FROM (SELECT toString({EVENT_ID}) AS id, count() AS n FROM {}.{} \
             WHERE {EVENT_ID} IN ({list}) GROUP BY {EVENT_ID}) FORMAT JSONCompactEachRow",
            quoted(&schema.database),
            quoted(&schema.table)
        );
        let answer: Result<(Number, Vec<(String, Number)>), DescribeError> = row_of(client, &sql, PRESENCE, &[]).await;
        let answer = answer.and_then(|(count, list)| counted(PRESENCE, count, list));
        match answer {
            Ok(list) => found.extend(list.into_iter().map(|(id, count)| (id, count.0))),
            Err(DescribeError::Failed(failure)) if failure.is_denied() => {
                return Err(NotKnown::Denied { table, failure: Box::new(failure) });
            }
            Err(DescribeError::Failed(failure)) => return Err(failure.into()),
            Err(other) => return Err(NotKnown::Garbled(other.to_string())),
        }
    }
    Ok(found)
}

/// Whether a row that was stored is found by its event_id: engines that add rows up keep those of their sorting key only.
fn can_be_asked(schema: &Schema) -> bool {
    let fits = |data_type: &DataType| matches!(data_type, DataType::Uuid | DataType::String);
    let has = schema.columns.iter().any(|column| column.name == EVENT_ID && fits(&column.data_type));
    let sums = ["Summing", "Aggregating", "Collapsing", "Graphite", "Coalescing"];
    let merges = sums.iter().any(|word| schema.engine.contains(word));
    let in_key = schema.sorting_key.split(',').any(|key| key.trim() == EVENT_ID);
    has && (!merges || in_key)
}

/// What a refusal by the table may leave stored, as the table is now: an index may have been added a moment ago.
pub(super) async fn parts(client: &mut Client, schema: &Schema) -> Parts {
    let (database, table) = (escaped(&schema.database), escaped(&schema.table));
    let asked: Result<(String, String, String, String), DescribeError> = row(
        client,
        "SELECT engine, engine_full, partition_key, create_table_query FROM system.tables \
         WHERE database = {d:String} AND name = {t:String} FORMAT JSONCompactEachRow",
        &[("param_d", &*database), ("param_t", &*table)],
    )
    .await;
    match asked {
        Ok((engine, full, key, definition)) => Parts::of(&engine, &full, &key, &definition, &schema.columns),
        Err(error) => {
            tracing::debug!(%error, "cannot ask how the table is made");
            Parts::Unknown
        }
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_quoted() {
        assert_eq!(literal("a'b\\c"), "'a\\'b\\\\c'");
    }
}
