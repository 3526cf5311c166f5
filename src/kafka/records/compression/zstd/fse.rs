//! Finite state entropy: tables and their descriptions (RFC 8878, 4.1).

use super::super::Fault;
use super::bits::{Backward, Forward};

/// What a state stands for, and how the next one is found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    pub(super) symbol: u8,
    bits: u8,
    base: u16,
}

/// A decoding table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// 2 to the power of the accuracy; empty before there is one.
    states: Vec<State>,
}

/// The most symbols that a table has: those of match lengths.
const SYMBOLS: usize = 53;

impl Table {
    pub(super) fn clear(&mut self) {
        self.states.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The table that always gives one symbol, with no bits.
    pub(super) fn run(&mut self, symbol: u8) {
        self.states.clear();
        self.states.push(State { symbol, bits: 0, base: 0 });
    }

    /// Reads a description of at most `symbols` symbols; returns what is behind it.
    pub(super) fn read<'a>(&mut self, bytes: &'a [u8], symbols: usize, accuracy: u32) -> Result<&'a [u8], Fault> {
        const BAD: Fault = Fault::Broken("a table's description is wrong");
        let mut stream = Forward::new(bytes);
        let log = stream.read(4)? + 5;
        if log > accuracy {
            return Err(BAD);
        }
        let mut counts = [0i16; SYMBOLS];
        let mut left = 1i32 << log;
        let mut symbol = 0;
        while left > 0 {
            let bits = (left + 1).cast_unsigned().ilog2() as usize + 1;
            let mut value = stream.read(bits)?;
            let low = (1 << (bits - 1)) - 1;
            let threshold = (1 << bits) - 1 - (left + 1).cast_unsigned();
            if value & low < threshold {
                // Small values take a bit less.
                stream.back(1);
                value &= low;
            } else if value > low {
                value -= threshold;
            }
            let count = i16::try_from(value).map_err(|_| BAD)? - 1;
            left -= i32::from(count.abs());
            *counts.get_mut(symbol).filter(|_| symbol < symbols).ok_or(BAD)? = count;
            symbol += 1;
            if count == 0 {
                loop {
                    let zeros = stream.read(2)?;
                    symbol += zeros as usize;
                    if zeros < 3 {
                        break;
                    }
                }
            }
        }
        if left != 0 || symbol > symbols {
            return Err(BAD);
        }
        self.build(counts.get(..symbol).unwrap_or(&counts), log)?;
        Ok(stream.rest())
    }

    /// Builds the table of `1 << log` states from how often each symbol is in it; -1 is "less than once".
    pub(super) fn build(&mut self, counts: &[i16], log: u32) -> Result<(), Fault> {
        const BAD: Fault = Fault::Broken("a table's counts do not add up");
        let size = 1usize << log;
        self.states.clear();
        self.states.resize(size, State::default());
        let mut next = [0u16; SYMBOLS];
        let mut high = size;
        for (symbol, count) in (0u8..).zip(counts) {
            *next.get_mut(usize::from(symbol)).ok_or(BAD)? = count.unsigned_abs();
            if *count == -1 {
                high = high.checked_sub(1).ok_or(BAD)?;
                self.states.get_mut(high).ok_or(BAD)?.symbol = symbol;
            }
        }
        let (step, mask) = ((size >> 1) + (size >> 3) + 3, size - 1);
        let mut at = 0;
        for (symbol, count) in (0u8..).zip(counts) {
            for _ in 0..(*count).max(0) {
                self.states.get_mut(at).ok_or(BAD)?.symbol = symbol;
                at = (at + step) & mask;
                while at >= high {
                    if high == 0 {
                        return Err(BAD);
                    }
                    at = (at + step) & mask;
                }
            }
        }
        if at != 0 {
            return Err(BAD);
        }
        for state in &mut self.states {
            let number = next.get_mut(usize::from(state.symbol)).filter(|number| **number > 0).ok_or(BAD)?;
            let bits = log.checked_sub(number.ilog2()).ok_or(BAD)?;
            state.bits = bits as u8;
            state.base =
                u16::try_from((usize::from(*number) << bits).checked_sub(size).ok_or(BAD)?).map_err(|_| BAD)?;
            *number += 1;
        }
        Ok(())
    }

    /// The first state.
    pub(super) fn first(&self, stream: &mut Backward<'_>) -> Result<State, Fault> {
        let bits = self.states.len().max(1).ilog2();
        stream.fill();
        self.state(stream.take(bits) as usize)
    }

    /// The state after this one; takes at most 9 bits of those that the stream took up.
    #[inline]
    pub(super) fn next(&self, state: State, stream: &mut Backward<'_>) -> Result<State, Fault> {
        self.state(usize::from(state.base) + stream.take(state.bits.into()) as usize)
    }

    #[inline]
    fn state(&self, index: usize) -> Result<State, Fault> {
        self.states.get(index).copied().ok_or(Fault::Broken("a state that no table has"))
    }
}
