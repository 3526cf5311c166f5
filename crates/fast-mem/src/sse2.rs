//! Sixteen bytes a look with SSE2, which is part of every x86_64.

use core::arch::x86_64::{
    _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_xor_si128,
};

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

#[inline(always)]
fn stops_16(chunk: &[u8; 16]) -> u32 {
    // SAFETY: the chunk is sixteen readable bytes and the load demands no alignment; SSE2 is part of the target.
    unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast());
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\'.cast_signed()));
        // With this bit turned over a quote is 0x20, a space is not, and what is below stays there.
        let turned = _mm_xor_si128(bytes, _mm_set1_epi8(0x02));
        let others = _mm_cmpeq_epi8(_mm_min_epu8(turned, _mm_set1_epi8(0x20)), turned);
        _mm_movemask_epi8(_mm_or_si128(backslash, others)).cast_unsigned()
    }
}

#[inline(always)]
fn equal_16(left: &[u8; 16], right: &[u8; 16]) -> u32 {
    // SAFETY: both are sixteen readable bytes and the loads demand no alignment; SSE2 is part of the target.
    unsafe {
        let left = _mm_loadu_si128(left.as_ptr().cast());
        let right = _mm_loadu_si128(right.as_ptr().cast());
        _mm_movemask_epi8(_mm_cmpeq_epi8(left, right)).cast_unsigned()
    }
}
