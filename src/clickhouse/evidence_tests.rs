use super::*;
use crate::clickhouse::client::Answer;
use crate::columns::Missing;

fn columns() -> Vec<SchemaColumn> {
    let of = |(name, type_name): &(&str, &str)| SchemaColumn {
        name: (*name).to_owned(),
        type_name: (*type_name).to_owned(),
        wire_type: (*type_name).to_owned(),
        data_type: DataType::parse(type_name).unwrap(),
        missing: Missing::Zero,
    };
    [("org_id", "String"), ("n", "UInt32"), ("event_time", "DateTime64(3, 'UTC')")].iter().map(of).collect()
}

fn parts(engine: &str, keys: &str, partition_key: &str, more: &str) -> Parts {
    let full = format!("{engine} {keys} SETTINGS index_granularity = 8192, x = 'ifNull(a)'");
    let definition = format!("CREATE TABLE a.b (`org_id` String{more}) ENGINE = {full}");
    Parts::of(engine, &full, partition_key, &definition, &columns())
}

#[test]
fn what_a_row_can_make_fail_part_by_part() {
    let month = "toYYYYMM(event_time)";
    let shipped = "PARTITION BY toYYYYMM(event_time) ORDER BY (org_id, n, event_time) TTL toDateTime(event_time) + toIntervalYear(2)";
    assert_eq!(parts("MergeTree", shipped, month, ""), Parts::AllOrNothing);
    assert_eq!(parts("MergeTree", shipped, "", ", INDEX i intDiv(1, n) TYPE minmax"), Parts::AllOrNothing, "one part");
    for (keys, more) in [
        (shipped, ", INDEX i n TYPE minmax GRANULARITY 1"),
        (shipped, ", PROJECTION p (SELECT n ORDER BY n)"),
        (shipped, ", `d` Date TTL d + 1"),
        ("PARTITION BY toYYYYMM(event_time) ORDER BY (intDiv(1, n), org_id)", ""),
        ("PARTITION BY toYYYYMM(event_time) ORDER BY toDate(org_id)", ""),
        ("PARTITION BY toYYYYMM(event_time) ORDER BY (toDate(n), org_id)", ""),
        ("PARTITION BY toYYYYMM(event_time) ORDER BY 1 / n", ""),
        ("PARTITION BY toYYYYMM(event_time) ORDER BY `odd name`", ""),
        ("PARTITION BY toYYYYMM(event_time) ORDER BY n TTL toDateTime(event_time) + toIntervalDay(n)", ""),
    ] {
        assert_eq!(parts("MergeTree", keys, month, more), Parts::OneByOne, "{keys} {more}");
    }
    // Engines that merge as they insert look at values then: a sign that is no sign throws.
    assert_eq!(parts("CollapsingMergeTree", shipped, month, ""), Parts::OneByOne);
    assert_eq!(parts("Distributed", "", "", ""), Parts::Unknown);
    let replicated = format!("ReplicatedMergeTree('/clickhouse/tables/(x)', 'r1') {shipped}");
    let definition = format!("CREATE TABLE a.b (`n` UInt32) ENGINE = {replicated}");
    assert_eq!(Parts::of("ReplicatedMergeTree", &replicated, month, &definition, &columns()), Parts::AllOrNothing);
}

#[test]
fn what_proves_that_nothing_is_stored() {
    let proves = |parts: Parts, code: u32, status, text: &str, rows| {
        let answer = Answer { status, code: Some(code), text: text.to_owned(), ..Answer::default() };
        parts.prove_nothing_stored(&Failure::of_insert(&answer, rows).expect("a failure"), rows)
    };
    assert!(proves(Parts::AllOrNothing, 153, 500, "Division by zero", 1000));
    assert!(!proves(Parts::AllOrNothing, 153, 200, "Division by zero", 1000), "the server had begun to answer");
    assert!(!proves(Parts::AllOrNothing, 49, 500, "Logical error", 1));
    assert!(!proves(Parts::AllOrNothing, 16, 500, "No such column b: Insertion status: 0 rows", 1));
    assert!(proves(Parts::OneByOne, 153, 500, "Division by zero", 2));
    assert!(!proves(Parts::OneByOne, 153, 500, "Division by zero", 3));
    assert!(!proves(Parts::Unknown, 153, 500, "Division by zero", 1));
}
