//! Sixteen bytes a look with Neon, which is part of every aarch64 that runs Linux.

use core::arch::aarch64::{
    uint8x16_t, vandq_u8, vceqq_u8, vcleq_u8, vdupq_n_u8, veorq_u8, vgetq_lane_u32, vld1q_u8, vorrq_u8, vpaddq_u8,
    vreinterpretq_u32_u8,
};

/// All ones in the bytes of a quote, a backslash and what is below 0x20.
#[inline(always)]
pub(crate) fn stops(chunk: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the chunk is sixteen readable bytes and the load demands no alignment; Neon is part of the target.
    unsafe {
        let bytes = vld1q_u8(chunk.as_ptr());
        let backslash = vceqq_u8(bytes, vdupq_n_u8(b'\\'));
        // With this bit turned over a quote is 0x20, a space is not, and what is below stays there.
        let others = vcleq_u8(veorq_u8(bytes, vdupq_n_u8(0x02)), vdupq_n_u8(0x20));
        vorrq_u8(backslash, others)
    }
}

/// All ones in the bytes that are the same.
#[inline(always)]
pub(crate) fn equal(left: &[u8; 16], right: &[u8; 16]) -> uint8x16_t {
    // SAFETY: both are sixteen readable bytes and the loads demand no alignment; Neon is part of the target.
    unsafe { vceqq_u8(vld1q_u8(left.as_ptr()), vld1q_u8(right.as_ptr())) }
}

/// One bit for each byte of both, the first lowest: each keeps the bit of its place in eight, and three sums of neighbours
/// bring eight bytes into one.
#[inline(always)]
pub(crate) fn bits(front: uint8x16_t, back: uint8x16_t) -> u32 {
    const PLACES: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: the load reads those sixteen bytes; Neon is part of the target.
    unsafe {
        let places = vld1q_u8(PLACES.as_ptr());
        let pairs = vpaddq_u8(vandq_u8(front, places), vandq_u8(back, places));
        let fours = vpaddq_u8(pairs, pairs);
        vgetq_lane_u32::<0>(vreinterpretq_u32_u8(vpaddq_u8(fours, fours)))
    }
}
