//! Batches of the own writer, as a real broker takes them and librdkafka (checking their checksums) reads them.

use std::sync::Arc;

use rskafka::messenger::Messenger;
use sandarb_consumer::kafka::protocol::produce::RawProduceRequest;
use sandarb_consumer::kafka::records::write::{BatchWriter, Codec, Header, NewRecord};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::Kafka;
use crate::harness::kafka::to_hex;

#[test]
fn librdkafka_reads_back_each_byte_that_was_written() {
    let kafka = Kafka::shared();
    kafka.create_topic("records_write", 2);
    let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let text = "the same words over and over; ".repeat(9_000);
    let headers = [
        Header { key: b"reason", value: Some(b"not \xff UTF-8") },
        Header { key: b"reason", value: None },
        Header { key: "schlüssel".as_bytes(), value: Some(b"") },
    ];
    let record = |timestamp, key, value| NewRecord { timestamp, key, value, headers: &[] };
    let records = [
        record(1_768_954_900_524, Some(b"\x00\xff\x80".as_slice()), Some(b"{}".as_slice())),
        record(1_768_954_900_000, None, None),
        record(1_768_954_999_999, Some(b""), Some(b"")),
        NewRecord { headers: &headers, ..record(1_768_954_900_525, None, Some(&noise)) },
        record(1_768_954_900_526, Some(b"text"), Some(text.as_bytes())),
    ];
    for (partition, codec) in [(0, Codec::None), (1, Codec::Lz4)] {
        let mut writer = BatchWriter::new(codec);
        let mut wanted = Vec::new();
        // Three batches in one partition: the broker gives the later ones other base offsets.
        for _ in 0..3 {
            for record in &records {
                writer.append(record).unwrap();
                wanted.push(as_peer_sees_it(wanted.len(), record));
            }
            send(kafka, partition, writer.finish());
        }
        let seen = kafka.consume("records_write", partition);
        assert_eq!(seen.len(), wanted.len());
        for (seen, wanted) in seen.iter().zip(&wanted) {
            assert!(
                seen == wanted,
                "codec {codec:?}: {:.300} instead of {:.300}",
                seen.to_string(),
                wanted.to_string()
            );
        }
    }
}

fn as_peer_sees_it(offset: usize, record: &NewRecord<'_>) -> Value {
    let name = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    json!({
        "offset": offset,
        "timestamp": record.timestamp,
        "key": record.key.map(to_hex),
        "value": record.value.map(to_hex),
        "headers": record.headers.iter().map(|h| json!([name(h.key), h.value.map(to_hex)])).collect::<Vec<_>>(),
    })
}

fn send(kafka: &Kafka, partition: i32, batch: Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(kafka.bootstrap()).await.unwrap();
        let mut messenger = Messenger::new(stream, 1 << 20, Arc::from("it"));
        messenger.sync_versions().await.unwrap();
        let topic = "records_write".to_owned();
        let request = RawProduceRequest { acks: -1, timeout_ms: 30_000, topic, batches: vec![(partition, batch)] };
        let answer = messenger.request(request).await.unwrap();
        let codes: Vec<_> = answer.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error).collect();
        assert_eq!(codes, [None]);
    });
}
