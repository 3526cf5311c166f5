//! What the shipped statements create, what a server has under their names, and how the two differ: pure.

use super::WINDOW;

/// One shipped statement and what it creates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The statement.
    pub(super) statement: String,
    /// DATABASE, TABLE, MATERIALIZED VIEW.
    pub(super) kind: &'static str,
    /// Quoted and qualified.
    pub(super) name: String,
}

impl Wanted {
    /// Reads a shipped statement; `None` when it creates nothing.
    pub(super) fn read(statement: &str) -> Option<Self> {
        ["DATABASE", "TABLE", "MATERIALIZED VIEW"].into_iter().find_map(|kind| {
            let rest = statement.strip_prefix("CREATE ")?.strip_prefix(kind)?.strip_prefix(" IF NOT EXISTS ")?;
            Some(Self { statement: statement.to_owned(), kind, name: identifier(rest).to_owned() })
        })
    }

    /// Kind and name, for people.
    pub(super) fn what(&self) -> String {
        format!("{} {}", self.kind.to_lowercase(), self.name)
    }

    /// The target table of a view, quoted and qualified as the shipped SQL has it.
    pub(super) fn target(&self) -> Option<&str> {
        let (_, rest) = self.statement.split_once(" TO ")?;
        (self.kind == "MATERIALIZED VIEW").then(|| identifier(rest))
    }

    /// The SELECT of a view.
    pub(super) fn select(&self) -> Option<&str> {
        (self.kind == "MATERIALIZED VIEW").then(|| self.statement.split_once(" AS\n").map(|(_, select)| select))?
    }

    /// Columns, engine and keys of a table.
    pub(super) fn table(&self) -> Option<Table<'_>> {
        let (_, rest) = self.statement.split_once("\n(\n")?;
        let (columns, rest) = rest.split_once("\n)\n")?;
        let clause = |word: &str| rest.lines().find_map(|line| line.strip_prefix(word)).unwrap_or("");
        let order = clause("ORDER BY ");
        Some(Table {
            columns: columns.lines().filter_map(Column::read).collect(),
            engine: clause("ENGINE = ").split('(').next().unwrap_or(""),
            partition_key: clause("PARTITION BY "),
            sorting_key: order.strip_prefix('(').and_then(|keys| keys.strip_suffix(')')).unwrap_or(order),
        })
    }
}

/// The name at the start of a text, up to white space outside backticks.
pub(super) fn identifier(text: &str) -> &str {
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

/// A table as shipped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table<'a> {
    pub(super) columns: Vec<Column<'a>>,
    pub(super) engine: &'a str,
    pub(super) partition_key: &'a str,
    pub(super) sorting_key: &'a str,
}

/// One column as shipped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) data_type: &'a str,
    /// The expression of its DEFAULT.
    pub(super) default: Option<&'a str>,
}

impl<'a> Column<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, rest) = line.trim().trim_end_matches(',').split_once(' ')?;
        let (data_type, default) = match rest.split_once(" DEFAULT ") {
            Some((data_type, default)) => (data_type, Some(default)),
            None => (rest, None),
        };
        Some(Self { name, data_type: data_type.trim(), default })
    }
}

/// What the server has under a name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As in system.tables; empty when the user may not see it.
    pub(super) engine: String,
    pub(super) engine_full: String,
    pub(super) sorting_key: String,
    pub(super) partition_key: String,
    pub(super) as_select: String,
    pub(super) create: String,
    /// Name and type.
    pub(super) columns: Vec<(String, String)>,
}

impl Found {
    /// The engine without the prefix of those that keep several copies.
    fn base_engine(&self) -> &str {
        let engine = self.engine.as_str();
        engine.strip_prefix("Replicated").or_else(|| engine.strip_prefix("Shared")).unwrap_or(engine)
    }

    /// A plain MergeTree that forgets the tokens of its inserts. What is not known counts as fine.
    pub(super) fn lacks_window(&self) -> bool {
        let plain = self.engine.ends_with("MergeTree") && self.base_engine() == self.engine;
        let value = self.engine_full.rsplit_once(WINDOW);
        let value = value.and_then(|(_, rest)| rest.trim_start_matches([' ', '=']).chars().next());
        plain && value.is_none_or(|first| first == '0')
    }

