//! `schema`: the SQL of the default table and its views under the configured names, printed or applied.

mod apply;
mod definition;

use thiserror::Error;

use crate::clickhouse::block::quoted;
use crate::clickhouse::client::Client;
use crate::clickhouse::error::Failure;
use crate::config::{ClickHouseConfig, TlsFiles};
use crate::net::tls::{TlsClient, TlsFileError};

pub use apply::apply;

/// What belongs to the SQL besides database and table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// The original installation's five tables and their views.
    pub views: bool,
    /// The project's own five.
    pub reports: bool,
}

/// The SQL of database and table, and of these parts.
pub fn sql(database: &str, table: &str, parts: Parts) -> String {
    let mut out = named(TABLE, database, table);
    for (wanted, text) in [(parts.views, VIEWS), (parts.reports, REPORTS)] {
        if wanted {
            out.push('\n');
            out.push_str(&named(text, database, table));
        }
    }
    out
}

/// Why the SQL could not be applied.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The CA file of an https address cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The server cannot be asked, or refuses.
    #[error("{what}: {failure}; {}", cure(failure))]
    Failed {
        /// What it was about.
        what: String,
        /// What it said.
        failure: Box<Failure>,
    },
    /// The server's answer about its tables is not understood.
    #[error("{what}: the server's answer is not understood: {source}")]
    Answer {
        /// What it was about.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Some statements were not carried out; why was said.
    #[error("not created: {what}; see what is said of each, mend it and run it again")]
    Incomplete {
        /// Which.
        what: String,
    },
    /// Tables of an earlier version have names that are needed.
    #[error("nothing was created: rename the tables of the earlier version first, as said, and run it again")]
    Earlier,
}

fn cure(failure: &Failure) -> &'static str {
    match failure.code() {
        // ACCESS_DENIED, READONLY.
        Some(497 | 164) => "let a user who may create it apply what `schema` prints",
        _ => failure.cure(),
    }
}

/// The statements of a file, without comments and semicolons.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
    let statements = code.join("\n");
    let statements = statements.trim_end().trim_end_matches(';').split(";\n");
    statements.map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

/// The shipped SQL with other names. They are always quoted: any name is allowed.
fn named(sql: &str, database: &str, table: &str) -> String {
    let (database, table) = (quoted(database), quoted(table));
    let mut out = String::new();
    for (at, piece) in sql.split("sandarb").enumerate() {
        if at > 0 {
            out.push_str(&database);
        }
        match piece.strip_prefix(".events") {
            Some(rest) if !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') => {
                out.push('.');
                out.push_str(&table);
                out.push_str(rest);
            }
            _ => out.push_str(piece),
        }
    }
    out
}

/// The first of the addresses that answers.
async fn connect(config: &ClickHouseConfig) -> Result<Client, SchemaError> {
    let secure = config.addresses.iter().any(|address| address.tls);
    let files = TlsFiles { ca: config.ca_file.clone(), client: None };
    let tls = secure.then(|| TlsClient::load(&files)).transpose()?;
    let mut client = Client::new(config.clone(), tls);
    let mut tries = config.addresses.len();
    loop {
        tries = tries.saturating_sub(1);
        match ask(&mut client, "SELECT 1", || "CLICKHOUSE_URL".to_owned()).await {
            Ok(_) => return Ok(client),
            Err(_) if tries > 0 => client.next_address(),
            Err(error) => return Err(error),
        }
    }
}

async fn ask(client: &mut Client, sql: &str, what: impl FnOnce() -> String) -> Result<String, SchemaError> {
    let failure = match client.query(sql, &[]).await {
        Ok(answer) => match Failure::of_query(&answer) {
            None => return Ok(answer.text.trim_end().to_owned()),
            Some(failure) => failure,
        },
        Err(cause) => cause.into(),
    };
    Err(SchemaError::Failed { what: what(), failure: Box::new(failure) })
}

const TABLE: &str = include_str!("../../../sql/events.sql");
const VIEWS: &str = include_str!("../../../sql/views.sql");
const REPORTS: &str = include_str!("../../../sql/reports.sql");
/// Targets of earlier versions, and their names since the original's tables have these. Their views were named
/// `<target>_view`.
const EARLIER: [(&str, &str); 5] = [
    ("daily_kpis", "kpis_by_day"),
    ("agent_activity", "agents_by_day"),
    ("top_contexts", "contexts_by_day"),
    ("governance_proofs", "proofs"),
    ("denial_reasons", "denials_by_day"),
];
const WINDOW: &str = "non_replicated_deduplication_window";

#[cfg(test)]
mod tests {
    use super::definition::Wanted;
    use super::*;

    #[test]
    fn names_are_put_in_everywhere_and_quoted() {
        let all = sql("my`db", "ev ents", Parts { views: true, reports: true });
        assert!(!all.contains("sandarb"), "{all}");
        assert_eq!(all.matches("`my\\`db`.`ev ents`").count(), 1 + 10 + 2, "the table, the views, comments");
        let names: Vec<_> = statements(&all).iter().map(|statement| Wanted::read(statement).unwrap()).collect();
        let count = |kind| names.iter().filter(|wanted| wanted.kind == kind).count();
        assert_eq!((count("DATABASE"), count("TABLE"), count("MATERIALIZED VIEW")), (1, 11, 10));
        assert_eq!(names[0].name, "`my\\`db`");
        assert_eq!(names[1].name, "`my\\`db`.`ev ents`");
        assert_eq!(names[3].name, "`my\\`db`.daily_kpis_mv");
        assert_eq!(statements(&sql("d", "t", Parts::default())).len(), 2);
    }

    #[test]
    fn a_target_keeps_its_name_when_the_table_has_another() {
        assert_eq!(named("FROM sandarb.events_daily, sandarb.events;", "a", "b"), "FROM `a`.events_daily, `a`.`b`;");
        assert_eq!(named("sandarb.events", "sandarb.events", "sandarb"), "`sandarb.events`.`sandarb`");
    }
}
