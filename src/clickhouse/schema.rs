//! What the table looks like, and what the server knows: asked, never assumed.
//!
//! Columns come from system.columns (types on one line), existence from DESCRIBE (which says 60 or 81, where
//! system.columns is merely empty), the engine from system.tables, known settings from system.settings.

use std::fmt;

use serde_json::Value;
use thiserror::Error;

use super::asking::{self, Number, counted, described_names, doubled, garbled, row, row_of, rows_of};
use super::block::quoted;
use super::client::Client;
use super::error::Failure;
use super::settings;
use super::types::{DataType, TypeError};
use crate::columns::Missing;

/// A table as far as inserts care. Two equal ones take the same blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The columns that events may fill, in the table's order.
    pub columns: Vec<SchemaColumn>,
    /// Columns that no insert names, and why.
    pub left_out: Vec<LeftOut>,
    /// The table's engine.
    pub engine: String,
    /// The table's sorting key, as it was written.
    pub sorting_key: String,
    /// Whether a repeated insert is recognised.
    pub dedup: Dedup,
    /// The settings every insert carries, as far as this server knows them.
    pub settings: Vec<(String, String)>,
    /// The server takes `insert_deduplication_token`.
    pub takes_token: bool,
}

/// A column that events may fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaColumn {
    /// Its name, which is also the JSON key.
    pub name: String,
    /// Its type as the table has it.
    pub type_name: String,
    /// The type a block declares for it; differs for LowCardinality of something other than String.
    pub wire_type: String,
    /// Its type.
    pub data_type: DataType,
    /// What a row without a value gets.
    pub missing: Missing,
}

/// A column that no insert names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// Why no insert names a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The server computes it.
    Materialized,
    /// It is an expression only.
    Alias,
    /// Its type is not supported; it always gets its DEFAULT.
    Unsupported(TypeError),
}

/// Whether the table recognises a repeated insert by its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dedup {
    /// It does not: a retry after an unknown outcome may store rows twice.
    Off,
    /// A plain MergeTree that remembers that many parts.
    Window(u64),
    /// A replicated table, which always does.
    Replicated,
    /// A table that keeps no rows itself: it passes the token on, and the tables behind it do or do not.
    Behind,
}

impl fmt::Display for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Window(parts) => write!(f, "window {parts}"),
            Self::Replicated => f.write_str("replicated"),
            Self::Behind => f.write_str("by the tables behind it"),
        }
    }
}

