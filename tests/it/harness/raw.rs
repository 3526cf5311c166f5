//! Records and notes as bytes, by the project's own code: librdkafka's Python client takes no header key that is not UTF-8.

use std::sync::Arc;

use rskafka::messenger::Messenger;
use sandarb_consumer::kafka::protocol::fetch::{FetchAnswer, FetchFrom, FetchRequest};
use sandarb_consumer::kafka::protocol::offset_fetch::OffsetFetchRequest;
use sandarb_consumer::kafka::protocol::produce::RawProduceRequest;
use sandarb_consumer::kafka::records::batch;
use sandarb_consumer::kafka::records::compression::Decompressor;
use sandarb_consumer::kafka::records::reader::{Answer, AnswerReader, Item, Section};
use sandarb_consumer::kafka::records::write::{BatchWriter, Codec, Header, NewRecord};
use tokio::net::TcpStream;

use super::Kafka;
use super::bench::PARTITIONS;

/// A record, or what is to become one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Raw {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Raw {
    /// Without key and headers.
    pub(crate) fn of(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// The last header of this name, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(key, _)| key == name.as_bytes())?;
        Some(std::str::from_utf8(value.as_deref()?).unwrap())
    }
}

impl Kafka {
    /// Writes records into a partition as one batch; the offset of the first.
    pub(crate) fn write(&self, topic: &str, partition: i32, timestamp: i64, records: &[Raw]) -> i64 {
        let mut writer = BatchWriter::new(Codec::Lz4);
        for record in records {
            let headers: Vec<Header<'_>> =
                record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            writer.append(&NewRecord { timestamp, key, value, headers: &headers }).unwrap();
        }
        let batches = vec![(partition, writer.finish())];
        let request = RawProduceRequest { acks: -1, timeout_ms: 30_000, topic: topic.to_owned(), batches };
        let answer = self.ask(async |messenger| messenger.request(request).await.unwrap());
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error, None);
        partition.base_offset.0
    }

    /// All records of a partition.
    pub(crate) fn read(&self, topic: &str, partition: i32) -> Vec<Raw> {
        let end = self.end_offsets(topic).get(&partition).copied().unwrap_or(0);
        let mut records = Vec::new();
        let mut position = 0;
        while position < end {
            let partitions = [FetchFrom { partition, offset: position, leader_epoch: -1 }];
            let (max, max_wait_ms) = (8 << 20, 1000);
            let request = FetchRequest {
                max_wait_ms,
                min_bytes: 1,
                max_bytes: max,
                isolation: 1,
                topic,
                partitions: &partitions,
                partition_max_bytes: max,
            };
            let answer = self.ask(async |messenger| messenger.request(request).await.unwrap());
            let FetchAnswer { bytes, partitions, .. } = FetchAnswer::decode(answer).unwrap();
            let sections = partitions
                .into_iter()
                .map(|fetched| {
                    assert_eq!(fetched.error, 0);
                    Section { fetch_offset: position, fetched }
                })
                .collect();
            let mut reader = AnswerReader::new(Answer { bytes, sections }, Decompressor::default(), 64 << 20);
            while reader.advance().unwrap() {
                match reader.item().unwrap() {
                    Item::Passed { next, .. } => position = next,
                    Item::Record(record) => {
                        let headers = batch::headers(record.headers).unwrap();
                        let own = |bytes: &[u8]| bytes.to_vec();
                        records.push(Raw {
                            key: record.key.map(own),
                            value: record.value.map(own),
                            headers: headers.iter().map(|one| (own(one.key), one.value.map(own))).collect(),
                        });
                    }
                }
            }
        }
        records
    }

    /// What is noted beside the group's committed offsets: librdkafka's Python client reads on behind the note's end.
    pub(crate) fn notes(&self, group: &str, topic: &str) -> Vec<String> {
        let partitions: Vec<i32> = (0..PARTITIONS).collect();
        let request = OffsetFetchRequest { group_id: group, topic, partitions: &partitions };
        let answer = self.ask(async |messenger| messenger.request(request).await.unwrap());
        assert_eq!(answer.error, 0);
        answer.partitions.into_iter().map(|committed| committed.metadata).collect()
    }

    fn ask<T>(&self, ask: impl AsyncFnOnce(Messenger<TcpStream>) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = TcpStream::connect(self.bootstrap()).await.unwrap();
            let mut messenger = Messenger::new(stream, 64 << 20, Arc::from("it"));
            messenger.sync_versions().await.unwrap();
            ask(messenger).await
        })
    }
}
