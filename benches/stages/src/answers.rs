//! Fetch answers as a broker gives them: batches of sample events, compressed with each codec.

use std::io::Write as _;

use sandarb_consumer::kafka::protocol::fetch::FetchedPartition;
use sandarb_consumer::kafka::records::batch::HEADER_LENGTH;
use sandarb_consumer::kafka::records::reader::{Answer, Section};
use sandarb_consumer::kafka::records::write::{BatchWriter, Codec, NewRecord};

/// The newest event is of this moment.
const BASE_MS: i64 = 1_768_954_900_524;
/// Events a batch, as librdkafka's producer came to with linger.ms=20.
const BATCH: usize = 182;
/// Bytes an answer, about.
const ANSWER: usize = 1 << 20;

/// What a producer sends.
pub(crate) struct Message {
    key: String,
    pub(crate) value: Vec<u8>,
}

/// The first sample events.
pub(crate) fn events(count: u64) -> Vec<Message> {
    let source = sample_events::Source { seed: 7, base_ms: BASE_MS, variety: false };
    let message = |index| {
        let event = source.event(index);
        Message { key: event.org_id.to_string(), value: event.to_json().into_bytes() }
    };
    (0..count).map(message).collect()
}

/// The codecs by Kafka's number.
pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// All events in answers of one partition, compressed with one of [`CODECS`].
pub(crate) fn answers(events: &[Message], codec: usize) -> Vec<Answer> {
    // The program itself writes only these two; the batches of the others are made of uncompressed ones.
    let own = if CODECS[codec] == "lz4" { Some(Codec::Lz4) } else { (codec == 0).then_some(Codec::None) };
    let mut writer = BatchWriter::new(own.unwrap_or(Codec::None));
    let mut answers = Vec::new();
    let mut bytes = Vec::new();
    let mut offset = 0_i64;
    let mut first = 0_i64;
    for messages in events.chunks(BATCH) {
        for message in messages {
            let record = NewRecord {
                timestamp: BASE_MS,
                key: Some(message.key.as_bytes()),
                value: Some(&message.value),
                headers: &[],
            };
            writer.append(&record).expect("a small batch");
        }
        let mut batch = writer.finish();
        if own.is_none() {
            recompress(&mut batch, codec);
        }
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        offset += messages.len() as i64;
        bytes.extend(batch);
        if bytes.len() >= ANSWER {
            answers.push(answer(std::mem::take(&mut bytes), first));
            first = offset;
        }
    }
    if !bytes.is_empty() {
        answers.push(answer(bytes, first));
    }
    answers
}

fn answer(bytes: Vec<u8>, fetch_offset: i64) -> Answer {
    let fetched = FetchedPartition {
        partition: 0,
        error: 0,
        high_watermark: i64::MAX,
        last_stable_offset: i64::MAX,
        log_start_offset: 0,
        preferred_replica: -1,
        aborted: Vec::new(),
        records: 0..bytes.len(),
    };
    Answer { bytes, sections: vec![Section { fetch_offset, fetched }] }
}

/// Compresses the records of a batch; its fields are in the table of `records::batch`.
fn recompress(batch: &mut Vec<u8>, codec: usize) {
    let records = compress(&batch[HEADER_LENGTH..], codec);
    batch.truncate(HEADER_LENGTH);
    batch.extend(records);
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[21..23].copy_from_slice(&(codec as i16).to_be_bytes());
    let sum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
}

/// With the level that librdkafka takes by default.
fn compress(records: &[u8], codec: usize) -> Vec<u8> {
    match CODECS[codec] {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(records).expect("into memory");
            encoder.finish().expect("into memory")
        }
        "snappy" => snap::raw::Encoder::new().compress_vec(records).expect("into memory"),
        "zstd" => zstd::bulk::compress(records, 3).expect("into memory"),
        other => unreachable!("{other}"),
    }
}
