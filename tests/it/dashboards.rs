//! The original installation's dashboards: what its charts ask is answered, and rightly, on a new installation, on the
//! original's tables after their repair, and beside the tables of earlier versions of this program.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sample_events::Event;

use crate::harness::{Bench, ClickHouse, Consumer, Kafka, project};
use crate::schema_command::{error, lines, schema};
use crate::tables::{DENIALS, INJECTS};

const LIMIT: Duration = Duration::from_secs(90);
const TARGETS: [&str; 5] = ["daily_kpis", "agent_activity", "top_contexts", "governance_proofs", "denial_reasons"];

fn apply(bench: &Bench<'_>, arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let output = schema(bench.clickhouse, arguments, &[("CLICKHOUSE_DATABASE", &bench.database)]);
    (output.status.code(), lines(&output), error(&output))
}

fn file(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs statements of a text with `sandarb.` as their database, comments left out.
fn run(bench: &Bench<'_>, sql: &str) {
    let code: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    for statement in code.join("\n").split(";\n").map(|statement| statement.trim().trim_end_matches(';')) {
        if !statement.is_empty() {
            bench.clickhouse.query(&statement.replace("sandarb.", &format!("{}.", bench.database)));
        }
    }
}

/// Passes events through the program in several batches.
fn pass(bench: &Bench<'_>, events: u64) {
    bench.produce(events);
    let consumer: Consumer = bench.start(&[("BATCH_SIZE", "500")]);
    let wanted = bench.all().end;
    bench.wait_rows(&consumer, wanted, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..wanted);
}

fn optimize(bench: &Bench<'_>, tables: &[&str]) {
    for table in tables {
        bench.clickhouse.query(&format!("OPTIMIZE TABLE {}.{table} FINAL", bench.database));
    }
}

/// Sums by key, as rows of text, from the events themselves.
fn sums<'e>(
    events: impl Iterator<Item = &'e Event>,
    key: impl Fn(&Event) -> Option<Vec<String>>,
) -> BTreeSet<Vec<String>> {
    let mut sums: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    for key in events.filter_map(key) {
        *sums.entry(key).or_default() += 1;
    }
    sums.into_iter().map(|(key, sum)| key.into_iter().chain([sum.to_string()]).collect()).collect()
}

/// What the charts ask, against what was produced, after every merge that there can be.
fn assert_charts(bench: &Bench<'_>) {
    optimize(bench, &TARGETS);
    let events: Vec<Event> = bench.all().map(|index| bench.source.event(index)).collect();
    let time = |event: &Event, form: &str| {
        chrono::DateTime::from_timestamp_millis(event.event_time).unwrap().format(form).to_string()
    };
    let day = |event: &Event| time(event, "%Y-%m-%d");
    let hour = |event: &Event| time(event, "%Y-%m-%d %H:00:00");
    let text = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let of =
        |event: &Event, types: &[&str], key: &[&str]| types.contains(&event.event_type).then(|| text(key)).flatten();
    let asked = |sql: &str| -> BTreeSet<Vec<String>> {
        let sql = sql.replace("sandarb.", &format!("{}.", bench.database));
        let form = "FORMAT JSONCompactEachRow SETTINGS output_format_json_quote_64bit_integers = 1";
        let answer = bench.clickhouse.query(&format!("{sql} {form}"));
        answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(
        asked(
            "SELECT day, org_id, event_type, SUM(event_count) FROM sandarb.daily_kpis GROUP BY day, org_id, event_type"
        ),
        sums(events.iter(), |event| text(&[&day(event), &event.org_id, event.event_type]))
    );
    assert_eq!(
        asked(
            "SELECT toTimeZone(hour, 'UTC') AS at, agent_id, event_type, SUM(event_count) FROM sandarb.agent_activity GROUP BY at, agent_id, event_type"
        ),
        sums(events.iter(), |event| text(&[&hour(event), &event.agent_id, event.event_type]))
    );
    assert_eq!(
        asked("SELECT denial_reason, SUM(denial_count) FROM sandarb.denial_reasons GROUP BY denial_reason"),
        sums(events.iter(), |event| of(event, &DENIALS, &[event.denial_reason]))
    );
    assert_eq!(
        asked("SELECT context_name, SUM(inject_count) FROM sandarb.top_contexts GROUP BY context_name"),
        sums(events.iter(), |event| of(event, &INJECTS, &[event.context_name]))
    );
    assert_eq!(
        asked(
            "SELECT context_name, governance_hash, SUM(delivery_count) FROM sandarb.governance_proofs GROUP BY context_name, governance_hash"
        ),
        sums(events.iter(), |event| of(event, &["INJECT_SUCCESS"], &[event.context_name, &event.governance_hash]))
    );
    let unique = |of: fn(&Event) -> &str| events.iter().map(of).collect::<BTreeSet<_>>().len().to_string();
    let rendered = events.iter().filter(|event| event.template_rendered).count().to_string();
    assert_eq!(
        asked(
            "SELECT SUM(rendered_count), uniqExactMerge(unique_agents), uniqExactMerge(unique_contexts) FROM sandarb.daily_kpis"
        ),
        BTreeSet::from([vec![rendered, unique(|event| &event.agent_id), unique(|event| event.context_name)]])
    );
    assert_eq!(
        asked("SELECT COUNT(event_id), COUNT(DISTINCT agent_id) FROM sandarb.events"),
        BTreeSet::from([vec![events.len().to_string(), unique(|event| &event.agent_id)]])
    );
}

#[test]
fn the_charts_of_a_new_installation() {
    let bench = Bench::bare("charts", Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic(&bench.topic, 12);
    let (code, said, faults) = apply(&bench, &["--views", "--apply"]);
    assert_eq!((code, faults.as_str()), (Some(0), ""), "{said:?}");
    pass(&bench, 3_000);
    assert_charts(&bench);
}

/// The original's tables as its installations have them: no windows, plain counters. A new server takes daily_kpis only
/// with a setting, an old one has it.
#[test]
fn the_charts_of_the_originals_installation_after_the_repair_that_is_printed() {
    let bench = Bench::bare("original", Kafka::shared(), ClickHouse::shared());
    bench.kafka.create_topic(&bench.topic, 12);
    bench.clickhouse.query(&format!("CREATE DATABASE {}", bench.database));
    let window = "non_replicated_deduplication_window = 10000";
    let plain = "SETTINGS allow_dimensions_outside_sorting_key = 1";
    let original = (file("sql/events.sql") + &file("sql/views.sql"))
        .replace("CREATE DATABASE IF NOT EXISTS sandarb;\n", "")
        .replace("SimpleAggregateFunction(sum, UInt64)", "UInt64")
        .replace(
            &format!("\nORDER BY (org_id, event_type, day, data_classification)\nSETTINGS {window}"),
            &format!("\nORDER BY (org_id, event_type, day, data_classification)\n{plain}"),
        )
        .replace(&format!("\nSETTINGS {window}"), "");
    assert!(!original.contains(&format!("SETTINGS {window}")) && original.contains(plain));
    run(&bench, &original);
    let (code, said, faults) = apply(&bench, &["--views", "--apply"]);
    assert_eq!((code, faults.as_str()), (Some(0), ""), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("created") || line.starts_with("not created")), "{said:?}");
    let difference = "  its column event_count is UInt64, shipped is SimpleAggregateFunction(sum, UInt64)";
    assert!(said.iter().any(|line| line == difference), "{said:#?}");
    let repairs: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("  to change that: ")).collect();
    assert_eq!(repairs.len(), 7, "six windows and the counters: {repairs:#?}");
    repairs.iter().for_each(|statement| drop(bench.clickhouse.query(statement)));
    let (code, said, _) = apply(&bench, &["--views", "--apply"]);
    assert_eq!(code, Some(0));
    assert!(said.iter().all(|line| line.starts_with("left alone: ")), "nothing differs any more: {said:#?}");
    pass(&bench, 3_000);
    assert_charts(&bench);
}

