//! Odd JSON through the whole program: each event is the row that docs/values.md says, or a dead-letter record of a true
//! class. tests/odd_values.jsonl holds a case a line: column, JSON text, and the row's value or the class; without a column the
//! text is the whole event, with `@` for the key that names the row.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::harness::raw::Raw;
use crate::values::{bench_with, rejected};

const COLUMNS: &str = "s String, fs FixedString(8), ls LowCardinality(String), i Int64, u UInt8, w UInt128, f Float64, f32 Float32, \
     d Decimal(18, 4), b Bool, t DateTime64(3, 'UTC'), dd Date, uid UUID, e Enum8('a' = 1, 'b c' = 2, 'z' = -5), ip4 IPv4, ip6 IPv6, \
     n Nullable(Int32), a Array(String), m Map(String, String), j JSON";

#[test]
fn odd_texts_are_rows_or_rejected_as_documented() {
    let cases: Vec<(String, String, String, Value)> =
        include_str!("../odd_values.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() > 400, "{} cases", cases.len());
    let bench = bench_with("odd", COLUMNS);
    let consumer = bench.start(&[]);
    // Good events between them: a topic in which nothing can be read is another matter.
    let events = (0..).zip(&cases).flat_map(|(id, (column, text, ..))| {
        let event = match &**column {
            "" => text.replace('@', &format!("\"id\": {id}")),
            column => format!("{{\"id\": {id}, \"{column}\": {text}}}"),
        };
        [Raw::of(event), Raw::of(format!("{{\"id\": {}, \"s\": \"good\"}}", 1_000_000 + id))]
    });
    let events: Vec<Raw> = events.collect();
    for some in events.chunks(200) {
        bench.kafka.write(&bench.topic, 0, 1_768_954_900_524, some);
    }
    bench.wait_committed_to_the_end(&consumer, Duration::from_secs(60));
    consumer.stop();
    let rejected = rejected(&bench);
    let mut rows = BTreeMap::new();
    let sql = format!(
        "SELECT * FROM {}.events WHERE id < 1000000 SETTINGS output_format_json_quote_64bit_integers = 1, \
         output_format_json_quote_64bit_floats = 1, output_format_json_quote_decimals = 1 FORMAT JSONEachRow",
        bench.database
    );
    bench.clickhouse.each_line(&sql, |line| {
        let row: Value = serde_json::from_str(line).unwrap();
        rows.insert(row["id"].as_u64().unwrap(), row);
    });
    let mut wrong = Vec::new();
    for (id, (column, text, outcome, value)) in (0..).zip(&cases) {
        let column = if column.is_empty() { "s" } else { column };
        let found = match (rows.get(&id), rejected.get(&(2 * id))) {
            (Some(row), None) => ("row", row[column].clone()),
            (None, Some(class)) => (&**class, Value::Null),
            other => panic!("{column} <- {text}: {other:?}"),
        };
        if found != (&**outcome, value.clone()) {
            wrong.push(format!("{column} <- {text}: {found:?} instead of {outcome} {value}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(rows.len() + rejected.len(), cases.len());
}
