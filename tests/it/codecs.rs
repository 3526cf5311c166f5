//! Every codec as librdkafka writes it and as Java writes it, in batches of every shape, byte for byte; and ten thousand
//! random batches, read by us and by librdkafka alike.
//!
//! Java writes twice: its own producer, whose batches are as large as its settings say whatever the machine does, so that
//! each shape's batches are known; and the broker, which compresses what comes uncompressed for a topic with
//! `compression.type=<codec>`.

use serde_json::{Value, json};

use crate::harness::Kafka;
use crate::harness::java::{Made, Orders};
use crate::harness::kafka::to_hex;
use crate::records_fetch::{How, Partition, Read, read};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const XERIAL: &[u8] = b"\x82SNAPPY\0";
/// Of a shape's records.
const BASE_MS: i64 = 1_768_954_900_000;

#[test]
fn every_codec_of_librdkafka_arrives_byte_for_byte() {
    for (number, codec) in CODECS.into_iter().enumerate() {
        let topic = format!("codec_c_{codec}");
        check(&topic, "producer", codec, |(seen, start)| {
            *seen == number as i16 && (codec != "snappy" || !start.starts_with(XERIAL))
        });
    }
}

#[test]
fn every_codec_of_javas_producer_arrives_byte_for_byte_a_batch_a_shape() {
    let (kafka, shapes) = (Kafka::shared(), shapes());
    let topic = |codec: &str| format!("codec_producer_{codec}");
    let mut orders = Orders::default();
    for codec in CODECS {
        create(kafka, &topic(codec), "producer", shapes.len());
        // It sends when a batch is full or when it is closed, and no shape fills one.
        let settings = [
            ("compression.type", codec),
            ("linger.ms", "600000"),
            ("delivery.timeout.ms", "700000"),
            ("batch.size", "4000000"),
            ("max.request.size", "11000000"),
            ("buffer.memory", "64000000"),
        ];
        orders.producer(kafka, &settings);
        for (partition, made) in (0..).zip(&shapes) {
            for (timestamp, made) in (BASE_MS..).zip(made) {
                orders.record(&topic(codec), partition, timestamp, made);
            }
        }
    }
    orders.carry_out();
    for (number, codec) in CODECS.into_iter().enumerate() {
        for (partition, made) in (0..).zip(&shapes) {
            let seen = compare(kafka, &topic(codec), partition, made);
            let [(seen, start)] = &seen.batches[..] else {
                panic!("{codec}, shape {partition}: {} batches instead of one", seen.batches.len())
            };
            assert_eq!(*seen, number as i16, "{codec}, shape {partition}");
            assert_eq!(start.starts_with(XERIAL), codec == "snappy", "{codec}, shape {partition}: {start:02x?}");
        }
    }
}

#[test]
fn every_codec_of_java_arrives_byte_for_byte() {
    for (number, codec) in CODECS.into_iter().enumerate().skip(1) {
        let topic = format!("codec_java_{codec}");
        check(&topic, codec, "none", |(seen, start)| {
            *seen == number as i16 && (codec != "snappy" || start.starts_with(XERIAL))
        });
    }
}

fn check(topic: &str, broker: &str, producer: &str, as_expected: impl Fn(&(i16, Vec<u8>)) -> bool) {
    let kafka = Kafka::shared();
    let shapes = shapes();
    let mut compressed = 0;
    create(kafka, topic, broker, shapes.len());
    for (partition, made) in (0..).zip(&shapes) {
        let records: Vec<Value> = (BASE_MS..)
            .zip(made)
            .map(|(timestamp, (key, value, headers))| {
                let hex = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(to_hex);
                let headers: Vec<Value> = headers.iter().map(|(name, value)| json!([name, hex(value)])).collect();
                json!({
                    "partition": partition, "timestamp": timestamp, "key": hex(key), "value": hex(value),
                    "headers": headers,
                })
            })
            .collect();
        let config = json!({
            "compression.type": producer, "linger.ms": 3000, "batch.num.messages": 20_000, "batch.size": 10_000_000,
            "message.max.bytes": 11_000_000,
        });
        kafka.peer(&json!({"op": "produce_many", "topic": topic, "config": config, "records": records}));
        let seen = compare(kafka, topic, partition, made);
        // librdkafka stores what does not shrink: then it says so in the batch. On a slow machine it sends a shape in several
        // batches, of which none may shrink.
        let (expected, odd): (Vec<_>, Vec<_>) = seen.batches.iter().partition(|batch| as_expected(batch));
        assert!(
            odd.iter().all(|(codec, _)| *codec == 0 && broker == "producer"),
            "{topic}, partition {partition}: {odd:?}"
        );
        compressed += expected.len();
    }
    assert!(compressed > 0, "{topic}: no batch has the codec");
}

