//! A batch that was damaged on the broker's disk: its partition waits, the others go on, nothing is skipped.

use std::time::Duration;

use serde_json::json;

use crate::harness::bench::SHIPPED;
use crate::harness::kafka::to_hex;
use crate::harness::{Bench, ClickHouse, Kafka, same, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_corrupt_batch_stops_its_partition_alone() {
    let kafka = Kafka::start(0);
    let bench = Bench::new("corrupt", &kafka, ClickHouse::shared(), SHIPPED);
    let produce = |index: u64, partition: i32| {
        let value = to_hex(bench.source.event(index).to_json().as_bytes());
        let records = [json!({"partition": partition, "key": null, "value": value})];
        kafka.peer(&json!({"op": "produce_many", "topic": bench.topic, "records": records}));
    };
    // Three batches each.
    for index in 0..3 {
        produce(index, 0);
        produce(index + 3, 1);
    }
    kafka.stop();
    let log = kafka.log_dir(&bench.topic, 0).join("00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let length = |at: usize| 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    let second = length(0);
    let place = second + length(second) / 2;
    bytes[place] ^= 0x10;
    std::fs::write(&log, &bytes).unwrap();
    kafka.restart();

    let consumer = bench.start(&[]);
    // Fetched once more, then an ERROR with the place.
    let retried = consumer.wait_log(LIMIT, &["\"level\":\"WARNING\"", "CRC32C", "again"]);
    assert_eq!((&retried["partition"], &retried["offset"]), (&json!(0), &json!(1)), "{retried}");
    let waits = consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", "CRC32C", "nothing is skipped"]);
    assert_eq!((&waits["partition"], &waits["offset"]), (&json!(0), &json!(1)), "{waits}");
    consumer.wait_health(503, LIMIT);
    let committed = || {
        let mut committed = kafka.committed(&bench.group, &bench.topic);
        committed.retain(|_, offset| *offset > 0);
        committed
    };
    consumer.wait(LIMIT, "the commits up to the damage", || same(committed(), [(0, 1), (1, 3)].into()));
    // The others go on, the damaged one does not.
    produce(6, 1);
    produce(7, 0);
    consumer.wait(LIMIT, "a later record of another partition", || same(committed(), [(0, 1), (1, 4)].into()));
    consumer.wait_health(503, LIMIT);
    let tally = bench.tally(0..8);
    assert_eq!((tally.once, tally.missing.len(), tally.surplus), (5, 3, 0), "{tally:?}");
    consumer.stop();
    assert_eq!(committed(), [(0, 1), (1, 4)].into());

    // Repaired, it goes on where it stood.
    kafka.stop();
    bytes[place] ^= 0x10;
    let grown = std::fs::read(&log).unwrap();
    std::fs::write(&log, [&bytes[..], &grown[bytes.len()..]].concat()).unwrap();
    kafka.restart();
    // Some brokers show an older end for a moment.
    wait_until(LIMIT, "the end of the log is known", || {
        let ends = kafka.end_offsets(&bench.topic);
        same((ends.get(&0).copied(), ends.get(&1).copied()), (Some(4), Some(4)))
    });
    let consumer = bench.start(&[]);
    bench.wait_committed_to_the_end(&consumer, LIMIT);
    consumer.wait_healthy();
    consumer.stop();
    bench.assert_exactly_once(0..8);
}
