//! What a check asks beside the table itself: the tables that its materialized views write to, and what those views may
//! read.

use super::asking::{ask, rows};
use super::block::quoted;
use super::client::Client;
use super::error::Failure;
use super::schema::{Dedup, DescribeError, Schema, dedup, escaped};

/// The table that a materialized view writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewTarget {
    /// The view, with its database.
    pub view: String,
    /// Whether the table behind it recognises a repeated insert; `None` when it was not found.
    pub dedup: Option<Dedup>,
    /// The engine of that table.
    pub engine: String,
}

/// A view that may not read what the user inserts.
#[derive(Debug)]
pub struct BlindView {
    /// The view, with its database.
    pub view: String,
    /// The user may not see the view either: perhaps it has the rights of another user, or reads only some columns.
    pub hidden: bool,
    /// What the server says to its query, or to one of all columns.
    pub failure: Failure,
}

/// The targets of the views that hang on a table, and of those that hang on these, and so on.
pub(super) async fn targets(
    client: &mut Client,
    database: &str,
    table: &str,
) -> Result<Vec<ViewTarget>, DescribeError> {
    let mut found = Vec::new();
    let mut tables = vec![(database.to_owned(), table.to_owned())];
    let mut at = 0;
    while let Some((database, table)) = tables.get(at).filter(|_| at < MOST_TABLES).cloned() {
        at += 1;
        for (database, name, uuid, definition) in views_on(client, &database, &table).await? {
            let target = target(&database, &name, &uuid, &definition);
            let engine = match &target {
                Some((database, table)) => engine_of(client, database, table).await?,
                None => None,
            };
            found.push(ViewTarget {
                view: format!("{database}.{name}"),
                dedup: engine.as_ref().map(|(engine, full)| dedup(engine, full, 0)),
                engine: engine.map_or_else(String::new, |(engine, _)| engine),
            });
            tables.extend(target.filter(|target| !tables.contains(target)));
        }
    }
    found.sort_by(|one, other| one.view.cmp(&other.view));
    Ok(found)
}

/// Tables that are looked at for views: chains are short.
const MOST_TABLES: usize = 100;

/// Database, name, UUID and definition of the views that hang on one table.
async fn views_on(
    client: &mut Client,
    database: &str,
    table: &str,
) -> Result<Vec<(String, String, String, String)>, DescribeError> {
    let (database, table) = (escaped(database), escaped(table));
    rows(
        client,
        "SELECT database, name, toString(uuid), create_table_query FROM system.tables WHERE (database, name) IN (\
         SELECT arrayJoin(arrayZip(dependencies_database, dependencies_table)) FROM system.tables \
         WHERE database = {d:String} AND name = {t:String}) AND engine = 'MaterializedView' \
         ORDER BY database, name FORMAT JSONCompactEachRow",
        &[("param_d", &*database), ("param_t", &*table)],
    )
    .await
}

async fn engine_of(
    client: &mut Client,
    database: &str,
    table: &str,
) -> Result<Option<(String, String)>, DescribeError> {
    let (database, table) = (escaped(database), escaped(table));
    let found = rows(
        client,
        "SELECT engine, engine_full FROM system.tables WHERE database = {d:String} AND name = {t:String} \
         FORMAT JSONCompactEachRow",
        &[("param_d", &*database), ("param_t", &*table)],
    )
    .await?;
    Ok(found.into_iter().next())
}

/// The table that a view writes to. One without TO has a table of its own, named by its UUID or (in Ordinary databases)
/// its name. `None` when the definition, which is hidden without rights to the view, does not say.
fn target(database: &str, name: &str, uuid: &str, definition: &str) -> Option<(String, String)> {
    let rest = definition.strip_prefix("CREATE MATERIALIZED VIEW ")?;
    let (_, rest) = qualified(rest)?;
    let rest = rest.trim_start();
    if let Some(rest) = rest.strip_prefix("TO ") {
        let ((own, table), _) = qualified(rest)?;
        return Some((own.unwrap_or_else(|| database.to_owned()), table));
    }
    let nil = uuid.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    let inner = if nil { format!(".inner.{name}") } else { format!(".inner_id.{uuid}") };
    Some((database.to_owned(), inner))
}