/// Why the table is not known.
#[derive(Debug, Error)]
pub enum DescribeError {
    /// The server cannot be asked.
    #[error("{0}; {cure}", cure = .0.cure())]
    Failed(#[from] Failure),
    /// No such database or table.
    #[error("{database}.{table} does not exist ({failure}); {cure}", cure = .failure.cure())]
    Missing {
        /// The database.
        database: String,
        /// The table.
        table: String,
        /// What the server said.
        failure: Box<Failure>,
    },
    /// The table is there, but its columns may not be seen.
    #[error("the columns of {database}.{table} are hidden from the user; grant INSERT or SHOW COLUMNS on the table")]
    Hidden {
        /// The database.
        database: String,
        /// The table.
        table: String,
    },
    /// Columns that cannot be filled and have no default.
    #[error("{}", list(.0))]
    Unfillable(Vec<Unfillable>),
    /// No column is left that an event could fill.
    #[error("{database}.{table} has no column that an insert could name")]
    NoColumns {
        /// The database.
        database: String,
        /// The table.
        table: String,
    },
    /// Inserts would not be confirmed.
    #[error(
        "the answers to inserts do not say how many rows are stored, so that none could be taken for stored; let what \
         stands between this program and ClickHouse pass the header X-ClickHouse-Summary"
    )]
    Unconfirmed,
    /// A JSON column on a server that does not take its texts.
    #[error(
        "column {column} is of type JSON, and this ClickHouse ({version}) does not take JSON texts in Native; the oldest that \
         does is 25.1: upgrade it, or make the column a String"
    )]
    TooOld {
        /// The column.
        column: String,
        /// The server's version.
        version: String,
    },
    /// An answer that cannot be read, or is none to what was asked.
    #[error("cannot read the server's answer to {query}: {cause}; is CLICKHOUSE_URL an HTTP address of ClickHouse?")]
    Garbled {
        /// What was asked.
        query: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

/// A column that cannot be filled and has no default.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("column {column} {type_name}: {cause}; give it a DEFAULT (then it is left out), or change its type")]
pub struct Unfillable {
    /// Its name.
    pub column: String,
    /// Its type.
    pub type_name: String,
    /// What is wrong with it.
    pub cause: TypeError,
}

fn list(columns: &[Unfillable]) -> String {
    columns.iter().map(Unfillable::to_string).collect::<Vec<_>>().join("; ")
}

/// A column as the server has it.
#[derive(Debug, Clone, serde::Deserialize)]
struct Described {
    position: Number,
    name: String,
    type_name: String,
    default_kind: String,
    default_expression: String,
}

/// Asks the server about a table.
pub(super) async fn describe(client: &mut Client, database: &str, table: &str) -> Result<Schema, DescribeError> {
    let missing = |failure: Failure| match failure.code() {
        Some(60 | 81) => DescribeError::Missing {
            database: database.to_owned(),
            table: table.to_owned(),
            failure: Box::new(failure),
        },
        _ => DescribeError::Failed(failure),
    };
    let of = format!("{}.{}", quoted(database), quoted(table));
    let names: Vec<Vec<Value>> =
        match rows_of(client, &format!("DESCRIBE TABLE {of} FORMAT JSONCompactEachRow"), DESCRIBE, &[]).await {
            Err(DescribeError::Failed(failure)) => return Err(missing(failure)),
            other => other?,
        };
    let names = described_names(&names).filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| garbled(DESCRIBE, "it names no column"))?;
    if let Some(name) = doubled(names.iter().copied()) {
        return Err(garbled(DESCRIBE, format!("it has {name} twice")));
    }
    let (database_value, table_value) = (escaped(database), escaped(table));
    let named = [("param_d", &*database_value), ("param_t", &*table_value)];
    let columns = columns(client, &names, &named).await?;
    if columns.is_empty() {
        return Err(DescribeError::Hidden { database: database.to_owned(), table: table.to_owned() });
    }
    let (engine, engine_full, sorting_key): (String, String, String) = row(
        client,
        "SELECT engine, engine_full, sorting_key FROM system.tables WHERE database = {d:String} AND name = {t:String} \
         FORMAT JSONCompactEachRow",
        &named,
    )
    .await?;
    let asked = row(
        client,
        "SELECT value FROM system.merge_tree_settings WHERE name = 'non_replicated_deduplication_window' \
         FORMAT JSONCompactEachRow",
        &[],
    )
    .await;
    // Unlike the other system tables here, this one is not open to a user whose rights were granted one by one. The table's
    // own window counts then, and the server's default, which is none.
    let (Number(server_window),): (Number,) = match asked {
        Err(DescribeError::Failed(failure)) if failure.is_denied() => (Number(0),),
        other => other?,
    };
    let (version, known) = known_settings(client).await?;
    let (columns, left_out) = fillable(columns)?;
    if columns.is_empty() {
        return Err(DescribeError::NoColumns { database: database.to_owned(), table: table.to_owned() });
    }
    takes_json(&version, &columns)?;
    Ok(Schema {
        database: database.to_owned(),
        table: table.to_owned(),
        columns,
        left_out,
        dedup: dedup(&engine, &engine_full, server_window),
        engine,
        sorting_key,
        settings: settings::for_inserts(&known),
        takes_token: known.iter().any(|name| name == settings::TOKEN),
    })
}

const DESCRIBE: &str = "DESCRIBE TABLE";
/// One row: what is cut is no answer.
const COLUMNS: &str = "SELECT count(), groupArray((toUInt32(position), name, type, default_kind, default_expression)) \
                       FROM system.columns WHERE database = {d:String} AND table = {t:String} FORMAT JSONCompactEachRow";

/// The table's columns by position. Those that DESCRIBE names, each once, or none at all: then they are hidden.
async fn columns(client: &mut Client, names: &[&str], named: &[(&str, &str)]) -> Result<Vec<Described>, DescribeError> {
    let (count, found): (Number, Vec<Described>) = row(client, COLUMNS, named).await?;
    let mut found = counted(COLUMNS, count, found)?;
    found.sort_by_key(|column| column.position);
    if let Some(name) = doubled(found.iter().map(|column| column.name.as_str())) {
        return Err(garbled(COLUMNS, format!("it has {name} twice")));
    }
    let differing = !names.iter().copied().eq(found.iter().map(|column| column.name.as_str()));
    if !found.is_empty() && differing {
        let cause = format!("its {} columns are not the {} of DESCRIBE TABLE", found.len(), names.len());
        return Err(garbled(COLUMNS, cause));
    }
    Ok(found)
}

