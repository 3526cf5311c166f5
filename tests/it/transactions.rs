//! Transactions, written by librdkafka to a real broker: exactly what was committed arrives, and the commits reach the
//! ends, markers included.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Bench, Consumer, same};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn exactly_the_committed_events_arrive() {
    const ROUNDS: u64 = 60;
    let bench = Bench::shared("transactions");
    let mut wanted = BTreeSet::new();
    let mut steps = Vec::new();
    // Two producers whose transactions overlap: each of their events goes to another of three partitions.
    let mut index = 0;
    for round in 0..ROUNDS {
        let names = ["one", "two"].map(|name| format!("{}-{name}", bench.topic));
        steps.extend(names.iter().map(|name| json!([name, "begin"])));
        let mut sent = [Vec::new(), Vec::new()];
        for turn in 0..6 {
            let who = (turn % 2) as usize;
            steps.push(send(&bench, &names[who], (index % 3) as i32, index));
            // So that their batches lie mixed in the log.
            steps.push(json!([names[who], "flush"]));
            sent[who].push(index);
            index += 1;
        }
        for (who, name) in names.iter().enumerate() {
            // 3 of 10 are aborted, at times of both.
            let abort = (round * 2 + who as u64 * 7) % 10 < 3;
            steps.push(json!([name, if abort { "abort" } else { "commit" }]));
            if !abort {
                wanted.extend(&sent[who]);
            }
        }
    }
    transact(&bench, &steps);
    assert!((1..index as usize).contains(&wanted.len()));

    // One that stays open holds its partition there, and what others commit behind it.
    let (open, behind, elsewhere) = (index, index + 1, index + 2);
    let [holder, other] = ["holder", "other"].map(|name| format!("{}-{name}", bench.topic));
    let before = bench.kafka.end_offsets(&bench.topic);
    let steps = [
        json!([holder, "begin"]),
        send(&bench, &holder, 0, open),
        json!([holder, "flush"]),
        json!([other, "begin"]),
        send(&bench, &other, 0, behind),
        send(&bench, &other, 1, elsewhere),
        json!([other, "commit"]),
    ];
    transact(&bench, &steps);
    let mut held = bench.kafka.end_offsets(&bench.topic);
    assert_eq!(held[&0], before[&0], "the peer's end is the last stable offset");
    held.retain(|_, end| *end > 0);

    let consumer = bench.start(&[]);
    wanted.insert(elsewhere);
    wait_committed(&bench, &consumer, &held);
    assert_eq!(stored(&bench), ids(&bench, &wanted));
    consumer.wait_healthy();
    // The open one's record, the other's and its marker.
    let status = consumer.status().unwrap();
    assert_eq!(status["kafka"]["held_by_transactions"], json!({"0": 3}), "{status}");

    transact(&bench, &[json!([holder, "commit"])]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    wanted.extend([open, behind]);
    assert_eq!(stored(&bench), ids(&bench, &wanted));
    let health = consumer.wait_healthy();
    assert_eq!(health["errors"], 0, "{health}");
    consumer.stop();
}

#[test]
fn a_start_inside_of_a_transaction_reads_only_what_is_behind_it() {
    let bench = Bench::shared("inside");
    let name = format!("{}-one", bench.topic);
    let mut steps = Vec::new();
    // Partition 0: two aborted events, marker. Partition 1: two committed events, marker.
    for (partition, how) in [(0, "abort"), (1, "commit")] {
        steps.push(json!([name, "begin"]));
        for index in 0..2 {
            steps.push(send(&bench, &name, partition, index + partition as u64 * 2));
            steps.push(json!([name, "flush"]));
        }
        steps.push(json!([name, how]));
    }
    // Partition 2 ends in the marker of an aborted one; partition 3 likewise, and is read from the data's middle.
    for partition in [2, 3] {
        steps.extend([json!([name, "begin"]), send(&bench, &name, partition, 4), json!([name, "flush"])]);
        steps.extend([send(&bench, &name, partition, 5), json!([name, "flush"]), json!([name, "abort"])]);
    }
    transact(&bench, &steps);
    let ends = bench.kafka.end_offsets(&bench.topic);
    assert_eq!((ends[&0], ends[&1], ends[&2], ends[&3]), (3, 3, 3, 3), "two events and a marker");
    // Between data and marker, and between the two events.
    let offsets = json!({"0": 2, "1": 2, "3": 1});
    let (group, topic) = (&bench.group, &bench.topic);
    bench.kafka.peer(&json!({"op": "commit_offsets", "group": group, "topic": topic, "offsets": offsets}));
    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    assert_eq!(stored(&bench), Vec::<String>::new());
    // And it goes on behind the markers.
    let steps = [json!([name, "begin"]), send(&bench, &name, 0, 6), send(&bench, &name, 1, 7), json!([name, "commit"])];
    transact(&bench, &steps);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    assert_eq!(stored(&bench), ids(&bench, &BTreeSet::from([6, 7])));
    consumer.stop();
}

