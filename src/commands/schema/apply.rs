//! `schema --apply`: compares what is there, creates what is missing, and says of each statement what became of it.

use super::definition::{Found, Wanted, differences, repairs, unquoted};
use super::{EARLIER, Parts, SchemaError, ask, connect, sql, statements};
use crate::clickhouse::block::quoted;
use crate::clickhouse::client::Client;
use crate::clickhouse::error::Failure;
use crate::clickhouse::schema::escaped;
use crate::config::ClickHouseConfig;

/// Creates what is missing, compares what is there and leaves it alone; `say` is given one line at a time. Tables of an
/// earlier version under names that are needed now end it before anything is created.
///
/// # Errors
/// When the server cannot be asked, something could not be created, or earlier tables have to be renamed first. What
/// was created before stays, and was said.
pub async fn apply(config: &ClickHouseConfig, parts: Parts, say: &mut dyn FnMut(&str)) -> Result<(), SchemaError> {
    let client = connect(config).await?;
    let wanted: Vec<Wanted> =
        statements(&sql(&config.database, &config.table, parts)).iter().filter_map(|text| Wanted::read(text)).collect();
    let mut work = Work { client, config, say, wanted: &wanted, created: 0, refused: Vec::new() };
    if parts.views || parts.reports {
        work.refuse_earlier().await?;
    }
    for (at, wanted) in wanted.iter().enumerate() {
        if let Err(error) = work.one(wanted).await {
            let open: Vec<String> = work.wanted.iter().skip(at).map(Wanted::what).collect();
            (work.say)(&format!("stopped: {} created; not carried out: {}", work.created, open.join(", ")));
            return Err(error);
        }
    }
    if work.refused.is_empty() { Ok(()) } else { Err(SchemaError::Incomplete { what: work.refused.join(", ") }) }
}

struct Work<'a> {
    client: Client,
    config: &'a ClickHouseConfig,
    say: &'a mut dyn FnMut(&str),
    wanted: &'a [Wanted],
    created: usize,
    refused: Vec<String>,
}

