//! Bit streams: those read from their end (RFC 8878, 4.1), and the forward one of a table's description.

use super::super::Fault;

/// A stream read from its last bit on. Reading past its beginning gives zeros; the caller looks at what is left.
#[derive(Debug)]
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits not read yet; negative after reading past the beginning.
    left: isize,
    /// The bits taken up and not read yet, the next one highest, zeros behind them.
    word: u64,
}

impl<'a> Backward<'a> {
    /// The highest bit set in the last byte marks the end.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        match bytes.last() {
            Some(&last) if last != 0 => {
                let left = bytes.len() * 8 - last.leading_zeros() as usize - 1;
                Ok(Self { bytes, left: left.cast_signed(), word: 0 })
            }
            _ => Err(Fault::Broken("a bit stream has no end mark")),
        }
    }

    pub(super) fn left(&self) -> isize {
        self.left
    }

    /// Takes up the next bits: at least 57, as far as there are any.
    #[inline]
    pub(super) fn fill(&mut self) {
        self.word = if self.left >= 64 {
            let left = self.left.cast_unsigned();
            let end = left.div_ceil(8);
            let chunk = self.bytes.get(..end).and_then(|bytes| bytes.last_chunk::<8>());
            chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk)) << (end * 8 - left)
        } else if self.left > 0 {
            let word = self.bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            word << (64 - self.left)
        } else {
            0
        };
    }

    /// The next bits of those taken up, 1 to 57 since then, without going on.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> u64 {
        self.word >> (64 - count)
    }

    #[inline]
    pub(super) fn skip(&mut self, count: u32) {
        self.word <<= count;
        self.left -= count as isize;
    }

    /// Bits of those taken up, at most 57 since then.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> u64 {
        let bits = (self.word >> 1) >> (63 - count);
        self.skip(count);
        bits
    }
}

/// A stream read from its first bit on.
#[derive(Debug)]
pub(super) struct Forward<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Forward<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Up to 16 bits.
    pub(super) fn read(&mut self, count: usize) -> Result<u32, Fault> {
        let end = self.at + count;
        if end > self.bytes.len() * 8 {
            return Err(Fault::Broken("a table's description is cut off"));
        }
        let first = self.at / 8;
        let window = self.bytes.get(first..end.div_ceil(8)).unwrap_or(&[]);
        let word = window.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let bits = (word >> (self.at % 8)) & ((1 << count) - 1);
        self.at = end;
        Ok(bits)
    }

    pub(super) fn back(&mut self, count: usize) {
        self.at -= count;
    }

    /// The bytes behind those begun.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at.div_ceil(8)..).unwrap_or(&[])
    }
}
