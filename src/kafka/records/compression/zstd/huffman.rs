//! Huffman coded literals (RFC 8878, 4.2).

use super::super::Fault;
use super::bits::Backward;
use super::fse::Table;
use super::{CUT_OFF, split};

/// The most bits of a code.
const BITS_MAX: u32 = 11;
/// So many codes are surely among the bits that a stream takes up at once.
const RUN: usize = 57 / BITS_MAX as usize;
/// The weights that a tree can have; that of the last symbol is not written.
const WEIGHTS: usize = 256;

/// The tree of the block at hand, or of the block before that it goes on with.
#[derive(Debug, Default)]
pub(super) struct Huffman {
    /// Symbol and length of its code, by the next `bits` bits; empty before there is a tree.
    codes: Vec<(u8, u8)>,
    bits: u32,
    weight_table: Table,
}

impl Huffman {
    pub(super) fn reset(&mut self) {
        self.codes.clear();
    }

    /// Reads a tree; returns what is behind it.
    pub(super) fn read_tree<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let (&head, rest) = bytes.split_first().ok_or(CUT_OFF)?;
        let mut weights = [0u8; WEIGHTS];
        let (count, rest) = if head < 128 {
            let (described, rest) = split(rest, head.into())?;
            (self.read_weights(described, &mut weights)?, rest)
        } else {
            let count = usize::from(head) - 127;
            let (described, rest) = split(rest, count.div_ceil(2))?;
            for (at, weight) in weights.iter_mut().take(count).enumerate() {
                let pair = described.get(at / 2).copied().unwrap_or(0);
                *weight = if at % 2 == 0 { pair >> 4 } else { pair & 0b1111 };
            }
            (count, rest)
        };
        self.build(&mut weights, count)?;
        Ok(rest)
    }

    /// Reads weights by two states that take turns.
    fn read_weights(&mut self, described: &[u8], weights: &mut [u8; WEIGHTS]) -> Result<usize, Fault> {
        let stream = self.weight_table.read(described, 13, 6)?;
        let mut stream = Backward::new(stream)?;
        let table = &self.weight_table;
        let mut state = table.first(&mut stream)?;
        let mut other = table.first(&mut stream)?;
        let mut count = 0;
        let mut push = |weight: u8| {
            // One is left for the last symbol.
            *weights.get_mut(count).filter(|_| count < WEIGHTS - 1).ok_or(Fault::Broken("too many weights"))? = weight;
            count += 1;
            Ok(())
        };
        if stream.left() < 0 {
            return Err(CUT_OFF);
        }
        loop {
            push(state.symbol)?;
            stream.fill();
            let next = table.next(state, &mut stream)?;
            if stream.left() < 0 {
                push(other.symbol)?;
                return Ok(count);
            }
            (state, other) = (other, next);
        }
    }

    fn build(&mut self, weights: &mut [u8; WEIGHTS], count: usize) -> Result<(), Fault> {
        const BAD: Fault = Fault::Broken("the weights of a Huffman tree are wrong");
        self.codes.clear();
        let mut sum = 0u32;
        for weight in weights.iter().take(count) {
            if u32::from(*weight) > BITS_MAX {
                return Err(BAD);
            }
            sum += (1 << weight) >> 1;
        }
        if sum == 0 {
            return Err(BAD);
        }
        let bits = sum.ilog2() + 1;
        let left = (1 << bits) - sum;
        if bits > BITS_MAX || !left.is_power_of_two() {
            return Err(BAD);
        }
        *weights.get_mut(count).ok_or(BAD)? = (left.ilog2() + 1) as u8;
        for weight in 1..=bits as u8 {
            let length = bits as u8 + 1 - weight;
            for (symbol, _) in (0u8..=255).zip(weights.iter().take(count + 1)).filter(|(_, of)| **of == weight) {
                let codes = self.codes.len() + (1 << (weight - 1));
                self.codes.resize(codes, (symbol, length));
            }
        }
        self.bits = bits;
        if self.codes.len() == 1 << bits { Ok(()) } else { Err(BAD) }
    }

    /// Decodes one or four streams of together `size` symbols.
    pub(super) fn decode(&self, streams: &[u8], four: bool, size: usize, literals: &mut Vec<u8>) -> Result<(), Fault> {
        if self.codes.is_empty() {
            return Err(Fault::Broken("no Huffman tree to go on with"));
        }
        if !four {
            return self.stream(streams, size, literals);
        }
        let Some((&[a0, a1, b0, b1, c0, c1], mut rest)) = streams.split_first_chunk::<6>() else { return Err(CUT_OFF) };
        let part = size.div_ceil(4);
        for length in [[a0, a1], [b0, b1], [c0, c1]] {
            let (stream, after) = split(rest, u16::from_le_bytes(length).into())?;
            self.stream(stream, part, literals)?;
            rest = after;
        }
        let last = size.checked_sub(part * 3).ok_or(Fault::Broken("too few literals for four streams"))?;
        self.stream(rest, last, literals)
    }

    fn stream(&self, stream: &[u8], count: usize, literals: &mut Vec<u8>) -> Result<(), Fault> {
        let mut stream = Backward::new(stream)?;
        let start = literals.len();
        literals.resize(start + count, 0);
        for run in literals.get_mut(start..).unwrap_or_default().chunks_mut(RUN) {
            stream.fill();
            for literal in run {
                let Some(&(symbol, length)) = self.codes.get(stream.peek(self.bits) as usize) else {
                    return Err(CUT_OFF);
                };
                *literal = symbol;
                stream.skip(length.into());
            }
        }
        if stream.left() == 0 { Ok(()) } else { Err(Fault::Broken("the literals do not end where their stream does")) }
    }
}
