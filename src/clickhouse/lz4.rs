//! A compressor of LZ4 blocks made for columns: only what repeats for eight bytes or more is taken.
//!
//! Shorter matches are most of what a compressor finds in columns of hashes, times and indexes, each is work for both
//! sides, and all of them together save little: of the sample events' blocks 25 sequences a row become 13, and 191 bytes
//! 201, with today's longer steps 204 (`benches/README.md`).
//!
//! Source: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>.

use bytes::{BufMut, BytesMut};
use fast_mem::equal_bytes;

/// Bytes a block may be made of: distances and places fit two bytes then.
pub(super) const LARGEST: usize = 64 * 1024;

/// Bytes that a place is found by, and of the shortest match taken.
const SHORTEST: usize = 8;
/// Of any match in the format.
const FORMAT_SHORTEST: usize = 4;
/// Bytes that are compared in one look: what most matches have.
const LOOK: usize = 32;
/// A block's last match begins so many bytes before its end, which leaves literals behind it even where the whole look is
/// the same. The format demands 12, and five literals.
const TAIL: usize = LOOK + 8;
/// Lengths from here on go on behind the token.
const FEW: usize = 15;
/// Log2 of places remembered.
const BITS: u32 = 12;
/// After so many places without a match the steps become longer: what does not repeat is passed quickly.
const PATIENCE: usize = 32;
/// The first steps: a match is found by any of its places and begins where it begins all the same.
const STEP: usize = 4;

/// Where eight bytes were seen last, by their hash. Used again from block to block.
#[derive(Debug)]
pub(super) struct Table {
    places: Box<[u16; 1 << BITS]>,
}

impl Default for Table {
    fn default() -> Self {
        Self { places: Box::new([0; 1 << BITS]) }
    }
}

impl Table {
    /// The place remembered for a word, which `at` replaces.
    #[inline(always)]
    fn replace(&mut self, word: u64, at: usize) -> usize {
        let hash = word.wrapping_mul(0x9E37_79B1_85EB_CA87) >> (u64::BITS - BITS);
        match self.places.get_mut(hash as usize) {
            Some(place) => usize::from(std::mem::replace(place, at as u16)),
            None => 0,
        }
    }
}

/// Room that a block of so many bytes needs at the most, with what is written beyond its end on the way.
pub(super) const fn room(bytes: usize) -> usize {
    bytes + bytes / 255 + TAIL
}

/// Compresses at most [`LARGEST`] bytes to the front of `out`; the block's length. None if it does not fit, which with
/// [`room`] it does.
pub(super) fn compress(bytes: &[u8], out: &mut [u8], table: &mut Table) -> Option<usize> {
    table.places.fill(0);
    let last = bytes.len().min(LARGEST).saturating_sub(TAIL);
    let mut out = Block { out, filled: 0 };
    let (mut literals, mut at) = (0, 1);
    let mut patience = STEP * PATIENCE;
    while at < last {
        let here: &[u8; LOOK] = piece(bytes, at)?;
        let word = u64::from_le_bytes(*here.first_chunk::<SHORTEST>()?);
        let from = table.replace(word, at);
        let there: &[u8; LOOK] = piece(bytes, from)?;
        if word != u64::from_le_bytes(*there.first_chunk::<SHORTEST>()?) {
            at += patience / PATIENCE;
            patience += 1;
            continue;
        }
        let back = common_before(bytes, from, at).min(at - literals);
        let mut ahead = (!equal_bytes(here, there)).trailing_zeros() as usize;
        if ahead == LOOK {
            ahead += common(bytes, from + LOOK, at + LOOK);
        }
        out.sequence(bytes, literals, at - back, at - from, back + ahead)?;
        at += ahead;
        literals = at;
        patience = STEP * PATIENCE;
    }
    out.literals(bytes.get(literals..)?)?;
    Some(out.filled)
}

/// Appends bytes as a block that has them as they are.
pub(super) fn as_literals(bytes: &[u8], out: &mut BytesMut) {
    out.put_u8((bytes.len().min(FEW) as u8) << 4);
    if let Some(mut left) = bytes.len().checked_sub(FEW) {
        while left >= usize::from(u8::MAX) {
            out.put_u8(u8::MAX);
            left -= usize::from(u8::MAX);
        }
        out.put_u8(left as u8);
    }
    out.put_slice(bytes);
}

/// `N` bytes from a place on.
#[inline(always)]
fn piece<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// How many bytes before two places are equal, of the eight before each.
#[inline(always)]
fn common_before(bytes: &[u8], from: usize, at: usize) -> usize {
    let before = |place: usize| Some(u64::from_le_bytes(*piece(bytes, place.checked_sub(8)?)?));
    match (before(from), before(at)) {
        (Some(left), Some(right)) => (left ^ right).leading_zeros() as usize / 8,
        _ => 0,
    }
}

/// How many bytes are equal from two places on, the second further on, as far as a match may go.
#[inline(always)]
fn common(bytes: &[u8], from: usize, at: usize) -> usize {
    let mut equal = 0;
    // Whole pieces only: what is left at the end is less than the tail that must be literals, or little more.
    while at + equal + TAIL <= bytes.len()
        && let (Some(left), Some(right)) = (piece(bytes, from + equal), piece(bytes, at + equal))
    {
        let differing = u128::from_le_bytes(*left) ^ u128::from_le_bytes(*right);
        if differing != 0 {
            return equal + differing.trailing_zeros() as usize / 8;
        }
        equal += size_of::<u128>();
    }
    equal
}

