//! The outcome of an insert is unknown when the partitions change hands: with a deduplication window nothing is lost and
//! nothing doubled, whoever owns them next.

use std::time::Duration;

use serde_json::json;

use crate::harness::fleet::LIMIT;
use crate::harness::valve::Valve;
use crate::harness::{Bench, ClickHouse, Consumer, Fleet, Kafka, Series, Table, wait_until};

const RATE: u32 = 2_500;
const BATCH: u64 = 500;
const WITH_WINDOW: Table = Table { window: true, views: true };
const WITHOUT_WINDOW: Table = Table { window: false, views: true };
const GAVE_UP: [&str; 2] = ["gave up an insert", r#""on_wire_unknown":true"#];
const TOOK_UP: [&str; 1] = ["sending them again as they were"];

fn bench(name: &str, table: Table) -> Bench<'static> {
    Bench::new(name, Kafka::shared(), ClickHouse::shared(), table)
}

fn fleet<'a>(bench: &'a Bench<'a>, url: &str, replicas: usize) -> Fleet<'a> {
    Fleet::start(bench, replicas, &[("CLICKHOUSE_URL", url), ("BATCH_SIZE", "500")])
}

fn has(replica: &Consumer, words: &[&str]) -> bool {
    replica.find_log(words).is_some()
}

/// Waits until one of the replicas has said so. Rows alone tell nothing of it: the other replicas may bring enough of them
/// before.
fn wait_said(fleet: &Fleet<'_>, words: &[&str], otherwise: &str) {
    wait_until(LIMIT, &format!("a log line with {words:?}"), || {
        let said = fleet.replicas.iter().any(|replica| has(replica, words));
        said.then_some(()).ok_or_else(|| otherwise.to_owned())
    });
}

#[test]
fn a_stop_with_an_insert_in_doubt_and_a_start_with_a_window() {
    stop_in_doubt(WITH_WINDOW);
}

#[test]
fn a_stop_with_an_insert_in_doubt_and_a_start_without_a_window() {
    stop_in_doubt(WITHOUT_WINDOW);
}

fn stop_in_doubt(table: Table) {
    with_an_insert_in_doubt("stopdoubt", table, 1, |fleet, valve| {
        let gone = fleet.pick();
        gone.stop();
        assert!(has(&gone, &GAVE_UP), "the outcome was known");
        valve.open();
        fleet.add();
        fleet.wait_progress(2_000);
        assert_eq!(has(&fleet.replicas[0], &TOOK_UP), table.window);
        ("SIGTERM, an insert in doubt".to_owned(), 1)
    });
}

