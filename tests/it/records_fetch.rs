//! Reads a partition as the program does (its connection, its Fetch, its walk over the answer), without the group.

use std::sync::Arc;
use std::time::Duration;

use sandarb_consumer::config::HostPort;
use sandarb_consumer::kafka::connection::{ConnectOptions, Connection};
use sandarb_consumer::kafka::protocol::fetch::{FetchAnswer, FetchFrom, FetchRequest};
use sandarb_consumer::kafka::records::batch::{self, Front, HEADER_LENGTH};
use sandarb_consumer::kafka::records::compression::Decompressor;
use sandarb_consumer::kafka::records::reader::{Answer, AnswerReader, Item, Section};
use sandarb_consumer::kafka::round_trip::RoundTrip;

use crate::harness::Kafka;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    /// As they are in the record: a count and that many pairs.
    pub(crate) headers: Vec<u8>,
}

/// A partition from an offset to its end.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) records: Vec<Read>,
    /// Codec and first bytes of each batch's records.
    pub(crate) batches: Vec<(i16, Vec<u8>)>,
}

/// How a partition is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) isolation: i8,
    pub(crate) from: i64,
    /// Up to where.
    pub(crate) end: i64,
    pub(crate) fetch_bytes: i32,
}

/// Reads all of it.
pub(crate) fn read(kafka: &Kafka, topic: &str, partition: i32, how: How) -> Partition {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = ConnectOptions {
            client_id: Arc::from("it"),
            limit: Duration::from_secs(10),
            max_answer: 64 << 20,
            tls: None,
            sasl: None,
            round_trip: RoundTrip::default(),
        };
        let peer = HostPort { host: "127.0.0.1".to_owned(), port: kafka.port() };
        let connection = Connection::open(&peer, &options).await.unwrap();
        let mut seen = Partition::default();
        let mut decompressor = Decompressor::default();
        let mut position = how.from;
        while position < how.end {
            let request = FetchRequest {
                max_wait_ms: 1000,
                min_bytes: 1,
                max_bytes: how.fetch_bytes,
                isolation: how.isolation,
                topic,
                partitions: &[FetchFrom { partition, offset: position, leader_epoch: -1 }],
                partition_max_bytes: how.fetch_bytes,
            };
            let buffer = connection.request(request, Duration::from_secs(30)).await.unwrap();
            let answer = FetchAnswer::decode(buffer).unwrap();
            let [fetched] = &answer.partitions[..] else { panic!("{} partitions", answer.partitions.len()) };
            assert_eq!((answer.error, fetched.error), (0, 0), "at {position}");
            note_batches(&answer.bytes[fetched.records.clone()], &mut seen);
            let section = Section { fetch_offset: position, fetched: fetched.clone() };
            let answer = Answer { bytes: answer.bytes, sections: vec![section] };
            let mut reader = AnswerReader::new(answer, decompressor, 16 << 20);
            let before = position;
            while reader.advance().unwrap() {
                match reader.item().unwrap() {
                    Item::Record(record) => seen.records.push(Read {
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: record.headers.to_vec(),
                    }),
                    Item::Passed { next, .. } => position = next,
                }
            }
            assert!(position > before, "nothing whole came at {before} of {}", how.end);
            decompressor = reader.into_parts().0;
        }
        seen
    })
}

fn note_batches(mut bytes: &[u8], seen: &mut Partition) {
    while let Front::Batch(header) = batch::front(bytes).unwrap() {
        let records = &bytes[HEADER_LENGTH..header.length];
        seen.batches.push((header.codec, records[..records.len().min(8)].to_vec()));
        bytes = &bytes[header.length..];
    }
}
