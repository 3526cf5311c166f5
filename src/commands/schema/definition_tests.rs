use super::super::{Parts, sql, statements};
use super::*;

fn shipped(name: &str) -> Wanted {
    let all = sql("sandarb", "events", Parts { views: true, reports: true });
    let wanted = statements(&all)
        .iter()
        .filter_map(|statement| Wanted::read(statement))
        .find(|wanted| wanted.name.ends_with(name));
    wanted.unwrap()
}

fn as_found(table: &Table<'_>) -> Found {
    Found {
        engine: table.engine.to_owned(),
        engine_full: format!("{} SETTINGS {WINDOW} = 10000, index_granularity = 8192", table.engine),
        sorting_key: table.sorting_key.to_owned(),
        partition_key: table.partition_key.to_owned(),
        columns: table.columns.iter().map(|column| (column.name.to_owned(), column.data_type.to_owned())).collect(),
        ..Found::default()
    }
}

#[test]
fn a_statement_of_a_table_is_read() {
    let wanted = shipped(".`events`");
    let table = wanted.table().unwrap();
    assert_eq!((table.columns.len(), table.engine), (27, "MergeTree"));
    assert_eq!(table.sorting_key, "org_id, event_type, event_time, event_id");
    assert_eq!(table.partition_key, "toYYYYMM(event_time)");
    let time = table.columns.iter().find(|column| column.name == "event_time").unwrap();
    assert_eq!(time.data_type, "DateTime64(3, 'UTC')");
    assert_eq!(time.default, Some("now64(3)"));
    assert_eq!((wanted.target(), wanted.select()), (None, None));
}

#[test]
fn a_statement_of_a_view_is_read() {
    let wanted = shipped(".top_contexts_mv");
    assert_eq!(wanted.target(), Some("`sandarb`.top_contexts"));
    assert!(wanted.select().unwrap().starts_with("SELECT\n    context_name,"), "{:?}", wanted.select());
    assert_eq!(wanted.table(), None);
    assert_eq!(wanted.what(), "materialized view `sandarb`.top_contexts_mv");
}

#[test]
fn the_target_of_a_found_view_is_read() {
    let create = "CREATE MATERIALIZED VIEW `a-b`.v TO `a-b`.t (`TO` Date) AS SELECT 1 AS `TO`";
    let found = Found { engine: "MaterializedView".to_owned(), create: create.to_owned(), ..Found::default() };
    assert_eq!(found.target(), Some("a-b.t".to_owned()));
}

#[test]
fn what_is_as_shipped_does_not_differ() {
    for name in [".`events`", ".daily_kpis", ".denial_reasons", ".kpis_by_day", ".denials_by_day", ".proofs"] {
        let wanted = shipped(name);
        let table = wanted.table().unwrap();
        let found = as_found(&table);
        assert_eq!(differences(&table, &found), [""; 0], "{name}");
        assert_eq!(repairs(name, &table, &found), [""; 0], "{name}");
        let replicated = Found { engine: format!("Replicated{}", found.engine), engine_full: String::new(), ..found };
        assert_eq!(differences(&table, &replicated), [""; 0], "{name}");
    }
}

#[test]
fn the_originals_counters_and_windows_are_repaired() {
    let wanted = shipped(".daily_kpis");
    let table = wanted.table().unwrap();
    let mut found = as_found(&table);
    found.engine_full = "AggregatingMergeTree SETTINGS index_granularity = 8192".to_owned();
    for (name, data_type) in &mut found.columns {
        if name.ends_with("_count") {
            *data_type = "UInt64".to_owned();
        }
    }
    assert_eq!(
        differences(&table, &found),
        [
            "its column event_count is UInt64, shipped is SimpleAggregateFunction(sum, UInt64)",
            "its column rendered_count is UInt64, shipped is SimpleAggregateFunction(sum, UInt64)",
            "it does not recognise repeated inserts"
        ]
    );
    assert_eq!(
        repairs("t", &table, &found),
        [
            "ALTER TABLE t MODIFY COLUMN event_count SimpleAggregateFunction(sum, UInt64), \
             MODIFY COLUMN rendered_count SimpleAggregateFunction(sum, UInt64)",
            "ALTER TABLE t MODIFY SETTING non_replicated_deduplication_window = 10000"
        ]
    );
}

#[test]
fn columns_engine_and_keys_are_compared() {
    let wanted = shipped(".`events`");
    let table = wanted.table().unwrap();
    let mut found = as_found(&table);
    found.columns.retain(|(name, _)| name != "metadata");
    found.columns.push(("note".to_owned(), "String".to_owned()));
    found.engine = "Distributed".to_owned();
    found.sorting_key = String::new();
    assert_eq!(
        differences(&table, &found),
        [
            "its engine is Distributed, shipped is MergeTree",
            "it lacks the column metadata String",
            "it has the column note String besides",
            "its ORDER BY is missing, shipped is (org_id, event_type, event_time, event_id)"
        ]
    );
    let [repair] = &repairs("t", &table, &found)[..] else { panic!("one statement") };
    assert!(repair.starts_with("ALTER TABLE t ADD COLUMN metadata ") && repair.ends_with(" DEFAULT '{}'"), "{repair}");
    assert_eq!(found.lacks(&table), ["metadata"]);
    assert_eq!(differences(&table, &Found::default()).len(), 1, "what the user may not see");
}