/// What happens once the answer of an insert under load was cut off tells its name and how many inserts it left in doubt:
/// nothing is lost, and without a window no more than those are doubled.
fn with_an_insert_in_doubt(
    name: &str,
    table: Table,
    replicas: usize,
    happens: impl FnOnce(&mut Fleet<'_>, &Valve) -> (String, u64),
) {
    let bench = bench(name, table);
    let valve = Valve::before(bench.clickhouse);
    let mut fleet = fleet(&bench, &valve.url(), replicas);
    let load = bench.load(RATE);
    fleet.wait_progress(2_000);
    valve.cut_an_answer();
    let (what, in_doubt) = happens(&mut fleet, &valve);
    let series = Series::end(&format!("{what} ({table:?})"), fleet, load.stop(), &[]);
    let allowed = if table.window { 0 } else { in_doubt * BATCH };
    assert!(series.duplicates <= allowed, "{series:?} with {table:?}");
}

#[test]
fn rebalances_with_inserts_in_doubt_and_another_split_after_each_with_a_window() {
    rebalance_in_doubt(WITH_WINDOW);
}

#[test]
fn rebalances_with_inserts_in_doubt_and_another_split_after_each_without_a_window() {
    rebalance_in_doubt(WITHOUT_WINDOW);
}

fn rebalance_in_doubt(table: Table) {
    with_an_insert_in_doubt("splitdoubt", table, 3, |fleet, valve| {
        // Shares of 4, 6 and 12 partitions; until the server is back, what is noted stays noted.
        let mut gone = Vec::new();
        for _ in 0..2 {
            gone.push(fleet.pick());
            gone.last().unwrap().stop();
            fleet.wait_even();
        }
        let in_doubt = gone.iter().chain(&fleet.replicas).filter(|replica| has(replica, &GAVE_UP)).count() as u64;
        assert!(in_doubt > 0, "every outcome was known");
        valve.open();
        fleet.wait_progress(2_000);
        assert_eq!(has(&fleet.replicas[0], &TOOK_UP), table.window);
        fleet.add();
        fleet.wait_even();
        (format!("3, 2, 1, 2 replicas, {in_doubt} inserts in doubt"), in_doubt)
    });
}

#[test]
fn a_server_that_hangs_past_the_limits_of_a_rebalance_and_a_stop() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("hungdoubt", Kafka::shared(), &clickhouse, WITH_WINDOW);
    let env = [
        ("CLICKHOUSE_TIMEOUT_MS", "3000"),
        ("KAFKA_REBALANCE_TIMEOUT_MS", "10000"),
        ("SHUTDOWN_TIMEOUT_MS", "5000"),
        ("BATCH_SIZE", "500"),
    ];
    let mut fleet = Fleet::start(&bench, 3, &env);
    let load = bench.load(RATE);
    fleet.wait_progress(2_000);
    clickhouse.signal("STOP");
    // The first time limit leaves the outcome unknown, and no later attempt ends that.
    for replica in &fleet.replicas {
        replica.wait_log(LIMIT, &["the insert failed"]);
    }
    let gone = fleet.pick();
    gone.signal("TERM");
    println!("a replica that could not finish ended with {:?}", gone.wait_exit(LIMIT));
    fleet.wait_even();
    let late = "outlasted the rebalance limit";
    wait_said(&fleet, &[late], "nobody waited for the limit");
    clickhouse.signal("CONT");
    fleet.wait_progress(2_000);
    wait_said(&fleet, &TOOK_UP, "nobody was told");
    let series = Series::end("a stop and a rebalance while ClickHouse hangs", fleet, load.stop(), &[]);
    assert_eq!(series.duplicates, 0);
}

#[test]
fn a_kill_while_a_stop_waits_for_its_last_insert() {
    let clickhouse = ClickHouse::start("ingest", "sandarb");
    let bench = Bench::new("laststop", Kafka::shared(), &clickhouse, WITH_WINDOW);
    let session = [("KAFKA_SESSION_TIMEOUT_MS", "6000"), ("KAFKA_HEARTBEAT_INTERVAL_MS", "1000")];
    // Neither full nor old: only the stop sends it.
    let gone = bench.start(&[session[0], session[1], ("BATCH_TIMEOUT_MS", "600000")]);
    let all = bench.produce(300);
    gone.wait(LIMIT, "all events are held", || {
        let open = gone.status()?["events"]["open"].as_u64();
        if open == Some(all.end) { Ok(()) } else { Err(format!("{open:?}")) }
    });
    clickhouse.signal("STOP");
    gone.signal("TERM");
    // Long before the time limit of the insert, 20 s.
    wait_until(Duration::from_secs(10), "the insert under way is noted", || {
        let notes = bench.kafka.notes(&bench.group, &bench.topic);
        if notes.iter().any(|note| note.contains("parts=")) { Ok(()) } else { Err(format!("{notes:?}")) }
    });
    gone.kill9();
    clickhouse.signal("CONT");
    let next = bench.start(&session);
    next.wait_log(LIMIT, &TOOK_UP);
    bench.wait_committed_to_the_end(&next, LIMIT);
    next.stop();
    bench.assert_exactly_once(all);
}

