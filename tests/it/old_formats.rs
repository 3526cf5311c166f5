//! Message formats v0 and v1 in a log (Kafka before 0.11): their partitions wait, named, the others go on, nothing is
//! skipped.
//!
//! Kafka 2.x writes them itself for a topic with `message.format.version`. Newer ones only serve what an old segment holds:
//! there it is laid into the log while the broker is stopped.

use std::time::Duration;

use serde_json::json;

use crate::harness::bench::{PARTITIONS, SHIPPED};
use crate::harness::kafka::{kafka_version, to_hex};
use crate::harness::{Bench, ClickHouse, Kafka, same, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
/// Partition, format, and a version of Kafka that wrote it.
const OLD: [(i32, u8, &str); 2] = [(0, 1, "0.10.0"), (2, 0, "0.9.0")];
const UNTOUCHED: i32 = 1;

#[test]
fn old_formats_stop_their_partitions_alone() {
    let kafka = Kafka::start(0);
    let bench = Bench::new("old", &kafka, ClickHouse::shared(), SHIPPED);
    let mut index = 0;
    let mut event = || {
        index += 1;
        bench.source.event(index - 1).to_json()
    };
    let produce = |partition: i32, event: &str| {
        let records = [json!({"partition": partition, "key": null, "value": to_hex(event.as_bytes())})];
        kafka.peer(&json!({"op": "produce_many", "topic": bench.topic, "records": records}));
    };
    // Three batches each, of which the one in the middle is, or becomes, old.
    for partition in [OLD[0].0, UNTOUCHED, UNTOUCHED, UNTOUCHED, OLD[1].0] {
        produce(partition, &event());
    }
    let by_broker = kafka_version() < (3, 0);
    for (partition, magic, version) in OLD {
        if by_broker {
            kafka.alter_topic(&bench.topic, "message.format.version", version);
            // It takes effect a little later, in one partition after the other.
            let told = format!("Log partition={}-", bench.topic);
            let down = format!("downgraded from V{} to V{magic}", magic + 1);
            wait_until(LIMIT, "the broker writes the old format", || {
                let log = kafka.log();
                let seen = log.lines().filter(|line| line.contains(&told) && line.contains(&down)).count();
                same(seen, PARTITIONS as usize)
            });
        }
        produce(partition, &event());
    }
    if by_broker {
        kafka.alter_topic(&bench.topic, "message.format.version", "2.8");
    }
    for (partition, ..) in OLD {
        produce(partition, &event());
    }
    kafka.stop();
    for (partition, magic, _) in OLD {
        let log = kafka.log_dir(&bench.topic, partition).join("00000000000000000000.log");
        let bytes = std::fs::read(&log).unwrap();
        let length = |at: usize| 12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let (second, third) = (length(0), length(0) + length(length(0)));
        if by_broker {
            assert_eq!(bytes[second + 16], magic, "the broker wrote partition {partition} in this format");
        } else {
            assert_eq!((bytes[second + 16], bytes.len()), (2, third + length(third)));
            let old = message(magic, 1, event().as_bytes());
            std::fs::write(&log, [&bytes[..second], &old, &bytes[third..]].concat()).unwrap();
        }
    }
    kafka.restart();

    let consumer = bench.start(&[]);
    for (partition, magic, _) in OLD {
        let format = format!("message format v{magic}");
        let line = consumer.wait_log(LIMIT, &["\"level\":\"ERROR\"", &format, "nothing is skipped"]);
        assert_eq!((&line["partition"], &line["offset"]), (&json!(partition), &json!(1)), "{line}");
    }
    consumer.wait_health(503, LIMIT);
    let committed = || {
        let mut committed = kafka.committed(&bench.group, &bench.topic);
        committed.retain(|_, offset| *offset > 0);
        committed
    };
    let up_to = |untouched| [(OLD[0].0, 1), (UNTOUCHED, untouched), (OLD[1].0, 1)].into();
    consumer.wait(LIMIT, "the commits up to the old formats", || same(committed(), up_to(3)));
    // The others go on, those with the old formats do not.
    produce(UNTOUCHED, &event());
    consumer.wait(LIMIT, "a later record of another partition", || same(committed(), up_to(4)));
    consumer.wait_health(503, LIMIT);
    assert_eq!(bench.rows(), 6);
    consumer.stop();
    assert_eq!(committed(), up_to(4));
}

/// A message of format v0 or v1 without a key, as Kafka's `LegacyRecord` has it: offset i64, size i32, crc u32 (CRC-32 of
/// what follows), magic i8, attributes i8, v1: timestamp i64, key bytes, value bytes.
fn message(magic: u8, offset: i64, value: &[u8]) -> Vec<u8> {
    let mut body = vec![magic, 0];
    if magic == 1 {
        body.extend(1_768_954_900_000_i64.to_be_bytes());
    }
    body.extend((-1_i32).to_be_bytes());
    body.extend((value.len() as i32).to_be_bytes());
    body.extend(value);
    let size = (4 + body.len()) as i32;
    [&offset.to_be_bytes()[..], &size.to_be_bytes(), &crc32(&body).to_be_bytes(), &body].concat()
}

/// CRC-32 as in zlib.
fn crc32(bytes: &[u8]) -> u32 {
    let mix = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, mix)
}
