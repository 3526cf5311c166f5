//! ClickHouse's own compression frames, for request bodies sent with `decompress=1`.
//!
//! One frame: 16 bytes checksum, then `u8 method` (0x82 = LZ4 block, 0x02 = as it is), `u32 compressed size` (these 9
//! header bytes included), `u32 uncompressed size`, payload; little-endian. The checksum is CityHash128 of version 1.0.2
//! over everything behind it, the first half of the pair before the second. Frames may be cut anywhere in the stream.
//! Source: `CompressedWriteBuffer.cpp`, `CompressedReadBufferBase.cpp`. Chosen over Content-Encoding because a flipped
//! bit or a cut body is always noticed.

use bytes::{BufMut, Bytes, BytesMut};
use cityhash_rs::cityhash_102_128;

use super::lz4;
use crate::config::Compression;

/// Uncompressed bytes a frame: far below the server's limits, and small enough to stay in the processor's cache.
pub const CHUNK: usize = lz4::LARGEST;

/// So many bytes that come in one piece are made a frame where they lie; fewer are collected with what is around them.
const DIRECT: usize = 8 * 1024;

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const LZ4: u8 = 0x82;
const STORED: u8 = 0x02;

/// Collects bytes and writes them as frames. Reused from body to body.
pub struct Frames {
    compression: Compression,
    /// Never more than a chunk, for which there is room from the start.
    pending: Vec<u8>,
    table: lz4::Table,
    /// The body, and behind it room with anything in it, for the most part a body before this one.
    out: BytesMut,
    /// Bytes of `out` that are the body.
    filled: usize,
    /// The bodies handed out last: their memory comes back once the inserts have let go of them. Two, because one is on
    /// the wire while the next is written.
    last: [Bytes; 2],
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").field("pending", &self.pending.len()).field("filled", &self.filled).finish()
    }
}

impl Frames {
    /// Nothing written yet.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            pending: Vec::with_capacity(CHUNK),
            table: lz4::Table::default(),
            out: BytesMut::new(),
            filled: 0,
            last: [Bytes::new(), Bytes::new()],
        }
    }

    /// Appends bytes of the stream.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while bytes.len() >= DIRECT {
            self.flush();
            let (chunk, rest) = bytes.split_at(bytes.len().min(CHUNK));
            self.frame(chunk);
            bytes = rest;
        }
        if self.pending.len() + bytes.len() > CHUNK {
            self.flush();
        }
        self.pending.extend_from_slice(bytes);
    }

    /// Ends the stream and hands out the body.
    pub fn finish(&mut self) -> Bytes {
        self.flush();
        let mut body = std::mem::take(&mut self.out);
        body.truncate(std::mem::take(&mut self.filled));
        let body = body.freeze();
        self.last.rotate_left(1);
        let [_, last] = &mut self.last;
        *last = body.clone();
        body
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        self.frame(&pending);
        self.pending = pending;
        self.pending.clear();
    }

    fn frame(&mut self, chunk: &[u8]) {
        if self.out.is_empty() {
            self.reclaim();
        }
        let start = self.filled;
        let payload = start + CHECKSUM + HEADER;
        let room = match self.compression {
            Compression::Lz4 => lz4::room(chunk.len()),
            Compression::None => 0, // is appended
        };
        if self.out.len() < payload + room {
            self.out.resize(payload + room, 0);
        }
        let method = match self.compression {
            Compression::Lz4 => {
                self.write_lz4(payload, chunk);
                LZ4
            }
            Compression::None => {
                self.append_at(payload, |out| out.put_slice(chunk));
                STORED
            }
        };
        let framed = self.filled - start - CHECKSUM;
        if let Some(mut header) = self.out.get_mut(start + CHECKSUM..payload) {
            header.put_u8(method);
            header.put_u32_le(framed as u32);
            header.put_u32_le(chunk.len() as u32);
        }
        // The crate puts the first half of CityHash's pair into the upper bits.
        let checksum = cityhash_102_128(self.out.get(start + CHECKSUM..self.filled).unwrap_or(&[])).rotate_left(64);
        if let Some(place) = self.out.get_mut(start..start + CHECKSUM) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// Writes what a chunk becomes as an LZ4 block, even where that is a little more: the server takes no stream with
    /// frames of both methods.
    fn write_lz4(&mut self, at: usize, chunk: &[u8]) {
        let place = self.out.get_mut(at..).unwrap_or_default();
        match lz4::compress(chunk, place, &mut self.table) {
            Some(length) => self.filled = at + length,
            None => self.append_at(at, |out| lz4::as_literals(chunk, out)),
        }
    }

    /// Has something appended to the first `at` bytes.
    fn append_at(&mut self, at: usize, append: impl FnOnce(&mut BytesMut)) {
        self.out.truncate(at);
        append(&mut self.out);
        self.filled = self.out.len();
    }

    fn reclaim(&mut self) {
        for place in &mut self.last {
            match std::mem::take(place).try_into_mut() {
                Ok(body) => {
                    self.out = body;
                    return;
                }
                Err(held) => *place = held,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes frames apart by the description above, not by the code.
    fn read(mut body: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = Vec::new();
        while !body.is_empty() {
            let word = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap()) as usize;
            let (compressed, plain) = (word(17), word(21));
            let framed = &body[16..16 + compressed];
            let hash = cityhash_102_128(framed);
            assert_eq!(body[..8], ((hash >> 64) as u64).to_le_bytes());
            assert_eq!(body[8..16], (hash as u64).to_le_bytes());
            assert!(plain <= 1 << 20);
            let (method, chunk) = match compression {
                Compression::Lz4 => (0x82, lz4_flex::block::decompress(&framed[9..], plain).unwrap()),
                Compression::None => (0x02, framed[9..].to_vec()),
            };
            assert_eq!(framed[0], method);
            assert_eq!(chunk.len(), plain);
            out.extend(chunk);
            body = &body[16 + compressed..];
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn comes_back(
            pieces in prop::collection::vec((any::<u8>(), 0..400_000_usize, any::<bool>()), 0..5),
            compression in prop::sample::select(vec![Compression::Lz4, Compression::None]),
        ) {
            let mut frames = Frames::new(compression);
            for _ in 0..2 {
                let mut plain = Vec::new();
                for (seed, length, noisy) in &pieces {
                    let piece: Vec<u8> = (0..*length)
                        .map(|at| if *noisy { (at.wrapping_mul(at + 7) >> 5) as u8 ^ seed } else { *seed })
                        .collect();
                    frames.write(&piece);
                    plain.extend(piece);
                }
                let body = frames.finish();
                prop_assert!(read(&body, compression) == plain);
            }
        }
    }

    #[test]
    fn the_memory_of_a_released_body_is_used_again() {
        let mut frames = Frames::new(Compression::Lz4);
        frames.write(&[7; 1000]);
        let first = frames.finish();
        let place = first.as_ptr();
        drop(first);
        frames.write(&[9; 1000]);
        let second = frames.finish();
        assert_eq!(second.as_ptr(), place);
        frames.write(&[8; 1000]);
        let third = frames.finish();
        assert_ne!(third.as_ptr(), place, "the second body is still held");
        assert_eq!(read(&second, Compression::Lz4), [9; 1000]);
    }
}