#[test]
fn tables_of_an_earlier_version_are_renamed_before_anything_is_created() {
    let bench = Bench::shared("earlier");
    run(&bench, &file("tests/data/earlier-views.sql"));
    pass(&bench, 1_000);
    let of = format!("FROM system.tables WHERE database = '{}' ORDER BY name", bench.database);
    let there = || bench.clickhouse.rows(&format!("SELECT name, uuid, create_table_query, total_rows {of}"));
    let before = there();
    for arguments in [&["--views", "--apply"][..], &["--reports", "--apply"], &["--apply", "--views", "--reports"]] {
        let (code, said, faults) = apply(&bench, arguments);
        assert_eq!(code, Some(1), "{said:?}");
        assert!(faults.contains("nothing was created"), "{faults}");
        assert!(
            said.iter().any(|line| line.contains("it lacks the column event_count SimpleAggregateFunction")),
            "{said:#?}"
        );
        assert_eq!(there(), before, "nothing is dropped, created or renamed");
    }
    // One rename alone: what is left is asked for.
    let (_, said, _) = apply(&bench, &["--views", "--apply"]);
    let statements = |said: &[String]| -> Vec<String> {
        let of = |line: &&String| line.starts_with("  DROP VIEW ") || line.starts_with("  RENAME TABLE ");
        said.iter().filter(of).map(|line| line.trim().trim_end_matches(';').to_owned()).collect()
    };
    let all = statements(&said);
    assert_eq!(all.len(), 10, "{said:#?}");
    bench.clickhouse.query(&all[1]);
    let (code, said, _) = apply(&bench, &["--views", "--apply"]);
    assert_eq!((code, statements(&said).len()), (Some(1), 9), "a view still writes to the old name: {said:#?}");
    for statement in statements(&said) {
        bench.clickhouse.query(&statement);
    }
    let (code, said, faults) = apply(&bench, &["--views", "--reports", "--apply"]);
    assert_eq!((code, faults.as_str()), (Some(0), ""), "{said:#?}");
    assert_eq!(said.iter().filter(|line| line.starts_with("created: ")).count(), 5 + 5 + 5, "{said:#?}");
    assert!(!said.iter().any(|line| line.starts_with("  ")), "what is there is as shipped: {said:#?}");
    // What was counted before is kept, and counting goes on in both.
    pass(&bench, 1_000);
    optimize(&bench, &["daily_kpis", "kpis_by_day"]);
    let number = |sql: &str| bench.clickhouse.number(&sql.replace("sandarb.", &format!("{}.", bench.database)));
    assert_eq!(number("SELECT sum(events) FROM sandarb.kpis_by_day"), 2_000);
    assert_eq!(number("SELECT sum(event_count) FROM sandarb.daily_kpis"), 1_000);
}
