//! The topic changes under the running group: more partitions, or it comes, goes, and comes back.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::harness::bench::PARTITIONS;
use crate::harness::fleet::{LIMIT, wait_shares};
use crate::harness::kafka::{from_hex, kafka_version};
use crate::harness::{Bench, ClickHouse, Consumer, Fleet, Kafka, Series, Table, same, wait_until};

const NOTICED: Duration = Duration::from_secs(30);
const TABLE: Table = Table { window: false, views: true };
/// What is new is read from its start even so.
const LATEST: [(&str, &str); 1] = [("KAFKA_AUTO_OFFSET_RESET", "latest")];

#[test]
fn new_partitions_are_read_from_their_start() {
    let bench = Bench::new("grown", Kafka::shared(), ClickHouse::shared(), TABLE);
    let fleet = Fleet::start(&bench, 2, &LATEST);
    wait_all_committed(&bench, PARTITIONS);
    let load = bench.load(1_000);
    fleet.wait_progress(2_000);
    bench.kafka.grow_topic(&bench.topic, 2 * PARTITIONS);
    let grown = Instant::now();
    wait_shares(&fleet.replicas.iter().collect::<Vec<_>>(), 2 * PARTITIONS, NOTICED);
    println!("12 to 24 partitions: noticed after {:.1} s", grown.elapsed().as_secs_f64());
    fleet.wait_progress(3_000);
    let indices = load.stop();
    let ends = bench.kafka.end_offsets(&bench.topic);
    assert!(ends.range(PARTITIONS..).all(|(_, end)| *end > 0), "the load reaches the new partitions: {ends:?}");
    let series = Series::end("12 to 24 partitions under load", fleet, indices, &[]);
    assert_eq!(series.duplicates, 0);
}

#[test]
fn a_topic_created_after_the_start_is_read_from_its_start() {
    let bench = Bench::bare("late", Kafka::shared(), ClickHouse::shared());
    bench.create_table(TABLE);
    let mut fleet = Fleet::idle(&bench, &LATEST);
    fleet.add();
    fleet.add();
    for replica in &fleet.replicas {
        replica.wait_log(LIMIT, &["does not exist", &bench.topic]);
    }
    bench.kafka.create_topic(&bench.topic, PARTITIONS);
    let created = Instant::now();
    let indices = bench.produce(2_000);
    wait_shares(&fleet.replicas.iter().collect::<Vec<_>>(), PARTITIONS, NOTICED);
    println!("a new topic: noticed after {:.1} s", created.elapsed().as_secs_f64());
    bench.wait_rows(&fleet.replicas[0], 2_000, LIMIT);
    let series = Series::end("a topic created after the start", fleet, indices, &[]);
    assert_eq!(series.duplicates, 0);
}

#[test]
fn a_topic_created_anew_is_read_from_its_start() {
    let bench = Bench::new("anew", Kafka::shared(), ClickHouse::shared(), TABLE);
    let fleet = Fleet::start(&bench, 2, &LATEST);
    wait_all_committed(&bench, PARTITIONS);
    let load = bench.load(1_000);
    fleet.wait_progress(3_000);
    bench.kafka.delete_topic(&bench.topic);
    wait_until(LIMIT, "the topic is gone", || match bench.kafka.try_create_topic(&bench.topic, PARTITIONS) {
        Ok(()) => Ok(()),
        Err(error) => Err(error),
    });
    let created = Instant::now();
    let anew = |replica: &Consumer| {
        let line = replica.wait_log(NOTICED, &["created anew"]);
        println!("a re-created topic: noticed after {:.1} s: {}", created.elapsed().as_secs_f64(), line["msg"]);
    };
    // The one that notices tells the group; the other learns of it as it joins again.
    wait_until(NOTICED, "one of them notices", || {
        let noticed = fleet.replicas.iter().find(|replica| replica.find_log(&["created anew"]).is_some());
        noticed.map(anew).ok_or_else(|| "not yet".to_owned())
    });
    fleet.wait_progress(3_000);
    fleet.wait_even();
    let (indices, uncertain) = load.stop_uncertain();
    bench.wait_committed_to_the_end(&fleet.replicas[0], LIMIT);
    // What the old topic took with it is nobody's fault; all that the new one holds must be there, once.
    let held = held(&bench, &indices);
    let gone: Vec<u64> = indices.clone().filter(|index| !held.contains(index)).chain(uncertain).collect();
    println!("{} events in the new topic", held.len());
    assert!(held.len() >= 1_000, "the load goes on in the new topic");
    let tally = bench.tally(indices.clone());
    let lost: Vec<&u64> = tally.missing.iter().filter(|index| held.contains(index)).collect();
    assert!(lost.is_empty(), "{} of the new topic's {} events are lost", lost.len(), held.len());
    let series = Series::end("a topic deleted and created anew under load", fleet, indices, &gone);
    if fetches_by_id() {
        assert_eq!(series.duplicates, 0);
    } else {
        // A fetch names the topic and not its id: what came before the other id was noticed is read from the start again.
        assert!(series.duplicates <= 1_000 * NOTICED.as_secs(), "{series:?}");
    }
}

/// Whether the broker takes Fetch v13, which names the topic's id.
fn fetches_by_id() -> bool {
    kafka_version() >= (3, 1)
}

/// Waits until every partition has a commit: `latest` is a decided thing then.
fn wait_all_committed(bench: &Bench<'_>, partitions: i32) {
    wait_until(LIMIT, "every partition has a commit", || {
        same(bench.kafka.committed(&bench.group, &bench.topic).len(), partitions as usize)
    });
}

/// The indices of the events that the topic holds now.
fn held(bench: &Bench<'_>, indices: &Range<u64>) -> BTreeSet<u64> {
    let index_of: HashMap<String, u64> =
        indices.clone().map(|index| (bench.source.event(index).to_json(), index)).collect();
    let json = |record: &serde_json::Value| String::from_utf8(from_hex(record["value"].as_str().unwrap())).unwrap();
    let records = (0..PARTITIONS).flat_map(|partition| bench.kafka.consume(&bench.topic, partition));
    records.map(|record| index_of[&json(&record)]).collect()
}