    /// Whether it has all of these columns and no others.
    pub(super) fn has_columns_of(&self, table: &Table<'_>) -> bool {
        let known = |name: &str| table.columns.iter().any(|column| column.name == name);
        self.columns.len() == table.columns.len() && self.columns.iter().all(|(name, _)| known(name))
    }

    /// The columns of the shipped table that this one lacks.
    pub(super) fn lacks<'a>(&self, table: &Table<'a>) -> Vec<&'a str> {
        let has = |name: &str| self.columns.iter().any(|(found, _)| found == name);
        table.columns.iter().map(|column| column.name).filter(|name| !has(name)).collect()
    }

    /// The target of a materialized view, without quotes.
    pub(super) fn target(&self) -> Option<String> {
        let (_, rest) = self.create.split_once(" TO ")?;
        (self.engine == "MaterializedView").then(|| unquoted(identifier(rest)))
    }
}

/// A name or a query without backticks: the server sets them where it needs them, the shipped SQL everywhere.
pub(super) fn unquoted(text: &str) -> String {
    text.replace('`', "")
}

/// In what a table differs from the shipped one, one line each.
pub(super) fn differences(table: &Table<'_>, found: &Found) -> Vec<String> {
    if found.engine.is_empty() {
        return vec!["it cannot be compared: the user does not see it in system.tables".to_owned()];
    }
    let mut lines = Vec::new();
    if found.base_engine() != table.engine {
        lines.push(format!("its engine is {}, shipped is {}", found.engine, table.engine));
    }
    for column in &table.columns {
        match found.columns.iter().find(|(name, _)| name == column.name) {
            None => lines.push(format!("it lacks the column {} {}", column.name, column.data_type)),
            Some((_, data_type)) if data_type != column.data_type => {
                lines.push(format!("its column {} is {data_type}, shipped is {}", column.name, column.data_type));
            }
            Some(_) => {}
        }
    }
    for (name, data_type) in &found.columns {
        if !table.columns.iter().any(|column| column.name == name) {
            lines.push(format!("it has the column {name} {data_type} besides"));
        }
    }
    let keys = [
        ("ORDER BY", &found.sorting_key, table.sorting_key),
        ("PARTITION BY", &found.partition_key, table.partition_key),
    ];
    for (word, found, shipped) in keys {
        if found != shipped {
            let named = |key: &str| if key.is_empty() { "missing".to_owned() } else { format!("({key})") };
            lines.push(format!("its {word} is {}, shipped is {}", named(found), named(shipped)));
        }
    }
    if found.lacks_window() {
        lines.push("it does not recognise repeated inserts".to_owned());
    }
    lines
}

/// The statements that mend of a table's differences what can be mended in place.
pub(super) fn repairs(name: &str, table: &Table<'_>, found: &Found) -> Vec<String> {
    let mut statements = Vec::new();
    let mut lacking = Vec::new();
    let mut counters = Vec::new();
    for column in &table.columns {
        match found.columns.iter().find(|(name, _)| name == column.name) {
            // Of a view's target they would stay empty: its view does not fill them.
            None if !table.engine.starts_with("Aggregating") && !table.engine.starts_with("Summing") => {
                let default = column.default.map_or_else(String::new, |default| format!(" DEFAULT {default}"));
                lacking.push(format!("ADD COLUMN {} {}{default}", column.name, column.data_type));
            }
            // A merge of an AggregatingMergeTree keeps one value of plain numbers.
            Some((_, data_type)) if column.data_type == format!("SimpleAggregateFunction(sum, {data_type})") => {
                counters.push(format!("MODIFY COLUMN {} {}", column.name, column.data_type));
            }
            _ => {}
        }
    }
    for changes in [lacking, counters] {
        if !changes.is_empty() {
            statements.push(format!("ALTER TABLE {name} {}", changes.join(", ")));
        }
    }
    if found.lacks_window() {
        statements.push(format!("ALTER TABLE {name} MODIFY SETTING {WINDOW} = 10000"));
    }
    statements
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