#[test]
fn the_table_changes_while_an_insert_is_in_doubt() {
    let bench = bench("alterdoubt", WITH_WINDOW);
    let valve = Valve::before(bench.clickhouse);
    let fleet = fleet(&bench, &valve.url(), 2);
    let load = bench.load(RATE);
    fleet.wait_progress(2_000);
    valve.cut_an_answer();
    bench.clickhouse.query(&format!("ALTER TABLE {}.events DROP COLUMN source_ip", bench.database));
    valve.open();
    fleet.wait_progress(4_000);
    let settled = "what may have been stored before is stored now";
    wait_said(&fleet, &[settled], "the outcome was known");
    let series = Series::end("ALTER TABLE, an insert in doubt", fleet, load.stop(), &[]);
    assert_eq!(series.duplicates, 0);
}

#[test]
fn notes_that_cannot_be_used_are_passed_over() {
    let bench = bench("oddnotes", WITH_WINDOW);
    let all = bench.produce(3_000);
    let (kafka, group, topic) = (bench.kafka, &bench.group, &bench.topic);
    let ends = kafka.end_offsets(topic);
    let kept = |partition: i32, first: i64| u64::try_from(ends[&partition] - first).unwrap();
    kafka.peer(&json!({"op": "delete_records", "topic": topic, "offsets": {"0": 20}}));
    // The client commits the zero byte behind a text too: a last semicolon keeps it out of the parts.
    let notes = json!({
        "0": "partitions=12;topic=0;parts=0:0+u,4:0+5;", // its log begins at 20 by now
        "1": "partitions=12;topic=000000000000000000000000000000ff;parts=1:0+9;",
        "2": "partitions=12;topic=0;parts=2:?;",
        "3": "partitions=12;topic=0;parts=3:0+5,4:0+5;",
    });
    let offsets = json!({"0": 0, "1": 0, "2": 0, "3": 0});
    kafka.peer(&json!({"op": "commit_offsets", "group": group, "topic": topic, "offsets": offsets, "notes": notes}));
    let consumer = bench.start(&[]);
    let line = consumer.wait_log(LIMIT, &["cannot be read, or is of an earlier topic"]);
    assert_eq!((&line["level"], &line["partitions"]), (&json!("WARNING"), &json!("[1, 2]")));
    let line = consumer.wait_log(LIMIT, &["may be stored twice"]);
    assert_eq!((&line["level"], &line["why"]), (&json!("WARNING"), &json!("the log no longer has it")));
    let rows = all.end - 20;
    bench.wait_rows(&consumer, rows, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    assert_eq!((bench.rows(), bench.tally(all).surplus), (rows, 0));
    assert!(kept(0, 20) > 10, "there was enough in partition 0");
}

#[test]
fn a_part_is_sent_whole_and_each_partition_goes_on_at_its_own_commit() {
    let bench = bench("passed", WITH_WINDOW);
    let all = bench.produce(3_000);
    let (kafka, group, topic) = (bench.kafka, &bench.group, &bench.topic);
    // The owner of partition 5 has settled the part and gone on; partition 4 has lost its note, 6 has no commit.
    let notes = json!({"3": "partitions=12;topic=0;parts=3:0+5,4:0+7,5:0+5;"});
    let offsets = json!({"3": 0, "4": 0, "5": 50});
    kafka.peer(&json!({"op": "commit_offsets", "group": group, "topic": topic, "offsets": offsets, "notes": notes}));
    let consumer = bench.start(&[]);
    let line = consumer.wait_log(LIMIT, &TOOK_UP);
    assert_eq!((&line["parts"], &line["partitions"]), (&json!(1), &json!("[3, 4]")));
    let rows = all.end - 50 + 5;
    bench.wait_rows(&consumer, rows, LIMIT);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.stop();
    assert_eq!((bench.rows(), bench.tally(all).surplus), (rows, 0));
}