#[test]
fn a_commit_behind_an_open_transaction_is_where_it_goes_on() {
    let bench = Bench::shared("aboveopen");
    let [holder, other] = ["holder", "other"].map(|name| format!("{}-{name}", bench.topic));
    let steps = [
        json!([other, "begin"]),
        send(&bench, &other, 0, 0),
        json!([other, "commit"]),
        json!([holder, "begin"]),
        send(&bench, &holder, 0, 1),
        json!([holder, "flush"]),
        json!([other, "begin"]),
        send(&bench, &other, 0, 2),
        json!([other, "commit"]),
    ];
    transact(&bench, &steps);
    assert_eq!(bench.kafka.end_offsets(&bench.topic)[&0], 2, "the peer's end is the last stable offset");
    // As a reader of open transactions leaves it, or a reset to the latest.
    let (group, topic) = (&bench.group, &bench.topic);
    bench.kafka.peer(&json!({"op": "commit_offsets", "group": group, "topic": topic, "offsets": {"0": 5}}));
    let consumer = bench.start(&[]);
    let line = consumer.wait_log(LIMIT, &["starts at the committed offset"]);
    assert_eq!((&line["partition"], &line["offset"]), (&json!(0), &json!(5)));
    transact(&bench, &[json!([holder, "commit"]), json!([other, "begin"]), send(&bench, &other, 0, 3)]);
    transact(&bench, &[json!([other, "commit"])]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    assert_eq!(stored(&bench), ids(&bench, &BTreeSet::from([3])), "nothing from before the commit is read again");
    let health = consumer.wait_healthy();
    assert_eq!(health["errors"], 0, "{health}");
    consumer.stop();
}

#[test]
fn read_uncommitted_takes_all_of_it() {
    let bench = Bench::shared("uncommitted");
    let name = format!("{}-one", bench.topic);
    let mut steps = Vec::new();
    for (index, how) in [(0, "commit"), (1, "abort"), (2, "flush")] {
        steps.extend([json!([name, "begin"]), send(&bench, &name, 0, index), json!([name, "flush"])]);
        steps.push(json!([name, how]));
    }
    transact(&bench, &steps);
    let consumer = bench.start(&[("KAFKA_ISOLATION_LEVEL", "read_uncommitted")]);
    // Three events and two markers. (What the peer calls the end is the last stable offset.)
    wait_committed(&bench, &consumer, &[(0, 5)].into());
    assert_eq!(stored(&bench), ids(&bench, &BTreeSet::from([0, 1, 2])));
    consumer.stop();
    transact(&bench, &[json!([name, "abort"])]);
}

fn send(bench: &Bench<'_>, producer: &str, partition: i32, index: u64) -> Value {
    json!([producer, "send", bench.topic, partition, bench.source.event(index).to_json()])
}

fn transact(bench: &Bench<'_>, steps: &[Value]) {
    bench.kafka.peer(&json!({"op": "transact", "steps": steps}));
}

fn wait_committed(bench: &Bench<'_>, consumer: &Consumer, offsets: &BTreeMap<i32, i64>) {
    consumer.wait(LIMIT, "the commits", || {
        let mut committed = bench.kafka.committed(&bench.group, &bench.topic);
        committed.retain(|_, offset| *offset > 0);
        same(committed, offsets.clone())
    });
}

/// The ids in the table, each as often as it is there.
fn stored(bench: &Bench<'_>) -> Vec<String> {
    let mut ids = Vec::new();
    let sql = format!("SELECT toString(event_id) FROM {}.events FORMAT TSV", bench.database);
    bench.clickhouse.each_line(&sql, |line| ids.push(line.to_owned()));
    ids.sort_unstable();
    ids
}

fn ids(bench: &Bench<'_>, indices: &BTreeSet<u64>) -> Vec<String> {
    let mut ids: Vec<String> = indices.iter().map(|index| bench.source.event(*index).event_id).collect();
    ids.sort_unstable();
    ids
}