/// The server's version, and which of the settings that we want it knows.
async fn known_settings(client: &mut Client) -> Result<(String, Vec<String>), DescribeError> {
    const QUERY: &str = "system.settings";
    let (version, count, known): (String, Number, Vec<String>) =
        row_of(client, &settings::question(), QUERY, &[]).await?;
    let known = counted(QUERY, count, known)?;
    if let Some(name) = doubled(known.iter().map(String::as_str)) {
        return Err(garbled(QUERY, format!("it has {name} twice")));
    }
    if let Some(missing) = settings::OLD.iter().find(|old| !known.iter().any(|name| name == *old)) {
        return Err(garbled(QUERY, format!("it lacks {missing}, which every server has")));
    }
    Ok((version, known))
}

/// A JSON column takes texts in Native from 25 on; before, the server refuses each (117).
fn takes_json(version: &str, columns: &[SchemaColumn]) -> Result<(), DescribeError> {
    let json = columns.iter().find(|column| matches!(column.data_type.bare(), DataType::Json));
    match (json, asking::major(version)) {
        (Some(column), Some(..OLDEST_WITH_JSON)) => {
            Err(DescribeError::TooOld { column: column.name.clone(), version: version.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The oldest major version whose JSON columns take what is sent.
const OLDEST_WITH_JSON: u32 = 25;

fn fillable(described: Vec<Described>) -> Result<(Vec<SchemaColumn>, Vec<LeftOut>), DescribeError> {
    let (mut columns, mut left_out, mut unfillable) = (Vec::new(), Vec::new(), Vec::new());
    for Described { name, type_name, default_kind, default_expression, .. } in described {
        // An EPHEMERAL column is not stored, but others' defaults are computed from it: filled like any other, and
        // without a value it takes its own default.
        let has_default = match default_kind.as_str() {
            "MATERIALIZED" => {
                left_out.push(LeftOut { name, why: Why::Materialized });
                continue;
            }
            "ALIAS" => {
                left_out.push(LeftOut { name, why: Why::Alias });
                continue;
            }
            kind => !kind.is_empty(),
        };
        match DataType::parse(&type_name) {
            Ok(data_type) => {
                let missing = match (data_type.is_nullable(), has_default && !is_zero(&default_expression, &data_type))
                {
                    (true, has_default) => Missing::Null { has_default },
                    (false, true) => Missing::Default,
                    (false, false) => Missing::Zero,
                };
                let wire_type = wire_type(&type_name, &data_type);
                columns.push(SchemaColumn { name, type_name, wire_type, data_type, missing });
            }
            Err(cause) if has_default => left_out.push(LeftOut { name, why: Why::Unsupported(cause) }),
            Err(cause) => unfillable.push(Unfillable { column: name, type_name, cause }),
        }
    }
    if unfillable.is_empty() { Ok((columns, left_out)) } else { Err(DescribeError::Unfillable(unfillable)) }
}

/// A DEFAULT that is what a row without a value gets without it, too: then nothing has to be asked for.
fn is_zero(expression: &str, data_type: &DataType) -> bool {
    match data_type {
        DataType::Nullable(_) => expression == "NULL",
        DataType::Array(_) => ["[]", "array()"].contains(&expression),
        DataType::Map(_) => ["map()", "{}"].contains(&expression),
        DataType::Json => expression == "'{}'",
        _ => false,
    }
}

fn wire_type(type_name: &str, data_type: &DataType) -> String {
    let inner = type_name.strip_prefix("LowCardinality(").and_then(|rest| rest.strip_suffix(')'));
    match data_type.bare() {
        DataType::LowCardinality => type_name.to_owned(),
        DataType::Array(_) | DataType::Map(_) => data_type.to_string(),
        _ => inner.unwrap_or(type_name).to_owned(),
    }
}

pub(super) fn dedup(engine: &str, engine_full: &str, server_window: u64) -> Dedup {
    if ["Null", "Distributed"].contains(&engine) {
        return Dedup::Behind;
    }
    if !engine.ends_with("MergeTree") {
        return Dedup::Off;
    }
    let settings = engine_full.rsplit_once(" SETTINGS ").map_or("", |(_, settings)| settings);
    let own = |wanted: &str| {
        settings.split(',').find_map(|setting| {
            let (name, value) = setting.split_once('=')?;
            (name.trim() == wanted).then(|| value.trim().parse::<u64>().ok())?
        })
    };
    // SharedMergeTree is the cloud's replicated engine. It has a window unless the table is told otherwise.
    if engine.starts_with("Replicated") || engine.starts_with("Shared") {
        let off = own("replicated_deduplication_window") == Some(0);
        return if off { Dedup::Off } else { Dedup::Replicated };
    }
    match own("non_replicated_deduplication_window").unwrap_or(server_window) {
        0 => Dedup::Off,
        parts => Dedup::Window(parts),
    }
}

/// Query parameters are read like a TSV field.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r").replace('\0', "\\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of name, type, and kind and expression of the default.
    fn described(rows: &[(&str, &str, &str)]) -> Vec<Described> {
        rows.iter()
            .map(|(name, type_name, default)| {
                let (kind, expression) = default.split_once(' ').unwrap_or((default, ""));
                Described {
                    position: Number(0),
                    name: (*name).to_owned(),
                    type_name: (*type_name).to_owned(),
                    default_kind: kind.to_owned(),
                    default_expression: expression.to_owned(),
                }
            })
            .collect()
    }

    #[test]
    fn the_table_decides_what_is_filled() {
        let (columns, left_out) = fillable(described(&[
            ("a", "String", ""),
            ("b", "LowCardinality(FixedString(2))", "DEFAULT"),
            ("c", "Nullable(UInt8)", ""),
            ("d", "Nullable(UInt8)", "DEFAULT"),
            ("e", "UInt8", "EPHEMERAL"),
            ("f", "UInt8", "MATERIALIZED"),
            ("g", "UInt8", "ALIAS"),
            ("h", "Point", "DEFAULT"),
            ("i", "Nullable(UInt8)", "DEFAULT NULL"),
            ("j", "Array(UInt8)", "DEFAULT []"),
            ("k", "Map(String, UInt8)", "DEFAULT map()"),
            ("l", "Array(UInt8)", "DEFAULT [1]"),
        ]))
        .unwrap();
        let seen: Vec<_> = columns.iter().map(|column| (&*column.name, &*column.wire_type, column.missing)).collect();
        assert_eq!(
            seen,
            [
                ("a", "String", Missing::Zero),
                ("b", "FixedString(2)", Missing::Default),
                ("c", "Nullable(UInt8)", Missing::Null { has_default: false }),
                ("d", "Nullable(UInt8)", Missing::Null { has_default: true }),
                ("e", "UInt8", Missing::Default),
                ("i", "Nullable(UInt8)", Missing::Null { has_default: false }),
                ("j", "Array(UInt8)", Missing::Zero),
                ("k", "Map(String, UInt8)", Missing::Zero),
                ("l", "Array(UInt8)", Missing::Default),
            ]
        );
        let names: Vec<_> = left_out.iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["f", "g", "h"]);
    }

    #[test]
    fn every_column_that_cannot_be_filled_is_named() {
        let error = fillable(described(&[("p", "Point", ""), ("q", "Tuple(UInt8)", ""), ("r", "String", "")]));
        let text = error.unwrap_err().to_string();
        for part in ["column p Point", "column q Tuple(UInt8)", "not supported", "give it a DEFAULT"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn deduplication_is_read_from_the_engine() {
        let full = "MergeTree ORDER BY a TTL b + 1 SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 100";
        assert_eq!(dedup("MergeTree", full, 0), Dedup::Window(100));
        assert_eq!(dedup("MergeTree", "MergeTree ORDER BY a", 0), Dedup::Off);
        assert_eq!(dedup("SummingMergeTree", "SummingMergeTree ORDER BY a", 7).to_string(), "window 7");
        assert_eq!(dedup("ReplicatedMergeTree", "", 0).to_string(), "replicated");
        let full = "ReplicatedMergeTree('/p', 'r') ORDER BY a SETTINGS replicated_deduplication_window = 0";
        assert_eq!(dedup("ReplicatedMergeTree", full, 7), Dedup::Off);
        assert_eq!(dedup("SharedMergeTree", &full.replace("= 0", "= 100"), 0), Dedup::Replicated);
        assert_eq!(dedup("Null", "Null", 7).to_string(), "by the tables behind it");
        assert_eq!(dedup("Distributed", "Distributed('c', 'd', 't')", 0), Dedup::Behind);
        assert_eq!(dedup("Memory", "Memory", 7).to_string(), "off");
    }
}
