//! /metrics on the real program, read strictly: the format by its description, the figures against /health and the
//! table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::harness::{Bench, Consumer, http, same};

const LIMIT: Duration = Duration::from_secs(90);

/// Families and samples of one answer.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    types: BTreeMap<String, String>,
    /// By name and labels as they stand.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// What the program says now.
    pub(crate) fn of(consumer: &Consumer) -> Result<Self, String> {
        parse(&consumer.metrics()?)
    }

    /// One sample, named with its labels.
    pub(crate) fn get(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no {sample} among {:?}", self.samples.keys()))
    }

    fn sum(&self, family: &str) -> f64 {
        let of = |name: &&String| name.split('{').next() == Some(family);
        self.samples.keys().filter(of).map(|name| self.samples[name]).sum()
    }
}

/// The text format 0.0.4, <https://prometheus.io/docs/instrumenting/exposition_formats/>, and promtool's rules for names.
fn parse(text: &str) -> Result<Metrics, String> {
    let mut found = Metrics::default();
    let mut families = BTreeSet::new();
    let (mut helped, mut family) = (String::new(), String::new());
    if !text.ends_with('\n') {
        return Err("no newline at the end".to_owned());
    }
    for line in text.lines() {
        let fail = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return fail("no help") };
            if !is_name(name) || help.is_empty() || help.contains('\\') {
                return fail("a bad name or help");
            }
            if !families.insert(name.to_owned()) {
                return fail("a family twice");
            }
            name.clone_into(&mut helped);
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { return fail("no type") };
            if name != helped || !["counter", "gauge", "histogram"].contains(&kind) {
                return fail("a type without its help");
            }
            if (kind == "counter") != name.ends_with("_total") {
                return fail("a counter is named _total, and nothing else is");
            }
            name.clone_into(&mut family);
            found.types.insert(name.to_owned(), kind.to_owned());
            continue;
        }
        let Some((sample, value)) = line.rsplit_once(' ') else { return fail("no value") };
        let (name, labels) = match sample.split_once('{') {
            Some((name, labels)) => match labels.strip_suffix('}') {
                Some(labels) => (name, labels),
                None => return fail("labels without an end"),
            },
            None => (sample, ""),
        };
        let suffix = name.strip_prefix(family.as_str());
        let suffixes: &[&str] = match found.types.get(&family).map(String::as_str) {
            Some("histogram") => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        if !is_name(name) || !suffix.is_some_and(|suffix| suffixes.contains(&suffix)) {
            return fail("a sample outside of its family");
        }
        let are_labels = labels.split(',').all(|label| {
            label.split_once("=\"").is_some_and(|(name, value)| {
                is_name(name) && value.strip_suffix('"').is_some_and(|value| !value.contains(['"', '\\', '{']))
            })
        });
        if !labels.is_empty() && !are_labels {
            return fail("bad labels");
        }
        let Ok(value) = value.parse::<f64>() else { return fail("no number") };
        if found.samples.insert(sample.to_owned(), value).is_some() {
            return fail("a sample twice");
        }
    }
    if families.len() != found.types.len() {
        return Err("a help without its type".to_owned());
    }
    found.histograms()?;
    Ok(found)
}