/// A topic for the shapes, a partition of each.
fn create(kafka: &Kafka, topic: &str, codec: &str, shapes: usize) {
    // The records' timestamps are of the past: by default they would be deleted for their age.
    let config = json!({"compression.type": codec, "max.message.bytes": "12000000", "retention.ms": "-1"});
    kafka.create_topic_with(topic, shapes as i32, &config);
}

/// Reads a partition, which must hold these records, byte for byte.
fn compare(kafka: &Kafka, topic: &str, partition: i32, made: &[Made]) -> Partition {
    let how = How { isolation: 1, from: 0, end: made.len() as i64, fetch_bytes: 1 << 20 };
    let seen = read(kafka, topic, partition, how);
    let wanted: Vec<Read> = (0..)
        .zip(made)
        .map(|(offset, (key, value, headers))| Read {
            offset,
            timestamp: BASE_MS + offset,
            key: key.clone(),
            value: value.clone(),
            headers: encode(headers),
        })
        .collect();
    assert_eq!(seen.records.len(), wanted.len(), "{topic}, partition {partition}");
    for (seen, wanted) in seen.records.iter().zip(&wanted) {
        assert!(seen == wanted, "{topic}, partition {partition}: {seen:.200?} instead of {wanted:.200?}");
    }
    seen
}

/// A partition of each.
fn shapes() -> Vec<Vec<Made>> {
    let noise = |seed: u32, length: usize| -> Vec<u8> {
        (0..length as u32).map(|n| ((n ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    };
    let plain = |value: Vec<u8>| (None, Some(value), Vec::new());
    let text = "{\"the\":\"same words over and over\"} ".repeat(25_000).into_bytes();
    let rich = |n: u32| -> Made {
        let key = (!n.is_multiple_of(3)).then(|| noise(n, (n % 40) as usize));
        let value = (!n.is_multiple_of(5)).then(|| noise(n, (n * 7 % 900) as usize));
        let headers = vec![("reason", Some(noise(n, 9))), ("reason", None), ("schlüssel", Some(Vec::new()))];
        (key, value, headers.into_iter().take((n % 4) as usize).collect())
    };
    vec![
        vec![plain(b"x".to_vec())],
        (0..10_000u32).map(|n| plain(noise(n, 1 + (n % 9) as usize))).collect(),
        vec![plain(noise(1, 1_000_000))],
        vec![plain(text), plain(noise(2, 300_000)), plain(vec![0; 900_000])],
        (0..400).map(rich).collect(),
    ]
}

/// Headers as the record format has them.
fn encode(headers: &[(&str, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, headers.len() as i64);
    for (name, value) in headers {
        varint(&mut out, name.len() as i64);
        out.extend(name.as_bytes());
        varint(&mut out, value.as_ref().map_or(-1, |value| value.len() as i64));
        out.extend(value.iter().flatten());
    }
    out
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[test]
fn ten_thousand_random_batches_are_read_as_librdkafka_reads_them() {
    const BATCHES: usize = 10_000;
    // Records a batch; each producer writes its share of the batches of a codec's partition.
    const SIZES: [usize; 4] = [1, 2, 5, 9];
    let kafka = Kafka::shared();
    let topic = "codec_random";
    kafka.create_topic(topic, CODECS.len() as i32);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let words: Vec<Vec<u8>> = (0..64).map(|_| (0..random(30)).map(|_| random(256) as u8).collect()).collect();
    for (partition, codec) in CODECS.into_iter().enumerate() {
        for size in SIZES {
            let batches = BATCHES / CODECS.len() / SIZES.len() + 1;
            let records: Vec<Value> = (0..batches * size)
                .map(|_| {
                    let mut bytes = |most: usize| -> Option<String> {
                        let count = random(most);
                        (count > 0).then(|| (1..count).map(|_| to_hex(&words[random(words.len())])).collect())
                    };
                    json!({"partition": partition, "key": bytes(3), "value": bytes(8)})
                })
                .collect();
            let config = json!({"compression.type": codec, "batch.num.messages": size, "linger.ms": 50});
            kafka.peer(&json!({"op": "produce_many", "topic": topic, "config": config, "records": records}));
        }
    }
    let ends = kafka.end_offsets(topic);
    let mut batches = 0;
    for (partition, end) in ends {
        let how = How { isolation: 0, from: 0, end, fetch_bytes: 50_000 + partition * 33_333 };
        let ours = read(kafka, topic, partition, how);
        batches += ours.batches.len();
        let theirs = kafka.consume(topic, partition);
        assert_eq!(ours.records.len(), theirs.len(), "partition {partition}");
        for (ours, theirs) in ours.records.iter().zip(&theirs) {
            let same = theirs["offset"] == ours.offset
                && theirs["timestamp"] == ours.timestamp
                && theirs["key"].as_str() == ours.key.as_deref().map(to_hex).as_deref()
                && theirs["value"].as_str() == ours.value.as_deref().map(to_hex).as_deref();
            assert!(same, "partition {partition}: {ours:?} instead of {theirs}");
        }
    }
    assert!(batches >= BATCHES, "only {batches} batches");
}
