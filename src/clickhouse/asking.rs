//! Questions to the server, and whether an answer is one to what was asked. An answer that lacks, doubles or contradicts
//! something is an error, never a fact: a column that is not seen would be left out of every insert.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Answer, Client};
use super::error::{Failure, clipped};
use super::schema::DescribeError;

/// A profile's limits are not for these few rows, and what is cut all the same is to fail. Known to every version.
const WHOLE: [(&str, &str); 10] = [
    ("limit", "0"),
    ("offset", "0"),
    ("max_result_rows", "0"),
    ("max_result_bytes", "0"),
    ("max_rows_to_read", "0"),
    ("max_bytes_to_read", "0"),
    ("result_overflow_mode", "throw"),
    ("read_overflow_mode", "throw"),
    ("timeout_overflow_mode", "throw"),
    ("send_progress_in_http_headers", "0"),
];
/// SETTING_CONSTRAINT_VIOLATION, READONLY, UNKNOWN_SETTING.
const NOT_LET: [u32; 3] = [452, 164, 115];

/// Asks a question that changes nothing.
pub(super) async fn ask(client: &mut Client, sql: &str, parameters: &[(&str, &str)]) -> Result<Answer, Failure> {
    let all: Vec<_> = parameters.iter().chain(&WHOLE).copied().collect();
    let mut answer = client.query(sql, &all).await?;
    if Failure::of_query(&answer).and_then(|failure| failure.code()).is_some_and(|code| NOT_LET.contains(&code)) {
        // Then an answer that is cut is seen by itself.
        answer = client.query(sql, parameters).await?;
    }
    Failure::of_query(&answer).map_or(Ok(answer), Err)
}

/// The rows of an answer; how many there must be, the question does not say.
pub(super) async fn rows<T: DeserializeOwned>(
    client: &mut Client,
    query: &'static str,
    parameters: &[(&str, &str)],
) -> Result<Vec<T>, DescribeError> {
    rows_of(client, query, query, parameters).await
}

/// The one row of an answer.
pub(super) async fn row<T: DeserializeOwned>(
    client: &mut Client,
    query: &'static str,
    parameters: &[(&str, &str)],
) -> Result<T, DescribeError> {
    row_of(client, query, query, parameters).await
}

/// As [`row`], for a text that is made at run time; `query` names it.
pub(super) async fn row_of<T: DeserializeOwned>(
    client: &mut Client,
    sql: &str,
    query: &'static str,
    parameters: &[(&str, &str)],
) -> Result<T, DescribeError> {
    let mut rows = rows_of(client, sql, query, parameters).await?;
    match (rows.pop(), rows.len()) {
        (Some(row), 0) => Ok(row),
        (None, _) => Err(garbled(query, "it has no row")),
        (Some(_), others) => Err(garbled(query, format!("it has {} rows instead of one", others + 1))),
    }
}

/// As [`rows`], for a text that is made at run time; `query` names it.
pub(super) async fn rows_of<T: DeserializeOwned>(
    client: &mut Client,
    sql: &str,
    query: &'static str,
    parameters: &[(&str, &str)],
) -> Result<Vec<T>, DescribeError> {
    let answer = ask(client, sql, parameters).await?;
    if !answer.text.is_empty() && !answer.text.ends_with('\n') {
        return Err(garbled(query, format!("it ends in the middle of a line: {}", clipped(&answer.text))));
    }
    let lines = answer.text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).map_err(|cause| garbled(query, format!("{cause} in {}", clipped(line)))))
        .collect()
}

pub(super) fn garbled(query: &'static str, cause: impl Into<String>) -> DescribeError {
    DescribeError::Garbled { query, cause: cause.into() }
}

/// A number of the server's, which some settings put into quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Number(pub(super) u64);

impl TryFrom<Value> for Number {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        number.map(Self).ok_or_else(|| format!("{value} is no number"))
    }
}

/// A list and its length, as `count(), groupArray(…)` give them in one row.
pub(super) fn counted<T>(query: &'static str, count: Number, list: Vec<T>) -> Result<Vec<T>, DescribeError> {
    if count.0 == list.len() as u64 {
        return Ok(list);
    }
    Err(garbled(query, format!("it counts {} and has {}", count.0, list.len())))
}

/// The first name that a list has twice.
pub(super) fn doubled<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

/// The columns that an answer to DESCRIBE names, without the parts of columns and the virtual ones that some profiles add.
pub(super) fn described_names(rows: &[Vec<Value>]) -> Option<Vec<&str>> {
    let own = rows.iter().filter(|row| {
        // Two or seven fields, and one more where such settings are on: whether it is no column of the table.
        let extra = row.last().filter(|_| matches!(row.len(), 3 | 8));
        extra.is_none_or(|extra| Number::try_from(extra.clone()) != Ok(Number(1)))
    });
    own.map(|row| row.first()?.as_str()).collect()
}

/// The major version in the text of `version()`; forks and test builds may call it what they like.
pub(super) fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_with_and_without_quotes() {
        let seen: Vec<Number> = serde_json::from_str(r#"[5, "6"]"#).unwrap();
        assert_eq!(seen, [Number(5), Number(6)]);
        for wrong in ["[-1]", r#"["x"]"#, "[1.5]", "[null]"] {
            assert!(serde_json::from_str::<Vec<Number>>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_description_names_the_tables_own_columns() {
        let names = |text: &str| {
            let rows: Vec<Vec<Value>> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            described_names(&rows).map(|names| names.join(" "))
        };
        assert_eq!(names("[\"a\", \"Tuple(\\n x UInt8)\", \"\", \"\", \"\", \"\", \"\"]").as_deref(), Some("a"));
        assert_eq!(names("[\"a\", \"UInt8\"]\n[\"b\", \"UInt8\"]").as_deref(), Some("a b"));
        let full =
            "[\"a\", \"S\", \"\", \"\", \"\", \"\", \"\", 0]\n[\"a.size\", \"S\", \"\", \"\", \"\", \"\", \"\", \"1\"]";
        assert_eq!(names(full).as_deref(), Some("a"));
        assert_eq!(names("[\"a\", \"S\", 0]\n[\"a.size\", \"S\", 1]").as_deref(), Some("a"));
        assert_eq!(names("[1, \"S\"]"), None);
    }

    #[test]
    fn versions_have_a_major_number() {
        assert_eq!(
            [major("26.9.2.1"), major("24.8.14.10545.altinitystable"), major("head")],
            [Some(26), Some(24), None]
        );
    }
}
