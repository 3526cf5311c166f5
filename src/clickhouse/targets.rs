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
