//! Sequences: how many literals to take, then what to repeat (RFC 8878, 3.1.1.3.2 and 3.1.1.4).

use super::super::{Fault, Output};
use super::bits::Backward;
use super::fse::Table;
use super::{BLOCK_MAX, CUT_OFF, TOO_LARGE_A_BLOCK};

/// The tables of the block at hand, those of the block before that it may go on with, and the last three distances.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    literal_lengths: Table,
    offsets: Table,
    match_lengths: Table,
    recent: [usize; 3],
}

/// How a kind of code is described.
struct Kind {
    symbols: usize,
    accuracy: u32,
    default_log: u32,
    default: &'static [i16],
}

const LITERAL_LENGTHS: Kind = Kind {
    symbols: 36,
    accuracy: 9,
    default_log: 6,
    default: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
    ],
};
const MATCH_LENGTHS: Kind = Kind {
    symbols: 53,
    accuracy: 9,
    default_log: 6,
    default: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
};
const OFFSETS: Kind = Kind {
    symbols: 32,
    accuracy: 8,
    default_log: 5,
    default: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
};

/// Smallest length and number of further bits, by code.
const LITERAL_LENGTH_CODES: [(u32, u32); 36] = codes(16, 0, &LITERAL_LENGTH_BITS);
const LITERAL_LENGTH_BITS: [u32; 20] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const MATCH_LENGTH_CODES: [(u32, u32); 53] = codes(32, 3, &MATCH_LENGTH_BITS);
const MATCH_LENGTH_BITS: [u32; 21] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// The first `plain` codes are lengths from `least` on; each of the others begins where the one before ends.
const fn codes<const N: usize>(plain: usize, least: u32, bits: &[u32]) -> [(u32, u32); N] {
    let mut codes = [(0, 0); N];
    let mut length = least;
    let mut code = 0;
    while code < N {
        let more = if code < plain { 0 } else { bits[code - plain] };
        codes[code] = (length, more);
        length += 1 << more;
        code += 1;
    }
    codes
}

impl Sequences {
    pub(super) fn reset(&mut self) {
        for table in [&mut self.literal_lengths, &mut self.offsets, &mut self.match_lengths] {
            table.clear();
        }
        self.recent = [1, 4, 8];
    }

    /// Executes a block's sequences with its literals. The frame's output begins at `frame`.
    pub(super) fn execute(
        &mut self,
        section: &[u8],
        mut literals: &[u8],
        frame: usize,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        let end = out.filled + BLOCK_MAX;
        let (count, rest) = count(section)?;
        if count > 0 {
            let rest = self.read_tables(rest)?;
            let mut stream = Backward::new(rest)?;
            let mut literal_length = self.literal_lengths.first(&mut stream)?;
            let mut offset = self.offsets.first(&mut stream)?;
            let mut match_length = self.match_lengths.first(&mut stream)?;
            for number in 1..=count {
                let bits = u32::from(offset.symbol);
                stream.fill(); // for at most 31 + 16 bits
                let value = (1usize << bits) + stream.take(bits) as usize;
                let repeated = length(&MATCH_LENGTH_CODES, match_length.symbol, &mut stream)?;
                stream.fill(); // for at most 16 + 9 + 9 + 8 bits
                let taken = length(&LITERAL_LENGTH_CODES, literal_length.symbol, &mut stream)?;
                if number < count {
                    literal_length = self.literal_lengths.next(literal_length, &mut stream)?;
                    match_length = self.match_lengths.next(match_length, &mut stream)?;
                    offset = self.offsets.next(offset, &mut stream)?;
                }
                if stream.left() < 0 {
                    return Err(CUT_OFF);
                }
                if taken + repeated > end.saturating_sub(out.filled) {
                    return Err(TOO_LARGE_A_BLOCK);
                }
                literals = out.append_front(literals, taken)?;
                let distance = self.distance(value, taken == 0)?;
                out.append_match(frame, distance, repeated)?;
            }
            if stream.left() != 0 {
                return Err(Fault::Broken("the sequences do not end where their stream does"));
            }
        } else if !rest.is_empty() {
            return Err(Fault::Broken("bytes behind a block without sequences"));
        }
        if literals.len() > end.saturating_sub(out.filled) {
            return Err(TOO_LARGE_A_BLOCK);
        }
        out.append(literals)
    }

    fn read_tables<'a>(&mut self, section: &'a [u8]) -> Result<&'a [u8], Fault> {
        let (&modes, rest) = section.split_first().ok_or(CUT_OFF)?;
        if modes & 0b11 != 0 {
            return Err(Fault::Broken("unknown table modes"));
        }
        let rest = read_table(&mut self.literal_lengths, &LITERAL_LENGTHS, modes >> 6, rest)?;
        let rest = read_table(&mut self.offsets, &OFFSETS, modes >> 4 & 0b11, rest)?;
        read_table(&mut self.match_lengths, &MATCH_LENGTHS, modes >> 2 & 0b11, rest)
    }

    /// How far back an offset value reaches; notes it (RFC 8878, 3.1.1.5).
    fn distance(&mut self, value: usize, no_literals: bool) -> Result<usize, Fault> {
        let [first, second, third] = self.recent;
        let (distance, recent) = match (value, no_literals) {
            (1, false) => return Ok(first),
            (2, false) | (1, true) => (second, [second, first, third]),
            (3, false) | (2, true) => (third, [third, first, second]),
            (3, true) => {
                let distance = first.checked_sub(1).ok_or(Fault::Broken("a match of no distance"))?;
                (distance, [distance, first, second])
            }
            _ => {
                let distance = value.saturating_sub(3);
                (distance, [distance, first, second])
            }
        };
        self.recent = recent;
        Ok(distance)
    }
}

fn length(codes: &[(u32, u32)], code: u8, stream: &mut Backward<'_>) -> Result<usize, Fault> {
    let &(least, bits) = codes.get(usize::from(code)).ok_or(Fault::Broken("a length that does not exist"))?;
    Ok(least as usize + stream.take(bits) as usize)
}

/// The number of sequences, and what is behind it.
fn count(section: &[u8]) -> Result<(usize, &[u8]), Fault> {
    let (&first, rest) = section.split_first().ok_or(CUT_OFF)?;
    match first {
        0..=127 => Ok((first.into(), rest)),
        128..=254 => {
            let (&low, rest) = rest.split_first().ok_or(CUT_OFF)?;
            Ok(((usize::from(first) - 128) << 8 | usize::from(low), rest))
        }
        255 => {
            let (number, rest) = rest.split_first_chunk::<2>().ok_or(CUT_OFF)?;
            Ok((usize::from(u16::from_le_bytes(*number)) + 0x7F00, rest))
        }
    }
}

fn read_table<'a>(table: &mut Table, kind: &Kind, mode: u8, section: &'a [u8]) -> Result<&'a [u8], Fault> {
    match mode {
        0 => {
            table.build(kind.default, kind.default_log)?;
            Ok(section)
        }
        1 => {
            let (&symbol, rest) = section.split_first().ok_or(CUT_OFF)?;
            if usize::from(symbol) >= kind.symbols {
                return Err(Fault::Broken("a code that does not exist"));
            }
            table.run(symbol);
            Ok(rest)
        }
        2 => table.read(section, kind.symbols, kind.accuracy),
        _ if table.is_empty() => Err(Fault::Broken("no table to go on with")),
        _ => Ok(section),
    }
}