/// A block being written.
struct Block<'o> {
    out: &'o mut [u8],
    filled: usize,
}

impl Block<'_> {
    /// Literals from `literals` to `start`, then a match.
    #[inline(always)]
    fn sequence(&mut self, bytes: &[u8], literals: usize, start: usize, distance: usize, length: usize) -> Option<()> {
        let (few, beyond) = (start - literals, length - FORMAT_SHORTEST);
        let [low, high, ..] = distance.to_le_bytes();
        let short = beyond.min(FEW) as u8;
        if few < FEW {
            // Token, literals and distance in one piece of fixed size: what is too much is overwritten by what follows.
            let place: &mut [u8; 1 + FEW + 2] = self.out.get_mut(self.filled..)?.first_chunk_mut()?;
            let [token, text @ ..] = place;
            *token = (few as u8) << 4 | short;
            text.first_chunk_mut::<{ FEW + 1 }>()?.copy_from_slice(piece::<{ FEW + 1 }>(bytes, literals)?);
            text[few] = low;
            text[few + 1] = high;
            self.filled += 1 + few + 2;
        } else {
            self.put(&[(FEW as u8) << 4 | short])?;
            self.more(few - FEW)?;
            self.put(bytes.get(literals..start)?)?;
            self.put(&[low, high])?;
        }
        if beyond >= FEW { self.more(beyond - FEW) } else { Some(()) }
    }

    /// The last sequence: literals only.
    fn literals(&mut self, text: &[u8]) -> Option<()> {
        self.put(&[(text.len().min(FEW) as u8) << 4])?;
        if text.len() >= FEW {
            self.more(text.len() - FEW)?;
        }
        self.put(text)
    }

    /// What a length beyond the token's goes on with: bytes that are added up, of which only the last is below 255.
    #[inline(always)]
    fn more(&mut self, mut length: usize) -> Option<()> {
        while length >= usize::from(u8::MAX) {
            self.put(&[u8::MAX])?;
            length -= usize::from(u8::MAX);
        }
        self.put(&[length as u8])
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.filled + bytes.len();
        self.out.get_mut(self.filled..end)?.copy_from_slice(bytes);
        self.filled = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use lz4_flex::block::decompress;
    use proptest::prelude::*;

    use super::*;

    fn compressed(bytes: &[u8], table: &mut Table) -> Vec<u8> {
        let mut out = vec![0xAA; room(bytes.len())];
        let length = compress(bytes, &mut out, table).expect("there is room for any block");
        out.truncate(length);
        out
    }

    /// Rows of a column: much, little or nothing of one is in the one before.
    fn column() -> impl Strategy<Value = Vec<u8>> {
        let row = prop_oneof![
            "[a-c]{1,6}",
            "agent-[a-z]{2}-[0-9]{4}",
            "[0-9a-f]{64}",
            "\\{\"model\":\"(small|large)\",\"latency_ms\":[0-9]{1,3},\"region\":\"(eu|us)-central-1\"\\}",
            "\\PC{0,40}",
        ];
        let rows = prop::collection::vec(row, 0..40).prop_map(|rows| rows.concat().into_bytes());
        let long = (any::<u8>(), 0..LARGEST).prop_map(|(byte, length)| vec![byte; length]);
        let noise = (any::<u32>(), 0..LARGEST).prop_map(|(seed, length)| {
            (0..length).map(|at| ((at as u32 ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
        });
        prop_oneof![4 => rows, 1 => long, 1 => noise]
    }

    proptest! {
        /// Another decoder, which is as strict as the server's, is the judge.
        #[test]
        fn comes_back(columns in prop::collection::vec(column(), 1..4)) {
            let mut table = Table::default();
            for bytes in columns {
                let block = compressed(&bytes, &mut table);
                prop_assert!(block.len() <= room(bytes.len()));
                prop_assert_eq!(decompress(&block, bytes.len()).ok(), Some(bytes));
            }
        }

        #[test]
        fn too_little_room_is_told(bytes in column(), lacking in any::<prop::sample::Index>()) {
            let mut table = Table::default();
            let whole = compressed(&bytes, &mut table);
            let mut out = vec![0; lacking.index(whole.len())];
            prop_assert_eq!(compress(&bytes, &mut out, &mut table), None);
            let mut out = BytesMut::new();
            as_literals(&bytes, &mut out);
            prop_assert_eq!(decompress(&out, bytes.len()).ok(), Some(bytes));
        }
    }

    #[test]
    fn what_repeats_is_found_and_the_largest_block_is_taken() {
        let mut table = Table::default();
        let rows: Vec<u8> =
            (0..).flat_map(|row: u32| format!("/api/contexts/{:06}", row * 7919).into_bytes()).take(LARGEST).collect();
        let block = compressed(&rows, &mut table);
        assert!(block.len() < rows.len() / 2, "{} of {}", block.len(), rows.len());
        assert_eq!(decompress(&block, rows.len()).ok(), Some(rows));
        let block = compressed(&[7; LARGEST], &mut table);
        assert!(block.len() < LARGEST / 200, "{}", block.len());
        assert_eq!(decompress(&block, LARGEST).ok(), Some(vec![7; LARGEST]));
    }
}
