//! Eight bytes at a time, for processors without the instructions for more.

/// As [`crate::json_stops_32`].
#[inline(always)]
pub(crate) fn stops(front: &[u8; 16], back: &[u8; 16]) -> u32 {
    stops_16(front) | stops_16(back) << 16
}

/// As [`crate::equal_bytes`].
#[inline(always)]
pub(crate) fn equal(left: [&[u8; 16]; 2], right: [&[u8; 16]; 2]) -> u32 {
    equal_16(left[0], right[0]) | equal_16(left[1], right[1]) << 16
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
fn stops_16(chunk: &[u8; 16]) -> u32 {
    let bits = |word: u64| {
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        gathered(quote | backslash | below(word, 0x20))
    };
    let word = u128::from_le_bytes(*chunk);
    bits(word as u64) | bits((word >> 64) as u64) << 8
}

#[inline(always)]
fn equal_16(left: &[u8; 16], right: &[u8; 16]) -> u32 {
    let differing = u128::from_le_bytes(*left) ^ u128::from_le_bytes(*right);
    gathered(below(differing as u64, 1)) | gathered(below((differing >> 64) as u64, 1)) << 8
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