/// A name with or without its database, and what follows it.
fn qualified(text: &str) -> Option<((Option<String>, String), &str)> {
    let (first, rest) = identifier(text)?;
    match rest.strip_prefix('.') {
        Some(rest) => identifier(rest).map(|(second, rest)| ((Some(first), second), rest)),
        None => Some(((None, first), rest)),
    }
}

/// An identifier, in backticks or plain, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('`') else {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    let mut letters = quoted.char_indices().peekable();
    while let Some((at, c)) = letters.next() {
        match c {
            '\\' => name.push(match letters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                other => other,
            }),
            '`' if letters.next_if(|(_, next)| *next == '`').is_some() => name.push('`'),
            '`' => return Some((name, quoted.get(at + 1..)?)),
            other => name.push(other),
        }
    }
    None
}

/// The views that may not read what the user inserts: they do it with the rights of who inserts, unless they say SQL
/// SECURITY DEFINER or NONE.
pub(super) async fn blind_views(client: &mut Client, schema: &Schema) -> Result<Vec<BlindView>, DescribeError> {
    let (database, table) = (escaped(&schema.database), escaped(&schema.table));
    // The names of views are told to whoever sees the table; what they are, only with a right to the view.
    let views: Vec<(String, String, String)> = rows(
        client,
        "WITH views AS (SELECT arrayJoin(arrayZip(dependencies_database, dependencies_table)) AS view \
         FROM system.tables WHERE database = {d:String} AND name = {t:String}) \
         SELECT concat(view.1, '.', view.2), v.create_table_query, v.as_select FROM views \
         LEFT JOIN system.tables AS v ON v.database = view.1 AND v.name = view.2 \
         ORDER BY 1 FORMAT JSONCompactEachRow",
        &[("param_d", &*database), ("param_t", &*table)],
    )
    .await?;
    let columns: Vec<String> = schema.columns.iter().map(|column| quoted(&column.name)).collect();
    let all = format!("SELECT {} FROM {}.{}", columns.join(","), quoted(&schema.database), quoted(&schema.table));
    let mut blind = Vec::new();
    for (view, definition, select) in views {
        if ["SQL SECURITY DEFINER", "SQL SECURITY NONE"].iter().any(|own| definition.contains(own)) {
            continue;
        }
        let hidden = select.is_empty();
        // Explained, a query's rights are looked at, and nothing is read.
        let query = format!("EXPLAIN {}", if hidden { &all } else { &select });
        match ask(client, &query, &[]).await {
            Err(failure) if failure.is_denied() => blind.push(BlindView { view, hidden, failure }),
            Err(failure) => return Err(failure.into()),
            Ok(_) => {}
        }
    }
    Ok(blind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_from_definitions() {
        let nil = "00000000-0000-0000-0000-000000000000";
        for (uuid, definition, wanted) in [
            (nil, "CREATE MATERIALIZED VIEW d.v TO d.t (`n` UInt8) AS SELECT 1", ("d", "t")),
            (nil, "CREATE MATERIALIZED VIEW `a\\`b`.`v` TO `a\\`b`.`t.x` AS SELECT 1", ("a`b", "t.x")),
            (nil, "CREATE MATERIALIZED VIEW `a``b`.v TO `c``d`.t AS SELECT 1", ("c`d", "t")),
            (nil, "CREATE MATERIALIZED VIEW d.v (`TO x` UInt8) ENGINE = Memory AS SELECT 1", ("d", ".inner.v")),
            ("12ab", "CREATE MATERIALIZED VIEW d.v (`n` UInt8) ENGINE = Memory AS SELECT 1", ("d", ".inner_id.12ab")),
        ] {
            let found = target("d", "v", uuid, definition).unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str()), wanted, "{definition}");
        }
        assert_eq!(target("d", "v", nil, ""), None);
        assert_eq!(target("d", "v", nil, "CREATE MATERIALIZED VIEW `d"), None);
    }
}
