//! What a check asks beside the table itself: the tables that its materialized views write to, and the right to insert.

use super::block::quoted;
use super::client::Client;
use super::error::Failure;
use super::schema::{Dedup, DescribeError, dedup, escaped, rows};

/// The table that a materialized view writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewTarget {
    /// The view, with its database.
    pub view: String,
    /// Whether the table behind it recognises a repeated insert; `None` when it was not found.
    pub dedup: Option<Dedup>,
}

/// The targets of the views that hang on a table.
pub(super) async fn targets(
    client: &mut Client,
    database: &str,
    table: &str,
) -> Result<Vec<ViewTarget>, DescribeError> {
    let (database, table) = (escaped(database), escaped(table));
    let named = [("param_d", &*database), ("param_t", &*table)];
    // A view without TO writes to a table of its own, named by the view's UUID or (in Ordinary databases) its name.
    let found: Vec<(String, String, String)> = rows(
        client,
        "WITH views AS (SELECT arrayJoin(arrayZip(dependencies_database, dependencies_table)) AS view \
         FROM system.tables WHERE database = {d:String} AND name = {t:String}) \
         SELECT concat(v.database, '.', v.name), t.engine, t.engine_full FROM system.tables AS v \
         LEFT JOIN system.tables AS t ON concat(t.database, '.', t.name) = if(\
         extract(v.create_table_query, '^CREATE MATERIALIZED VIEW [^ ]+ TO ([^ ]+)') != '', \
         replaceAll(extract(v.create_table_query, '^CREATE MATERIALIZED VIEW [^ ]+ TO ([^ ]+)'), '`', ''), \
         concat(v.database, '.', if(v.uuid = toUUIDOrZero(''), concat('.inner.', v.name), \
         concat('.inner_id.', toString(v.uuid))))) \
         WHERE (v.database, v.name) IN (SELECT view FROM views) AND v.engine = 'MaterializedView' \
         ORDER BY 1 FORMAT JSONCompactEachRow",
        &named,
    )
    .await?;
    let of = |(view, engine, full): (String, String, String)| ViewTarget {
        view,
        dedup: (!engine.is_empty()).then(|| dedup(&engine, &full, 0)),
    };
    Ok(found.into_iter().map(of).collect())
}

/// Whether the user may insert; `None` when the server cannot say (before 24.11 there is no CHECK GRANT).
pub(super) async fn may_insert(client: &mut Client, database: &str, table: &str) -> Option<bool> {
    let sql = format!("CHECK GRANT INSERT ON {}.{} FORMAT TSV", quoted(database), quoted(table));
    match client.query(&sql, &[]).await {
        Ok(answer) if Failure::of_query(&answer).is_none() => Some(answer.text.trim() == "1"),
        Ok(_) | Err(_) => None,
    }
}
