//! Sixteen bytes a look with SSE2, which is part of every x86_64.

use core::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    _mm_xor_si128,
};

/// All ones in the bytes of a quote, a backslash and what is below 0x20.
#[inline(always)]
pub(crate) fn stops(chunk: &[u8; 16]) -> __m128i {
    // SAFETY: the chunk is sixteen readable bytes and the load demands no alignment; SSE2 is part of the target.
    unsafe {
        let bytes = _mm_loadu_si128(chunk.as_ptr().cast());
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\'.cast_signed()));
        // With this bit turned over a quote is 0x20, a space is not, and what is below stays there.
        let turned = _mm_xor_si128(bytes, _mm_set1_epi8(0x02));
        let others = _mm_cmpeq_epi8(_mm_min_epu8(turned, _mm_set1_epi8(0x20)), turned);
        _mm_or_si128(backslash, others)
    }
}

/// All ones in the bytes that are the same.
#[inline(always)]
pub(crate) fn equal(left: &[u8; 16], right: &[u8; 16]) -> __m128i {
    // SAFETY: both are sixteen readable bytes and the loads demand no alignment; SSE2 is part of the target.
    unsafe { _mm_cmpeq_epi8(_mm_loadu_si128(left.as_ptr().cast()), _mm_loadu_si128(right.as_ptr().cast())) }
}

/// One bit for each byte of both, the first lowest.
#[inline(always)]
pub(crate) fn bits(front: __m128i, back: __m128i) -> u32 {
    // SAFETY: SSE2 is part of the target.
    let (front, back) = unsafe { (_mm_movemask_epi8(front), _mm_movemask_epi8(back)) };
    front.cast_unsigned() | back.cast_unsigned() << 16
}
