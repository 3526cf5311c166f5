//! Hostile record batches: mutations of the corpus (fuzz/corpus/records) and of batches made here, with the checksums
//! made right, for FUZZ_SECONDS (default 5). The same entry as the cargo-fuzz target's, on a stable compiler.
//!
//! FUZZ_SEED repeats a run; what breaks a promise is written to fuzz/artifacts and named.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    reason = "a test that meets the unexpected is to fail on the spot, and this one runs for a time"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use sandarb_consumer::kafka::records::write::{BatchWriter, Codec, Header, NewRecord};

#[path = "../fuzz/records_entry.rs"]
mod records_entry;

/// xorshift64*: fast, repeatable, and good enough to mutate with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, below: usize) -> usize {
        (self.next() % below.max(1) as u64) as usize
    }
}

#[test]
fn hostile_batches_break_no_promise() {
    let seconds = number("FUZZ_SECONDS").unwrap_or(5);
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("FUZZ_SEED").unwrap_or_else(clock) | 1;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut corpus: Vec<Vec<u8>> = std::fs::read_dir(dir.join("corpus/records"))
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(corpus.len() >= 10, "fuzz/corpus/records holds {} files", corpus.len());
    corpus.extend(made());

    let mut random = Random(seed);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0u64;
    let peak_before = peak_kib();
    while runs < corpus.len() as u64 || Instant::now() < deadline {
        let input = match corpus.get(runs as usize) {
            Some(whole) => whole.clone(),
            None => mutate(&corpus, &mut random),
        };
        if catch_unwind(AssertUnwindSafe(|| records_entry::records(&input))).is_err() {
            let artifacts = dir.join("artifacts");
            std::fs::create_dir_all(&artifacts).unwrap();
            let file = artifacts.join(format!("records-{seed}-{runs}"));
            std::fs::write(&file, &input).unwrap();
            panic!("FUZZ_SEED={seed}, input {runs}: {}", file.display());
        }
        runs += 1;
    }
    let grown = peak_kib().saturating_sub(peak_before);
    println!("{runs} inputs in {seconds} s, seed {seed}, peak memory grew by {grown} KiB");
    assert!(runs > 500, "only {runs} inputs in {seconds} s");
    assert!(grown < 32 << 10, "memory grew by {grown} KiB with a limit of {} KiB", records_entry::LIMIT >> 10);
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The most memory this process has had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Batches of the project's own writer, bombs among them, and each with its codec number changed.
fn made() -> Vec<Vec<u8>> {
    let headers = [Header { key: b"a", value: None }, Header { key: b"\xff", value: Some(b"b") }];
    let mut all = Vec::new();
    for codec in [Codec::None, Codec::Lz4] {
        let mut writer = BatchWriter::new(codec);
        for value in [Some(&b"{\"a\":1}"[..]), None, Some(b""), Some(&[0; 200_000])] {
            let record = NewRecord { timestamp: 1000, key: Some(b"key"), value, headers: &headers };
            writer.append(&record).unwrap();
            all.push(writer.finish());
            (0..20).for_each(|_| writer.append(&record).unwrap());
            all.push(writer.finish());
        }
    }
    all.extend(bombs());
    for number in 1..=7 {
        let mut other = all[0].clone();
        other[22] = number;
        all.push(other);
    }
    all
}

/// Batches of a few KiB that claim, or become, far more than the limit.
fn bombs() -> Vec<Vec<u8>> {
    let zeros = vec![0; 4 << 20];
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    gzip.extend(miniz_oxide::deflate::compress_to_vec(&zeros, 9));
    gzip.extend([0; 8]);
    let snappy = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    let mut claim = snappy.clone();
    claim.splice(..4, [0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
    let zstd = ruzstd::encoding::compress_to_vec(&zeros[..], ruzstd::encoding::CompressionLevel::Fastest);
    // Blocks of one repeated byte: 128 KiB for four bytes.
    let mut runs = vec![0x28, 0xB5, 0x2F, 0xFD, 0, 0x58];
    (0..1000).for_each(|_| runs.extend([0x02, 0x00, 0x10, b'x']));
    let mut writer = BatchWriter::new(Codec::None);
    writer.append(&NewRecord { timestamp: 0, key: None, value: None, headers: &[] }).unwrap();
    let head = writer.finish()[..61].to_vec();
    let with = |(codec, body): (u8, Vec<u8>)| {
        let mut batch = [head.clone(), body].concat();
        batch[22] = codec;
        let length = (batch.len() - 12) as u32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch
    };
    [(1, gzip), (2, snappy), (2, claim), (4, zstd), (4, runs)].map(with).into()
}

/// A few changes of the kinds that break parsers: bits, extreme numbers, cuts, repetitions, splices.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const EXTREMES: [u64; 10] =
        [0, 1, u64::MAX, 0x7F, 0x80, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0x7FFF_FFFF_FFFF_FFFF, 61];
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(6) {
        let length = bytes.len();
        // Half of them hit the headers of batch, frame and first record.
        let at = if random.below(2) == 0 { random.below(length.min(120)) } else { random.below(length) };
        match random.below(8) {
            0 if length > 0 => bytes[at] ^= 1 << random.below(8),
            1 if length > 0 => bytes[at] = random.next() as u8,
            2 => {
                let number = EXTREMES[random.below(EXTREMES.len())];
                let wide = 1 << random.below(4);
                let number =
                    if random.below(2) == 0 { number.to_be_bytes() } else { number.swap_bytes().to_be_bytes() };
                for (to, from) in bytes.iter_mut().skip(at).zip(&number[8 - wide..]) {
                    *to = *from;
                }
            }
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..(at + random.below(64)).min(length)].to_vec();
                bytes.splice(at..at, part);
            }
            5 => drop(bytes.drain(at..(at + random.below(32)).min(length))),
            6 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => bytes.extend_from_slice(&corpus[random.below(corpus.len())]),
        }
    }
    // A batch whose length field no longer fits is only a partial one: mend it, most times.
    if bytes.len() > 61 && random.below(4) > 0 {
        let length = (bytes.len() - 12) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
    }
    bytes.truncate(1 << 20);
    bytes
}
