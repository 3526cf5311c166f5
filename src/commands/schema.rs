//! `schema`: the SQL of the default table and its views under the configured names, printed or applied.

use thiserror::Error;

use crate::clickhouse::block::quoted;
use crate::clickhouse::client::Client;
use crate::clickhouse::error::Failure;
use crate::config::{ClickHouseConfig, TlsFiles};
use crate::net::tls::{TlsClient, TlsFileError};

/// The SQL of database and table, with `views` also of the five views and their targets.
pub fn sql(database: &str, table: &str, views: bool) -> String {
    let mut out = named(TABLE, database, table);
    if views {
        out.push('\n');
        out.push_str(&named(VIEWS, database, table));
    }
    out
}

/// Creates what is missing and touches nothing that is there; `say` is told of each, one line at a time.
///
/// # Errors
/// When the server cannot be asked or refuses; what was created before stays.
pub async fn apply(config: &ClickHouseConfig, views: bool, say: &mut dyn FnMut(&str)) -> Result<(), SchemaError> {
    let mut client = connect(config).await?;
    for statement in statements(&sql(&config.database, &config.table, views)) {
        let Some(Creates { kind, name }) = creates(&statement) else { continue };
        let exists = if kind == "DATABASE" { "EXISTS DATABASE" } else { "EXISTS TABLE" };
        let what = || format!("{} {name}", kind.to_lowercase());
        if ask(&mut client, &format!("{exists} {name}"), what).await? == "1" {
            say(&format!("left alone: {} exists already", what()));
            if kind == "TABLE" && lacks_window(&mut client, &name).await? {
                say(&format!(
                    "  it does not recognise repeated inserts; to change that: ALTER TABLE {name} MODIFY SETTING {WINDOW} = 10000"
                ));
            }
        } else {
            ask(&mut client, &statement, what).await?;
            say(&format!("created: {}", what()));
        }
    }
    Ok(())
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
}

fn cure(failure: &Failure) -> &'static str {
    match failure.code() {
        // ACCESS_DENIED, READONLY.
        Some(497 | 164) => "let a user who may create it apply what `schema` prints",
        _ => failure.cure(),
    }
}

/// What a statement creates.
#[derive(Debug, PartialEq, Eq)]
struct Creates {
    /// DATABASE, TABLE, MATERIALIZED VIEW.
    kind: &'static str,
    /// Quoted and qualified.
    name: String,
}

fn creates(statement: &str) -> Option<Creates> {
    ["DATABASE", "TABLE", "MATERIALIZED VIEW"].into_iter().find_map(|kind| {
        let rest = statement.strip_prefix("CREATE ")?.strip_prefix(kind)?.strip_prefix(" IF NOT EXISTS ")?;
        Some(Creates { kind, name: identifier(rest).to_owned() })
    })
}

/// The name at the start of a text, up to white space outside backticks.
fn identifier(text: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.find(|c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '`' => quoted = !quoted,
            c => return c.is_whitespace() && !quoted,
        }
        false
    });
    text.split_at_checked(end.unwrap_or(text.len())).map_or(text, |(name, _)| name)
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

/// A plain MergeTree that forgets the tokens of its inserts. What cannot be told counts as fine.
async fn lacks_window(client: &mut Client, name: &str) -> Result<bool, SchemaError> {
    let created = ask(client, &format!("SHOW CREATE TABLE {name} FORMAT TSVRaw"), || format!("table {name}")).await?;
    let engine = created.lines().find_map(|line| line.strip_prefix("ENGINE = ")).unwrap_or("");
    let plain = engine.split(['(', ' ']).next().is_some_and(|engine| engine.ends_with("MergeTree"));
    let replicated = engine.starts_with("Replicated") || engine.starts_with("Shared");
    let window = created.rsplit_once(WINDOW).and_then(|(_, rest)| rest.trim_start_matches([' ', '=']).chars().next());
    Ok(plain && !replicated && window.is_none_or(|first| first == '0'))
}

const TABLE: &str = include_str!("../../sql/events.sql");
const VIEWS: &str = include_str!("../../sql/views.sql");
const WINDOW: &str = "non_replicated_deduplication_window";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_in_everywhere_and_quoted() {
        let all = sql("my`db", "ev ents", true);
        assert!(!all.contains("sandarb"), "{all}");
        assert_eq!(all.matches("`my\\`db`.`ev ents`").count(), 1 + 5 + 1, "the table, five views, a comment");
        let names: Vec<_> = statements(&all).iter().map(|statement| creates(statement).unwrap()).collect();
        let count = |kind| names.iter().filter(|creates| creates.kind == kind).count();
        assert_eq!((count("DATABASE"), count("TABLE"), count("MATERIALIZED VIEW")), (1, 6, 5));
        assert_eq!(names[0].name, "`my\\`db`");
        assert_eq!(names[1].name, "`my\\`db`.`ev ents`");
        assert_eq!(names[3].name, "`my\\`db`.daily_kpis_view");
        assert_eq!(statements(&sql("d", "t", false)).len(), 2);
    }

    #[test]
    fn a_target_keeps_its_name_when_the_table_has_another() {
        assert_eq!(named("FROM sandarb.events_daily, sandarb.events;", "a", "b"), "FROM `a`.events_daily, `a`.`b`;");
        assert_eq!(named("sandarb.events", "sandarb.events", "sandarb"), "`sandarb.events`.`sandarb`");
    }
}
