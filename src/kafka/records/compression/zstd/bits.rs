//! Bit streams: those read from their end (RFC 8878, 4.1), and the forward one of a table's description.

use super::super::Fault;

/// A stream read from its last bit on. Reading past its beginning gives zeros; the caller looks at what is left.
#[derive(Debug)]
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits not read yet; negative after reading past the beginning.
    left: isize,
}

impl<'a> Backward<'a> {
    /// The highest bit set in the last byte marks the end.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        match bytes.last() {
            Some(&last) if last != 0 => {
                let left = bytes.len() * 8 - last.leading_zeros() as usize - 1;
                Ok(Self { bytes, left: left.cast_signed() })
            }
            _ => Err(Fault::Broken("a bit stream has no end mark")),
        }
    }

    pub(super) fn left(&self) -> isize {
        self.left
    }

    /// Up to 32 bits, without going on.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> u64 {
        let from = self.left - count as isize;
        let mask = (1u64 << count) - 1;
        if from >= 0 {
            let from = from.cast_unsigned();
            (self.word(from / 8) >> (from % 8)) & mask
        } else {
            // The missing low bits are zeros.
            let missing = from.unsigned_abs();
            if missing >= 64 || self.left <= 0 {
                return 0;
            }
            (self.word(0) << missing) & mask
        }
    }

    #[inline]
    pub(super) fn skip(&mut self, count: u32) {
        self.left -= count as isize;
    }

    /// Up to 32 bits.
    #[inline]
    pub(super) fn read(&mut self, count: u32) -> u64 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Eight bytes from `at` on, zeros behind the end.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        let rest = self.bytes.get(at..).unwrap_or(&[]);
        match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        }
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
