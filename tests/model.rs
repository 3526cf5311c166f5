//! What the real server holds in the end equals a second, independent reading of the rules: 20,000 random events on a
//! table with every supported type. MODEL_SEED repeats a run, MODEL_EVENTS sets another number of events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]

#[path = "model/events.rs"]
mod events;
#[path = "model/json.rs"]
mod json;
#[path = "model/rules.rs"]
mod rules;
mod support;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use events::{Column, Event, columns, event};
use json::{Chance, Json};
use rules::{Held, answered, convert, zero};
use sandarb_consumer::clickhouse::inserter::Ended;
use serde_json::Value;
use support::bench::{Bench, now, place, rows_for};
use support::clickhouse::Server;

/// Rows of a block: few enough that some columns are empty in some blocks.
const BLOCK: usize = 500;

#[tokio::test]
async fn the_server_holds_what_the_model_says() {
    let seed = variable("MODEL_SEED").unwrap_or_else(|| {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() % u128::from(u64::MAX)).unwrap()
    });
    let events = usize::try_from(variable("MODEL_EVENTS").unwrap_or(20_000)).unwrap();
    println!("MODEL_SEED={seed}");
    let columns = columns();
    let server = Server::start().await;
    create(&server, &columns).await;
    let mut bench = Bench::new(server.config("sandarb", "events"));
    let schema = bench.schema().await;
    assert!(schema.left_out.is_empty(), "{:?}", schema.left_out);

    let mut chance = Chance(seed);
    let mut rows = rows_for(&schema);
    let (mut number, mut faults) = (0, Vec::new());
    let (mut accepted, mut rejected) = (0, 0);
    while number < events {
        let mut expected = Vec::new();
        let mut texts = BTreeMap::new();
        // Of one size and of others: a block of one row has most columns empty.
        let size = if chance.percent(20) { 1 + chance.below(5) as usize } else { BLOCK };
        for _ in 0..size {
            let event = event(&mut chance, &columns, number);
            number += 1;
            let (model, program) = (judge(&columns, &event), rows.push(&place(0), &event.bytes));
            let text = String::from_utf8_lossy(&event.bytes).into_owned();
            match (&model, &program) {
                (Some(row), Ok(())) => {
                    accepted += 1;
                    let key = format!("{:08}", number - 1);
                    expected.push((key.clone(), row.clone()));
                    texts.insert(key, text);
                }
                (None, Err(_)) => rejected += 1,
                (Some(_), Err(reject)) => {
                    faults.push(format!("the program rejects: {reject}\n  {text}"));
                }
                (None, Ok(())) => {
                    faults
                        .push(format!("the model rejects, the program does not: {}\n  {text}", why(&columns, &event)));
                    texts.insert(format!("{:08}", number - 1), text);
                }
            }
        }
        if rows.is_empty() {
            continue;
        }
        match bench.insert(&rows.encode(now()), &format!("block-{number}")).await {
            Ended::Stored { .. } => {}
            other => panic!("seed {seed}: the server refuses a block: {other:?}\n{faults:#?}"),
        }
        faults.extend(compare(&server, &columns, &expected, &texts).await);
        server.query("TRUNCATE TABLE sandarb.events").await;
        assert!(faults.len() < 10, "seed {seed}:\n{}", faults.join("\n"));
    }
    assert!(faults.is_empty(), "seed {seed}:\n{}", faults.join("\n"));
    println!("{accepted} rows equal, {rejected} rejected by both");
    assert!(accepted > events / 4 && rejected > events / 20, "the events test too little: {accepted}, {rejected}");
}

async fn create(server: &Server, columns: &[Column]) {
    server.query("CREATE DATABASE sandarb").await;
    let list: Vec<String> = columns.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
    server
        .query(&format!(
            "CREATE TABLE sandarb.events (k String, {}) ENGINE = MergeTree ORDER BY k \
             SETTINGS allow_suspicious_low_cardinality_types = 1",
            list.join(", ")
        ))
        .await;
}

type Row = BTreeMap<String, Option<Held>>;

/// The row an event becomes, as far as it says; none when it is to be rejected.
fn judge(columns: &[Column], event: &Event) -> Option<Row> {
    let mut row = Row::new();
    // Of a repeated key the last counts, and it alone.
    let last: BTreeMap<&String, &Json> = event.pairs.as_ref()?.iter().map(|(key, value)| (key, value)).collect();
    for column in columns {
        let value = match last.get(&column.name) {
            None => None,
            // null is a value of a Nullable column: only where there is no key its DEFAULT holds.
            Some(json) => convert(&column.kind, json).ok()?.or_else(|| nullable(column).then_some(Held::Null)),
        };
        row.insert(column.name.clone(), value);
    }
    Some(row)
}

fn nullable(column: &Column) -> bool {
    matches!(column.kind, rules::Type::Nullable(_))
}

/// The first column whose value the model does not take.
fn why(columns: &[Column], event: &Event) -> String {
    let Some(pairs) = &event.pairs else { return "the event as a whole".to_owned() };
    let last: BTreeMap<&String, &Json> = pairs.iter().map(|(key, value)| (key, value)).collect();
    let bad = columns.iter().find_map(|column| {
        let json = last.get(&column.name)?;
        convert(&column.kind, json).is_err().then(|| format!("{} {} <- {}", column.name, column.sql, json.write()))
    });
    bad.unwrap_or_default()
}

/// What differs between the server's rows and the expected ones.
async fn compare(
    server: &Server,
    columns: &[Column],
    expected: &[(String, Row)],
    texts: &BTreeMap<String, String>,
) -> Vec<String> {
    let floats = |column: &Column| column.sql.contains("Float") && !column.sql.contains('(');
    let list: Vec<String> = columns
        .iter()
        .map(|column| match floats(column) {
            true => format!("toString({0}) AS {0}", column.name),
            false => column.name.clone(),
        })
        .collect();
    let sql = format!(
        "SELECT k, {} FROM (SELECT * FROM sandarb.events) ORDER BY k SETTINGS date_time_output_format = 'iso', \
         output_format_json_quote_64bit_integers = 1, output_format_json_quote_64bit_floats = 1, \
         output_format_json_quote_decimals = 1 FORMAT JSONEachRow",
        list.join(", ")
    );
    let answer = server.query(&sql).await;
    let found: BTreeMap<String, Value> = answer
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            (row["k"].as_str().unwrap().to_owned(), row)
        })
        .collect();
    let mut faults = Vec::new();
    if found.len() != texts.len() {
        faults.push(format!("{} rows instead of {}", found.len(), texts.len()));
    }
    for column in columns {
        // Whatever the other rows of the block have.
        let missing = match &column.default {
            Some(json) => convert(&column.kind, json).unwrap().unwrap(),
            None => zero(&column.kind),
        };
        for (key, row) in expected {
            let Some(seen) = found.get(key) else { continue };
            let seen = answered(&column.kind, &seen[&column.name]);
            let wanted = row[&column.name].as_ref().unwrap_or(&missing);
            if seen != *wanted {
                faults
                    .push(format!("{} {}: {seen:?} instead of {wanted:?}\n  {}", column.name, column.sql, texts[key]));
                if faults.len() > 9 {
                    return faults;
                }
            }
        }
    }
    faults
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