impl Work<'_> {
    /// Ends with the statements to carry out when a table or a view of an earlier version has one of the shipped names.
    async fn refuse_earlier(&mut self) -> Result<(), SchemaError> {
        let database = quoted(&self.config.database);
        let reports = sql(&self.config.database, &self.config.table, Parts { views: true, reports: true });
        let reports: Vec<Wanted> = statements(&reports).iter().filter_map(|text| Wanted::read(text)).collect();
        let shipped = |short: &str| reports.iter().find(|wanted| wanted.name == format!("{database}.{short}"));
        let mut rename = Vec::new();
        for (old, new) in EARLIER {
            let Some(table) = shipped(new).and_then(Wanted::table) else { continue };
            let view = self.found(&format!("{old}_view")).await?;
            let target = unquoted(&format!("{database}.{old}"));
            if view.is_some_and(|view| view.target() == Some(target)) {
                rename.push(format!("DROP VIEW {database}.{old}_view;"));
            }
            let Some(found) = self.found(old).await?.filter(|found| found.has_columns_of(&table)) else { continue };
            rename.push(format!("RENAME TABLE {database}.{old} TO {database}.{new};"));
            (self.say)(&format!("left alone: table {database}.{old} is that of an earlier version of this program"));
            if let Some(original) = shipped(old).and_then(Wanted::table) {
                for line in differences(&original, &found) {
                    (self.say)(&format!("  {line}"));
                }
            }
        }
        if rename.is_empty() {
            return Ok(());
        }
        (self.say)("nothing was created. Stop all replicas (events wait in Kafka) and carry out, in this order:");
        rename.iter().for_each(|statement| (self.say)(&format!("  {statement}")));
        (self.say)(
            "The views hold no rows, the renamed tables keep theirs. Then create the views of both and start the replicas:",
        );
        (self.say)("  sandarb-consumer schema --views --reports --apply");
        Err(SchemaError::Earlier)
    }

    /// Looks at what one statement creates, and creates it when it is missing.
    async fn one(&mut self, wanted: &Wanted) -> Result<(), SchemaError> {
        let exists = if wanted.kind == "DATABASE" { "EXISTS DATABASE" } else { "EXISTS TABLE" };
        if ask(&mut self.client, &format!("{exists} {}", wanted.name), || wanted.what()).await? == "1" {
            return self.compare(wanted).await;
        }
        if let Some(lacking) = self.lacking_in_target(wanted).await? {
            self.refuse(wanted, &lacking);
            return Ok(());
        }
        match ask(&mut self.client, &wanted.statement, || wanted.what()).await {
            Ok(_) => {
                self.created += 1;
                (self.say)(&format!("created: {}", wanted.what()));
                Ok(())
            }
            // Without the database nothing else can be; what is refused else says nothing about the next.
            Err(SchemaError::Failed { failure, .. }) if failure.code().is_some() && wanted.kind != "DATABASE" => {
                self.refuse(wanted, &format!("{failure}; {}", super::cure(&failure)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn refuse(&mut self, wanted: &Wanted, why: &str) {
        (self.say)(&format!("not created: {}: {why}", wanted.what()));
        self.refused.push(wanted.what());
    }

    /// Says in what something that is there differs.
    async fn compare(&mut self, wanted: &Wanted) -> Result<(), SchemaError> {
        (self.say)(&format!("left alone: {} exists already", wanted.what()));
        if wanted.kind == "DATABASE" {
            return Ok(());
        }
        let short = self.short(wanted);
        let found = self.found(&short).await?.unwrap_or_default();
        let (lines, repairs) = match wanted.table() {
            Some(table) => (differences(&table, &found), repairs(&wanted.name, &table, &found)),
            None => (self.view_differences(wanted, &found).await?, Vec::new()),
        };
        for line in lines {
            (self.say)(&format!("  {line}"));
        }
        for statement in repairs {
            (self.say)(&format!("  to change that: {statement}"));
        }
        Ok(())
    }

    async fn view_differences(&mut self, wanted: &Wanted, found: &Found) -> Result<Vec<String>, SchemaError> {
        let (Some(target), Some(select)) = (wanted.target(), wanted.select()) else { return Ok(Vec::new()) };
        if found.engine != "MaterializedView" {
            return Ok(vec![format!("it is no materialized view but {}", found.engine)]);
        }
        let mut lines = Vec::new();
        let target = unquoted(target);
        match found.target() {
            Some(other) if other == target => {}
            Some(other) => lines.push(format!("it writes to {other}, shipped is {target}")),
            None => lines.push(format!("it writes to a table of its own, shipped is {target}")),
        }
        // The server's own spelling of the shipped query; a server without the function compares nothing.
        let formatted = self
            .client
            .query("SELECT formatQuerySingleLine({q:String}) FORMAT TSVRaw", &[("param_q", &escaped(select))])
            .await
            .map_err(Failure::from)
            .map_err(|failure| SchemaError::Failed { what: wanted.what(), failure: Box::new(failure) })?;
        let shipped = unquoted(formatted.text.trim());
        if Failure::of_query(&formatted).is_none() && unquoted(&found.as_select) != shipped {
            lines.push(format!("its query is {}", found.as_select));
            lines.push(format!("shipped is {shipped}"));
        }
        Ok(lines)
    }

    /// Why a view cannot write to the table that has its target's name.
    async fn lacking_in_target(&mut self, wanted: &Wanted) -> Result<Option<String>, SchemaError> {
        let Some(name) = wanted.target() else { return Ok(None) };
        let Some(target) = self.wanted.iter().find(|other| other.name == name) else { return Ok(None) };
        let short = self.short(target);
        let (Some(table), Some(found)) = (target.table(), self.found(&short).await?) else {
            return Ok(None);
        };
        let lacking = found.lacks(&table);
        Ok((!lacking.is_empty()).then(|| format!("{} lacks its columns {}", target.what(), lacking.join(", "))))
    }

    /// The name without quotes and database.
    fn short(&self, wanted: &Wanted) -> String {
        if wanted.name == format!("{}.{}", quoted(&self.config.database), quoted(&self.config.table)) {
            return self.config.table.clone();
        }
        wanted.name.rsplit_once('.').map_or(&*wanted.name, |(_, short)| short).to_owned()
    }

    /// What the server has under a name of the database.
    async fn found(&mut self, name: &str) -> Result<Option<Found>, SchemaError> {
        let (database, table) = (escaped(&self.config.database), escaped(name));
        let named = [("param_d", database.as_str()), ("param_t", table.as_str())];
        let what = format!("table {}.{}", quoted(&self.config.database), quoted(name));
        let rows: Vec<[String; 6]> = rows(&mut self.client, TABLES, &named, &what).await?;
        let Some([engine, engine_full, sorting_key, partition_key, as_select, create]) = rows.into_iter().next() else {
            return Ok(None);
        };
        let columns = self::rows(&mut self.client, COLUMNS, &named, &what).await?;
        Ok(Some(Found { engine, engine_full, sorting_key, partition_key, as_select, create, columns }))
    }
}

async fn rows<T: serde::de::DeserializeOwned>(
    client: &mut Client,
    sql: &str,
    parameters: &[(&str, &str)],
    what: &str,
) -> Result<Vec<T>, SchemaError> {
    let failed = |failure| SchemaError::Failed { what: what.to_owned(), failure: Box::new(failure) };
    let answer = client.query(sql, parameters).await.map_err(|cause| failed(cause.into()))?;
    if let Some(failure) = Failure::of_query(&answer) {
        return Err(failed(failure));
    }
    let parsed = answer.text.lines().map(serde_json::from_str).collect::<Result<Vec<T>, _>>();
    parsed.map_err(|source| SchemaError::Answer { what: what.to_owned(), source })
}

const TABLES: &str = "SELECT engine, engine_full, sorting_key, partition_key, as_select, create_table_query \
    FROM system.tables WHERE database = {d:String} AND name = {t:String} FORMAT JSONCompactEachRow";
const COLUMNS: &str = "SELECT name, type FROM system.columns WHERE database = {d:String} AND table = {t:String} \
    ORDER BY position FORMAT JSONCompactEachRow";
