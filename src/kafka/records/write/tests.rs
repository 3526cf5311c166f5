//! Batches are read back here by a reader that shares no code with the writer; that brokers and librdkafka accept
//! them is shown by the integration tests.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Read {
    fn append_to(&self, writer: &mut BatchWriter) {
        let headers: Vec<Header<'_>> =
            self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        writer
            .append(&NewRecord {
                timestamp: self.timestamp,
                key: self.key.as_deref(),
                value: self.value.as_deref(),
                headers: &headers,
            })
            .unwrap();
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }
    fn varint(&mut self) -> i64 {
        let mut raw = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)[0];
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return (raw >> 1) as i64 ^ -((raw & 1) as i64);
            }
        }
        panic!("a varint of more than ten bytes");
    }
    fn nullable(&mut self) -> Option<Vec<u8>> {
        let length = self.varint();
        (length >= 0).then(|| self.take(length as usize).to_vec())
    }
}

fn unframe(frame: &[u8]) -> Vec<u8> {
    let mut cursor = Cursor(frame);
    assert_eq!(cursor.take(4), [0x04, 0x22, 0x4D, 0x18]);
    let descriptor = cursor.take(2);
    assert_eq!(descriptor, [0x60, 0x40]);
    assert_eq!(cursor.take(1), [(xxh32_short(descriptor) >> 8) as u8]);
    let mut content = Vec::new();
    loop {
        let size = u32::from_le_bytes(cursor.take(4).try_into().unwrap());
        if size == 0 {
            assert!(cursor.0.is_empty(), "bytes after the end mark");
            return content;
        }
        let data = cursor.take((size & 0x7fff_ffff) as usize);
        if size >> 31 == 1 {
            content.extend_from_slice(data);
        } else {
            content.extend(lz4_flex::block::decompress(data, 64 * 1024).unwrap());
        }
    }
}

/// xxHash-32 with seed 0 of fewer than four bytes.
fn xxh32_short(input: &[u8]) -> u32 {
    assert!(input.len() < 4);
    let mut hash = 374_761_393_u32.wrapping_add(input.len() as u32);
    for byte in input {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(374_761_393));
        hash = hash.rotate_left(11).wrapping_mul(2_654_435_761);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(2_246_822_519);
    hash = (hash ^ (hash >> 13)).wrapping_mul(3_266_489_917);
    hash ^ (hash >> 16)
}

fn read_back(batch: &[u8]) -> Vec<Read> {
    let i32_at = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().unwrap());
    let i64_at = |at: usize| i64::from_be_bytes(batch[at..at + 8].try_into().unwrap());
    assert_eq!(i64_at(0), 0, "base offset");
    assert_eq!(i32_at(8) as usize, batch.len() - 12, "batch length");
    assert_eq!(batch[16], 2, "magic");
    assert_eq!(i32_at(17) as u32, crc32c::crc32c(&batch[21..]), "crc");
    assert_eq!((i64_at(43), i32_at(53)), (-1, -1), "no idempotence");
    let count = i32_at(57);
    assert_eq!(i32_at(23), count - 1, "last offset delta");
    let area = match batch[22] & 7 {
        0 => batch[61..].to_vec(),
        3 => unframe(&batch[61..]),
        other => panic!("codec {other}"),
    };
    let mut cursor = Cursor(&area);
    let mut records = Vec::new();
    for delta in 0..i64::from(count) {
        let length = cursor.varint() as usize;
        let mut body = Cursor(cursor.take(length));
        assert_eq!(body.take(1), [0], "attributes");
        let timestamp = i64_at(27) + body.varint();
        assert_eq!(body.varint(), delta, "offset delta");
        let (key, value) = (body.nullable(), body.nullable());
        let headers = (0..body.varint()).map(|_| (body.nullable().unwrap(), body.nullable())).collect();
        assert!(body.0.is_empty(), "the record's length is right");
        records.push(Read { timestamp, key, value, headers });
    }
    assert!(cursor.0.is_empty(), "bytes after the last record");
    assert_eq!(i64_at(35), records.iter().map(|record| record.timestamp).max().unwrap(), "max timestamp");
    records
}

fn any_record() -> impl Strategy<Value = Read> {
    let bytes = || {
        prop_oneof![
            8 => proptest::collection::vec(any::<u8>(), 0..200),
            // Long and uniform: compresses; passes the border of a block with a few neighbours.
            1 => (any::<u8>(), 0_usize..100_000).prop_map(|(byte, n)| vec![byte; n]),
        ]
    };
    let header = (proptest::collection::vec(any::<u8>(), 0..20), proptest::option::of(bytes()));
    (
        -(1_i64 << 50)..(1_i64 << 50),
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        proptest::collection::vec(header, 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Read { timestamp, key, value, headers })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_written_is_read_back(records in proptest::collection::vec(any_record(), 1..30), lz4 in any::<bool>()) {
        let mut writer = BatchWriter::new(if lz4 { Codec::Lz4 } else { Codec::None });
        // Twice with one writer: nothing of the first batch is left in the second.
        for _ in 0..2 {
            for record in &records {
                record.append_to(&mut writer);
            }
            prop_assert_eq!(writer.len(), records.len());
            prop_assert_eq!(&read_back(&writer.finish()), &records);
            prop_assert!(writer.is_empty());
        }
    }

    #[test]
    fn the_length_of_a_varint_is_what_is_written(value in any::<i64>(), shift in 0_u32..64) {
        let value = value >> shift;
        let mut out = Vec::new();
        put_varint(&mut out, value);
        prop_assert_eq!(varint_len(value), out.len());
        prop_assert_eq!(Cursor(&out).varint(), value);
    }
}

#[test]
fn noise_is_stored_and_repetition_shrinks() {
    let mut state = 7_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(200_000)
    .collect();
    for (value, at_most) in [(noise, 200_200), (vec![b'a'; 200_000], 2_000)] {
        let record = Read { timestamp: 1, key: None, value: Some(value), headers: Vec::new() };
        let mut writer = BatchWriter::new(Codec::Lz4);
        record.append_to(&mut writer);
        let batch = writer.finish();
        assert!(batch.len() <= at_most, "{} > {at_most}", batch.len());
        assert_eq!(read_back(&batch), [record]);
    }
}

#[test]
fn an_empty_writer_gives_no_batch() {
    assert!(BatchWriter::new(Codec::Lz4).finish().is_empty());
    assert!(BatchWriter::new(Codec::None).is_empty());
}