impl Metrics {
    fn histograms(&self) -> Result<(), String> {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let start = format!("{name}_bucket{{le=\"");
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for (sample, count) in &self.samples {
                let Some(bound) = sample.strip_prefix(&start) else { continue };
                let bound = bound.trim_end_matches("\"}");
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| sample.clone())? };
                buckets.push((bound, *count));
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let rises = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1);
            let last = buckets.last().copied().unwrap_or_default();
            if !rises || last != (f64::INFINITY, self.get(&format!("{name}_count"))) {
                return Err(format!("{name}: {buckets:?}"));
            }
        }
        Ok(())
    }

    /// Nothing that counts has fallen or gone since then.
    fn assert_not_below(&self, before: &Self) {
        let counts = |sample: &&String| {
            let name = sample.split('{').next().unwrap_or("");
            ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
        };
        for sample in before.samples.keys().filter(counts) {
            assert!(self.get(sample) >= before.get(sample), "{sample}: {} < {}", self.get(sample), before.get(sample));
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn every_scrape_is_valid_and_tells_what_health_and_the_table_say() {
    const EVENTS: u64 = 60_000;
    let bench = Bench::shared("metrics");
    let consumer = bench.start(&[]);
    // From the first moment, without any partition.
    let mut last = consumer.wait(LIMIT, "/metrics answers", || Metrics::of(&consumer));
    bench.kafka.produce(&bench.topic, 3, None, Some(b"no json"));
    bench.kafka.produce(&bench.topic, 4, None, Some(b"[1]"));
    bench.kafka.produce(&bench.topic, 5, None, None);
    bench.kafka.produce(&bench.topic, 5, None, Some(b"{\"no_such_column\": 1, \"nor_this\": {}, \"org_id\": \"o\"}"));
    let flood = bench.produce_at(EVENTS, Some(20_000.0));
    consumer.wait(LIMIT, "all is counted", || {
        let now = Metrics::of(&consumer).unwrap();
        now.assert_not_below(&last);
        let inserted = now.get("sandarb_consumer_events_inserted_total");
        let letters = now.get("sandarb_consumer_dead_letters_total");
        last = now;
        same((inserted, letters), ((EVENTS + 1) as f64, 2.0))
    });
    flood.wait();
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    let (_, health) = consumer.health().unwrap();
    let now = Metrics::of(&consumer).unwrap();
    // The start inserts no rows once, to see what the server has against it.
    let inserts = bench.inserts().iter().filter(|insert| insert.rows > 0).count();
    for (name, wanted) in [
        ("sandarb_consumer_events_consumed_total", health["events_consumed"].as_f64().unwrap()),
        ("sandarb_consumer_events_consumed_total", (EVENTS + 3) as f64),
        ("sandarb_consumer_events_inserted_total", bench.rows() as f64),
        ("sandarb_consumer_batches_flushed_total", health["batches_flushed"].as_f64().unwrap()),
        ("sandarb_consumer_insert_duration_seconds_count", inserts as f64),
        ("sandarb_consumer_errors_total", health["errors"].as_f64().unwrap()),
        ("sandarb_consumer_events_rejected_total{class=\"invalid_json\"}", 1.0),
        ("sandarb_consumer_events_rejected_total{class=\"not_an_object\"}", 1.0),
        ("sandarb_consumer_tombstones_total", 1.0),
        ("sandarb_consumer_unknown_keys_total", 2.0),
        ("sandarb_consumer_healthy", 1.0),
        ("sandarb_consumer_kafka_connected", 1.0),
        ("sandarb_consumer_clickhouse_connected", 1.0),
        ("sandarb_consumer_partitions", 12.0),
        ("sandarb_consumer_rebalances_total", 1.0),
        ("sandarb_consumer_memory_budget_bytes", 8.0 * 1024.0 * 1024.0),
    ] {
        assert_eq!(now.get(name), wanted, "{name}");
    }
    assert_eq!(now.sum("sandarb_consumer_blocked"), 0.0);
    let lags = now.samples.keys().filter(|name| name.starts_with("sandarb_consumer_partition_lag{")).count();
    assert_eq!(lags, 12);
    // What is known of the ends is as of the last fetch, and that was of nothing new.
    consumer.wait(LIMIT, "nothing is left to read", || {
        same(Metrics::of(&consumer)?.sum("sandarb_consumer_partition_lag"), 0.0)
    });
    let stored_at = now.get("sandarb_consumer_last_flush_timestamp_seconds");
    assert!(stored_at > now.get("process_start_time_seconds"), "{stored_at}");
    assert!(now.get("process_cpu_seconds_total") > 0.0);
    let resident = now.get("process_resident_memory_bytes");
    let seen = (consumer.rss_kib() * 1024) as f64;
    assert!((resident - seen).abs() < seen / 4.0, "{resident} beside {seen}");
    let memory = now.sum("sandarb_consumer_memory_bytes");
    assert!(memory > 0.0 && memory <= now.get("sandarb_consumer_memory_budget_bytes"), "{memory}");
    consumer.stop();
}

#[test]
fn lag_and_blocks_are_seen_while_clickhouse_is_away() {
    let clickhouse = crate::harness::ClickHouse::start("ingest", "sandarb");
    let kafka = crate::harness::Kafka::shared();
    let bench = Bench::new("metrics_away", kafka, &clickhouse, crate::harness::bench::SHIPPED);
    let consumer = bench.start(&[]);
    bench.produce(2_000);
    bench.wait_rows(&consumer, 2_000, LIMIT);
    clickhouse.kill9();
    bench.produce(30_000);
    consumer.wait(LIMIT, "lag, a block and failures", || {
        let now = Metrics::of(&consumer)?;
        let lag = now.sum("sandarb_consumer_partition_lag");
        let blocked = now.get("sandarb_consumer_blocked{what=\"inserts\"}");
        let failed = now.get("sandarb_consumer_insert_failures_total");
        let bodies = now.get("sandarb_consumer_memory_bytes{what=\"bodies\"}");
        let healthy = now.get("sandarb_consumer_healthy");
        let all = lag > 0.0 && blocked == 1.0 && failed > 3.0 && bodies > 0.0 && healthy == 0.0;
        if all { Ok(()) } else { Err(format!("{lag} {blocked} {failed} {bodies} {healthy}")) }
    });
    clickhouse.restart();
    bench.wait_rows(&consumer, 32_000, LIMIT);
    consumer.stop();
    bench.assert_exactly_once(0..32_000);
}

#[test]
fn the_endpoints_answer_as_they_are_described() {
    let bench = Bench::shared("endpoints");
    let consumer = bench.start(&[]);
    consumer.wait_healthy();
    bench.produce(100);
    bench.wait_rows(&consumer, 100, LIMIT);
    let ask = |method: &str, path: &str| http::request(consumer.port, method, path, &[], b"").unwrap();

    let answer = ask("GET", "/health");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let text = answer.text().unwrap();
    // The original's names, order and spacing.
    let mut rest = text.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    for (name, looks_right) in HEALTH {
        let field = rest.strip_prefix(&format!("\"{name}\": ")).unwrap_or_else(|| panic!("{name} in {text}"));
        let (value, left) = field.split_once(", ").unwrap_or((field, ""));
        assert!(looks_right(value), "{name}: {value}");
        rest = left;
    }
    assert_eq!(rest, "");

    let answer = ask("GET", "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for (method, path, status, says) in [
        ("GET", "/livez", 200, "ok\n"),
        ("GET", "/readyz", 200, "ok\n"),
        ("GET", "/", 404, "there are /health, /livez, /readyz, /status and /metrics\n"),
        ("GET", "/health/", 404, "there are /health, /livez, /readyz, /status and /metrics\n"),
        ("POST", "/nothing", 404, "there are /health, /livez, /readyz, /status and /metrics\n"),
        ("POST", "/health", 405, "only GET and HEAD\n"),
        ("PUT", "/metrics", 405, "only GET and HEAD\n"),
        ("DELETE", "/status", 405, "only GET and HEAD\n"),
        ("HEAD", "/health", 200, ""),
        ("HEAD", "/metrics", 200, ""),
    ] {
        let answer = ask(method, path);
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"), "{method} {path}");
        assert_eq!(answer.text().unwrap(), says, "{method} {path}");
    }
    consumer.stop();
}

type Looks = fn(&str) -> bool;

const HEALTH: [(&str, Looks); 9] = [
    ("status", |text| text == "\"healthy\""),
    ("kafka_connected", |text| text == "true"),
    ("clickhouse_connected", |text| text == "true"),
    ("events_consumed", |text| text == "100"),
    ("events_inserted", |text| text == "100"),
    ("batches_flushed", |text| text.parse::<u64>().is_ok_and(|count| count > 0)),
    ("errors", |text| text.parse::<u64>().is_ok()),
    ("last_flush_at", is_time),
    ("started_at", is_time),
];

/// `"2026-02-07T10:30:00.000000Z"`.
fn is_time(text: &str) -> bool {
    let form = |(at, byte): (usize, u8)| match at {
        0 | 28 => byte == b'"',
        5 | 8 => byte == b'-',
        11 => byte == b'T',
        14 | 17 => byte == b':',
        20 => byte == b'.',
        27 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    text.len() == 29 && text.bytes().enumerate().all(form)
}
