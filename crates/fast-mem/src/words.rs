//! Eight bytes at a time, for processors without the instructions for more.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// One bit for a quote, a backslash and what is below 0x20, the first byte lowest.
#[inline(always)]
pub(crate) fn stops(chunk: &[u8; 16]) -> u32 {
    let hits = |word: u64| {
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        gathered(quote | backslash | below(word, 0x20))
    };
    let word = u128::from_le_bytes(*chunk);
    hits(word as u64) | hits((word >> 64) as u64) << 8
}

/// One bit for each byte that is the same, the first lowest.
#[inline(always)]
pub(crate) fn equal(left: &[u8; 16], right: &[u8; 16]) -> u32 {
    let differing = u128::from_le_bytes(*left) ^ u128::from_le_bytes(*right);
    gathered(below(differing as u64, 1)) | gathered(below((differing >> 64) as u64, 1)) << 8
}

/// The bits of both, the first lowest.
#[inline(always)]
pub(crate) fn bits(front: u32, back: u32) -> u32 {
    front | back << 16
}

/// The high bit of each byte below `limit` ≤ 0x80, exactly: no byte borrows from the next.
#[inline(always)]
fn below(word: u64, limit: u64) -> u64 {
    !((word | HIGH).wrapping_sub(ONES * limit) | word) & HIGH
}

/// The eight high bits in one byte, the first lowest.
#[inline(always)]
fn gathered(hits: u64) -> u32 {
    ((hits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}
