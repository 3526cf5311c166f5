use proptest::prelude::*;

use super::*;
use crate::kafka::records::write::{BatchWriter, Codec, NewRecord};

/// What a test reads out of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Value(i64, Option<Vec<u8>>),
    Passed { from: i64, next: i64 },
}

fn batch(codec: Codec, base_offset: i64, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut writer = BatchWriter::new(codec);
    for value in values {
        writer.append(&NewRecord { timestamp: 1000, key: None, value: *value, headers: &[] }).unwrap();
    }
    let mut bytes = writer.finish();
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes
}

/// Sets attribute bits, the last offset delta and the producer id, and makes the checksum right again.
fn rewrite(mut bytes: Vec<u8>, attributes: i16, last_offset_delta: Option<i32>, producer_id: i64) -> Vec<u8> {
    let old = i16::from_be_bytes([bytes[21], bytes[22]]);
    bytes[21..23].copy_from_slice(&(old | attributes).to_be_bytes());
    if let Some(delta) = last_offset_delta {
        bytes[23..27].copy_from_slice(&delta.to_be_bytes());
    }
    bytes[43..51].copy_from_slice(&producer_id.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A batch that compaction has emptied: the broker keeps its header.
fn emptied(base_offset: i64, last_offset_delta: i32) -> Vec<u8> {
    let mut bytes = batch(Codec::None, base_offset, &[Some(b"gone")]);
    bytes.truncate(HEADER_LENGTH);
    bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
    bytes[57..61].copy_from_slice(&0i32.to_be_bytes());
    rewrite(bytes, 0, Some(last_offset_delta), -1)
}

fn marker(base_offset: i64, producer_id: i64, kind: i16) -> Vec<u8> {
    let mut writer = BatchWriter::new(Codec::None);
    let key = [0i16.to_be_bytes(), kind.to_be_bytes()].concat();
    writer.append(&NewRecord { timestamp: 0, key: Some(&key), value: Some(&[0; 6]), headers: &[] }).unwrap();
    let mut bytes = writer.finish();
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    rewrite(bytes, 0b11_0000, None, producer_id)
}

fn reader(bytes: Vec<u8>, fetch_offset: i64, aborted: &[(i64, i64)], limit: usize) -> AnswerReader {
    let records = 0..bytes.len();
    let fetched = FetchedPartition {
        partition: 0,
        error: 0,
        high_watermark: 0,
        last_stable_offset: 0,
        log_start_offset: 0,
        preferred_replica: -1,
        aborted: aborted.to_vec(),
        records,
    };
    AnswerReader::new(
        Answer { bytes, sections: vec![Section { fetch_offset, fetched }] },
        Decompressor::default(),
        limit,
    )
}

fn walk(mut reader: AnswerReader) -> Result<Vec<Seen>, RecordsError> {
    let mut seen = Vec::new();
    while reader.advance()? {
        seen.push(match reader.item().unwrap() {
            Item::Record(record) => Seen::Value(record.offset, record.value.map(<[u8]>::to_vec)),
            Item::Passed { from, next, .. } => Seen::Passed { from, next },
        });
    }
    Ok(seen)
}

fn value(offset: i64, text: &str) -> Seen {
    Seen::Value(offset, Some(text.as_bytes().to_vec()))
}

#[test]
fn both_codecs_null_values_and_a_cut_tail() {
    for codec in [Codec::None, Codec::Lz4] {
        let mut bytes = batch(codec, 10, &[Some(b"a"), None, Some(b"")]);
        bytes.extend(batch(codec, 13, &[Some(b"b")]));
        bytes.extend(&batch(codec, 14, &[Some(b"never read")])[..70]);
        let expected = [
            value(10, "a"),
            Seen::Value(11, None),
            value(12, ""),
            Seen::Passed { from: 13, next: 13 },
            value(13, "b"),
            Seen::Passed { from: 14, next: 14 },
        ];
        assert_eq!(walk(reader(bytes, 10, &[], 1 << 20)).unwrap(), expected);
    }
}

#[test]
fn records_before_the_position_are_left_out_and_gaps_are_passed() {
    let mut bytes = batch(Codec::Lz4, 0, &[Some(b"old")]);
    bytes.extend(rewrite(batch(Codec::Lz4, 5, &[Some(b"x"), Some(b"y")]), 0, Some(9), -1));
    bytes.extend(emptied(20, 4));
    let seen = walk(reader(bytes, 6, &[], 1 << 20)).unwrap();
    assert_eq!(seen, [value(6, "y"), Seen::Passed { from: 7, next: 15 }, Seen::Passed { from: 15, next: 25 }]);
}

#[test]
fn aborted_transactions_and_markers_are_passed_over() {
    let transactional = 0b1_0000;
    let mut bytes = Vec::new();
    bytes.extend(rewrite(batch(Codec::None, 0, &[Some(b"aborted")]), transactional, None, 7));
    bytes.extend(rewrite(batch(Codec::None, 1, &[Some(b"good")]), transactional, None, 8));
    bytes.extend(marker(2, 7, 0));
    bytes.extend(rewrite(batch(Codec::None, 3, &[Some(b"after the abort")]), transactional, None, 7));
    bytes.extend(marker(4, 7, 1));
    bytes.extend(marker(5, 8, 1));
    let values = |aborted: &[(i64, i64)]| -> Vec<Seen> {
        let seen = walk(reader(bytes.clone(), 0, aborted, 1 << 20)).unwrap();
        assert_eq!(seen.last(), Some(&Seen::Passed { from: 5, next: 6 }), "the position goes behind the marker");
        seen.into_iter().filter(|seen| matches!(seen, Seen::Value(..))).collect()
    };
    assert_eq!(values(&[(7, 0)]), [value(1, "good"), value(3, "after the abort")]);
    assert_eq!(values(&[]), [value(0, "aborted"), value(1, "good"), value(3, "after the abort")]);
}

#[test]
fn what_cannot_be_read_is_refused_with_its_offset() {
    let good = batch(Codec::Lz4, 3, &[Some(b"v")]);
    let mut corrupt = good.clone();
    *corrupt.last_mut().unwrap() ^= 1;
    assert!(matches!(walk(reader(corrupt, 3, &[], 99)), Err(RecordsError::Checksum { offset: 3, .. })));
    let mut old = good.clone();
    old[16] = 1;
    assert_eq!(walk(reader(old, 3, &[], 99)), Err(RecordsError::Magic { offset: 3, magic: 1 }));
    for codec in 5..=7 {
        let other = rewrite(batch(Codec::None, 3, &[Some(b"v")]), codec, None, -1);
        let expected = RecordsError::Codec { offset: 3, codec: format!("codec {codec}") };
        assert_eq!(walk(reader(other, 3, &[], 99)), Err(expected));
    }
    for codec in 1..=4 {
        let other = rewrite(batch(Codec::None, 3, &[Some(b"v")]), codec, None, -1);
        assert!(matches!(walk(reader(other, 3, &[], 99)), Err(RecordsError::Decompress { offset: 3, .. })));
    }
    let bomb = batch(Codec::Lz4, 3, &[Some(&[0; 500_000])]);
    assert!(bomb.len() < 5000, "{}", bomb.len());
    assert_eq!(walk(reader(bomb, 3, &[], 100_000)), Err(RecordsError::TooLarge { offset: 3, limit: 100_000 }));
    let mut fewer = batch(Codec::None, 3, &[Some(b"v"), Some(b"w")]);
    fewer[60] = 1; // record count
    let fewer = rewrite(fewer, 0, None, -1);
    let expected = RecordsError::Malformed { offset: 3, what: "bytes behind its last record" };
    assert_eq!(walk(reader(fewer, 3, &[], 99)), Err(expected));
    let short = rewrite(batch(Codec::None, 3, &[Some(b"v")]), 0, Some(-1), -1);
    assert!(matches!(walk(reader(short, 3, &[], 99)), Err(RecordsError::Malformed { offset: 3, .. })));
}

#[test]
fn the_rest_of_an_answer_goes_on_behind_a_skipped_partition() {
    let mut bytes = batch(Codec::None, 0, &[Some(b"a")]);
    bytes[20] ^= 1;
    let half = bytes.len();
    bytes.extend(batch(Codec::None, 0, &[Some(b"b")]));
    let mut walker = reader(bytes.clone(), 0, &[], 99);
    walker.answer.sections[0].fetched.records = 0..half;
    let mut second = walker.answer.sections[0].fetched.clone();
    second.partition = 1;
    second.records = half..bytes.len();
    walker.answer.sections.push(Section { fetch_offset: 0, fetched: second });
    assert!(walker.advance().is_err());
    assert_eq!(walker.section().unwrap().fetched.partition, 0);
    walker.skip_section();
    assert_eq!(walk(walker).unwrap(), [value(0, "b"), Seen::Passed { from: 1, next: 1 }]);
}

#[test]
fn the_end_of_a_section_is_that_of_its_last_whole_batch() {
    let mut bytes = rewrite(batch(Codec::None, 0, &[Some(b"a")]), 0, Some(6), -1);
    assert_eq!(end_of(&bytes, |_| ()), Some(7));
    bytes.extend(&batch(Codec::None, 7, &[Some(b"b")])[..40]);
    assert_eq!(end_of(&bytes, |_| ()), Some(7));
    assert_eq!(end_of(&bytes[..30], |_| ()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_value_comes_back(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..400)), 1..60),
        lz4: bool,
        base in 0i64..1_000_000,
    ) {
        let codec = if lz4 { Codec::Lz4 } else { Codec::None };
        let slices: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let seen = walk(reader(batch(codec, base, &slices), base, &[], 1 << 24)).unwrap();
        let mut expected: Vec<Seen> = (base..).zip(values.clone()).map(|(at, value)| Seen::Value(at, value)).collect();
        let end = base + i64::try_from(values.len()).unwrap();
        expected.push(Seen::Passed { from: end, next: end });
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic(at: prop::sample::Index, to: u8, fix_checksum: bool) {
        let mut bytes = batch(Codec::Lz4, 3, &[Some(&[7; 900]), None, Some(b"{\"a\":1}")]);
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if fix_checksum {
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let outcome = walk(reader(bytes, 3, &[], 1 << 16));
        // Base offset, leader epoch and, with it, the checksum's own bytes are not covered by the checksum.
        if !fix_checksum && at >= 21 {
            prop_assert!(outcome.is_err());
        }
    }

    /// Headers with any numbers in them around records with any numbers in them, the checksum right.
    #[test]
    fn hostile_batches_are_refused_or_read_within_the_limit(
        attributes: i16,
        last_offset_delta in prop_oneof![any::<i32>(), 0..20],
        count in prop_oneof![any::<i32>(), 0..20],
        base_offset: i64,
        times: (i64, i64),
        numbers in prop::collection::vec(prop_oneof![any::<i64>(), -2i64..40], 0..60),
        filler in prop::collection::vec(any::<u8>(), 0..200),
        fetch_offset: i64,
    ) {
        let mut body = Vec::new();
        for number in numbers {
            let mut rest = ((number << 1) ^ (number >> 63)) as u64;
            while rest >= 0x80 {
                body.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            body.push(rest as u8);
        }
        body.extend(filler);
        let mut bytes = batch(Codec::None, base_offset, &[Some(b"x")]);
        bytes.truncate(HEADER_LENGTH);
        bytes.extend(&body);
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[27..35].copy_from_slice(&times.0.to_be_bytes());
        bytes[35..43].copy_from_slice(&times.1.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let bytes = rewrite(bytes, attributes, Some(last_offset_delta), 7);
        let total = bytes.len();
        let mut walker = reader(bytes, fetch_offset, &[(7, base_offset)], 1 << 16);
        let mut steps = 0;
        while let Ok(true) = walker.advance() {
            if let Some(Item::Record(record)) = walker.item() {
                prop_assert!(record.offset >= fetch_offset);
            }
            steps += 1;
            prop_assert!(steps <= total + (1 << 16));
        }
        prop_assert!(walker.into_parts().0.held() <= 1 << 16);
    }

    #[test]
    fn noise_is_an_error_or_nothing(noise: Vec<u8>) {
        if let Ok(seen) = walk(reader(noise, 0, &[], 1 << 16)) {
            prop_assert!(seen.is_empty());
        }
    }
}
