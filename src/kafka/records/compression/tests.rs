use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

fn header(codec: i16) -> BatchHeader {
    BatchHeader {
        base_offset: 7,
        last_offset: 7,
        leader_epoch: -1,
        codec,
        log_append_time: false,
        transactional: false,
        control: false,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        record_count: 1,
        length: 0,
    }
}

fn unpack(codec: i16, bytes: &[u8], limit: usize) -> Result<Vec<u8>, RecordsError> {
    let mut decompressor = Decompressor::default();
    decompressor.decompress(&header(codec), bytes, limit)?;
    assert!(decompressor.held() <= limit, "{} bytes held with a limit of {limit}", decompressor.held());
    Ok(decompressor.bytes().to_vec())
}

fn gzip(content: &[u8], flags: u8) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
    if flags & 4 != 0 {
        bytes.extend(b"\x03\x00abc");
    }
    if flags & 8 != 0 {
        bytes.extend(b"name\0");
    }
    if flags & 16 != 0 {
        bytes.extend(b"comment\0");
    }
    if flags & 2 != 0 {
        bytes.extend(b"\0\0");
    }
    bytes.extend(miniz_oxide::deflate::compress_to_vec(content, 6));
    bytes.extend([0; 8]);
    bytes
}

fn snappy(content: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(content).unwrap()
}

fn xerial(content: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in content.chunks(32 << 10) {
        let block = snappy(block);
        bytes.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        bytes.extend(block);
    }
    bytes
}

fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

/// A frame with every option; `linked` lets blocks refer to those before.
fn lz4(content: &[u8], linked: bool) -> Vec<u8> {
    let flags = if linked { 0x5C } else { 0x7C }; // block checksums, content size, content checksum
    let mut bytes = [&MAGIC_LZ4.to_le_bytes()[..], &[flags, 0x40]].concat();
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.push(0); // header checksum: wrong, as old Java clients wrote it
    for (number, block) in content.chunks(64 << 10).enumerate() {
        let packed = if linked {
            let before = &content[..number * (64 << 10)];
            lz4_flex::block::compress_with_dict(block, &before[before.len().saturating_sub(64 << 10)..])
        } else {
            lz4_flex::block::compress(block)
        };
        let (size, packed) = if packed.len() < block.len() {
            (packed.len() as u32, &packed[..])
        } else {
            (block.len() as u32 | 1 << 31, block)
        };
        bytes.extend(size.to_le_bytes());
        bytes.extend(packed);
        bytes.extend([0; 4]);
    }
    bytes.extend([0; 8]); // end mark, content checksum
    bytes
}

const MAGIC_LZ4: u32 = 0x184D_2204;

/// Every codec, and each of its framings.
fn packed(content: &[u8]) -> Vec<(i16, Vec<u8>)> {
    let twice = |pack: &dyn Fn(&[u8]) -> Vec<u8>| {
        let (head, tail) = content.split_at(content.len() / 2);
        [pack(head), pack(tail)].concat()
    };
    let skippable = |frames: Vec<u8>| [b"\x5A\x2A\x4D\x18\x03\0\0\0abc".to_vec(), frames].concat();
    vec![
        (1, gzip(content, 0)),
        (1, gzip(content, 2 | 4 | 8 | 16)),
        (1, twice(&|part| gzip(part, 8))),
        (2, snappy(content)),
        (2, xerial(content)),
        (2, twice(&xerial)),
        (3, lz4(content, false)),
        (3, lz4(content, true)),
        (3, skippable(twice(&|part| lz4(part, true)))),
        (4, zstd(content)),
        (4, skippable(twice(&zstd))),
    ]
}

#[test]
fn every_codec_and_framing() {
    let noise: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let text = "{\"event\":\"the same words, over and over\"} ".repeat(8_000).into_bytes();
    let mixed: Vec<u8> = noise.chunks(700).zip(text.chunks(900)).flat_map(|(a, b)| [a, b]).flatten().copied().collect();
    for content in [&b""[..], b"x", b"{\"a\":1}", &noise, &text, &mixed, &[0; 1 << 20]] {
        for (number, (codec, bytes)) in packed(content).into_iter().enumerate() {
            let seen = unpack(codec, &bytes, (2 << 20).max(content.len()));
            assert!(seen.as_deref() == Ok(content), "framing {number} of {} bytes: {:?}", content.len(), seen.err());
        }
    }
}

#[test]
fn more_than_the_limit_is_refused_and_not_made() {
    for (number, (codec, bytes)) in packed(&[7; 3_000_000]).into_iter().enumerate() {
        let expected = RecordsError::TooLarge { offset: 7, limit: 100_000 };
        assert_eq!(unpack(codec, &bytes, 100_000), Err(expected), "framing {number}");
    }
}

/// One block of a few hundred bytes that would become gigabytes for a decoder that trusts it.
#[test]
fn a_zstd_block_beyond_128_kib_is_refused() {
    // One raw literal, tables that always give the longest match (52) and no literals but one (1), offset code 0.
    const SEQUENCES: usize = 100;
    let mut block = vec![1 << 3, b'x'];
    block.push(SEQUENCES as u8);
    block.push(0b0101_0100); // all three by one symbol
    block.extend([0, 0, 52]);
    block.extend(vec![0xFF; SEQUENCES * 2]); // 16 more bits for each match length
    block.push(1);
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0x58];
    frame.extend(&((block.len() as u32) << 3 | 2 << 1 | 1).to_le_bytes()[..3]);
    frame.extend(block);
    let seen = unpack(4, &frame, 64 << 20);
    assert!(matches!(seen, Err(RecordsError::Decompress { codec: "zstd", .. })), "{:?}", seen.map(|all| all.len()));
}

#[test]
fn a_buffer_is_used_again() {
    let mut decompressor = Decompressor::default();
    let text = "some words ".repeat(20_000).into_bytes();
    let mut held = None;
    for round in 0..3 {
        for (codec, bytes) in packed(&text) {
            decompressor.decompress(&header(codec), &bytes, 1 << 20).unwrap();
            assert!(decompressor.bytes() == text, "round {round}, codec {codec}");
        }
        assert_eq!(*held.get_or_insert_with(|| decompressor.held()), decompressor.held());
    }
    assert!(decompressor.decompress(&header(4), b"no zstd", 1 << 20).is_err());
    assert_eq!(decompressor.bytes(), b"", "nothing of the batch before");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn content_comes_back(
        words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..20),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..3000),
    ) {
        let content: Vec<u8> = picks.iter().flat_map(|pick| pick.get(&words)).copied().collect();
        for (codec, bytes) in packed(&content) {
            let seen = unpack(codec, &bytes, 1 << 20);
            prop_assert!(seen.as_deref() == Ok(&content[..]), "codec {}: {:?}", codec, seen.err());
        }
    }

    #[test]
    fn damage_never_panics(
        seed in prop::collection::vec(any::<u8>(), 0..400),
        which in 0usize..11,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let content: Vec<u8> = seed.iter().cycle().take(seed.len() * 20).copied().collect();
        let (codec, mut bytes) = packed(&content).swap_remove(which);
        for (at, to) in damage {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Ok(seen) = unpack(codec, &bytes, 1 << 16) {
            prop_assert!(seen.len() <= 1 << 16);
        }
    }
}
