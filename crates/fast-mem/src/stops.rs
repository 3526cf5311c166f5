//! Where a JSON string cannot go on as it is, and where bytes are the same: sixteen or thirty-two in one look.

/// One bit for each byte, the first lowest: set for a quote, a backslash and what is below 0x20.
#[inline(always)]
pub fn json_stops(chunk: &[u8; 16]) -> u32 {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    return sse2(chunk);
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
    return words(chunk);
}

/// The same for thirty-two bytes.
#[inline(always)]
pub fn json_stops_32(chunk: &[u8; 32]) -> u32 {
    let (halves, _) = chunk.as_chunks();
    match halves {
        [front, back] => json_stops(front) | json_stops(back) << 16,
        _ => 0,
    }
}

/// One bit for each byte that is the same in both, the first lowest.
#[inline(always)]
pub fn equal_bytes(left: &[u8; 32], right: &[u8; 32]) -> u32 {
    match (left.as_chunks().0, right.as_chunks().0) {
        ([left, left_behind], [right, right_behind]) => equal(left, right) | equal(left_behind, right_behind) << 16,
        _ => 0,
    }
}

#[inline(always)]
fn equal(left: &[u8; 16], right: &[u8; 16]) -> u32 {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    {
        use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8};
        // SAFETY: both are sixteen readable bytes and the loads demand no alignment; SSE2 is part of the target.
        unsafe {
            let left = _mm_loadu_si128(left.as_ptr().cast());
            let right = _mm_loadu_si128(right.as_ptr().cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(left, right)).cast_unsigned()
        }
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
    left.iter().zip(right).rev().fold(0, |bits, (left, right)| bits << 1 | u32::from(left == right))
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline(always)]
fn sse2(chunk: &[u8; 16]) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_xor_si128,
    };
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

/// The same eight bytes at a time, for processors without those instructions.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
#[inline(always)]
fn words(chunk: &[u8; 16]) -> u32 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte below `limit` ≤ 0x80, exactly: no byte borrows from the next.
    let below = |word: u64, limit: u64| !((word | HIGH).wrapping_sub(ONES * limit) | word) & HIGH;
    let bits = |word: u64| {
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        // The eight high bits, gathered into the top byte.
        let hits = (quote | backslash | below(word, 0x20)) >> 7;
        (hits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    let word = u128::from_le_bytes(*chunk);
    bits(word as u64) | bits((word >> 64) as u64) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(chunk: &[u8; 16]) -> u32 {
        let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
        chunk.iter().rev().fold(0, |bits, byte| bits << 1 | u32::from(stops(byte)))
    }

    #[test]
    fn equal_bytes_are_told() {
        let text = *b"0123456789abcdefghijklmnopqrstuv";
        assert_eq!(equal_bytes(&text, &text), u32::MAX);
        for place in 0..32 {
            for flip in [1, 0x80, 0xFF] {
                let mut other = text;
                other[place] ^= flip;
                assert_eq!(equal_bytes(&text, &other), !(1 << place));
                let only: [u8; 32] = core::array::from_fn(|at| text[at] ^ if at == place { 0 } else { flip });
                assert_eq!(equal_bytes(&text, &only), 1 << place);
            }
        }
    }

    #[test]
    fn every_byte_in_every_place_beside_every_other() {
        for place in 0..16 {
            for byte in 0..=255 {
                for other in [b'a', 0, 0x1F, 0x20, b'!', b'"', b'#', b'[', b'\\', b']', 0x7F, 0x80, 0xA2, 0xDC, 0xFF] {
                    let mut chunk = [other; 16];
                    chunk[place] = byte;
                    assert_eq!(json_stops(&chunk), expected(&chunk), "{chunk:?}");
                    assert_eq!(words(&chunk), expected(&chunk), "{chunk:?}");
                    let mut both = [b'a'; 32];
                    both[16..].copy_from_slice(&chunk);
                    assert_eq!(json_stops_32(&both), expected(&chunk) << 16, "{chunk:?}");
                    both.rotate_left(16);
                    assert_eq!(json_stops_32(&both), expected(&chunk), "{chunk:?}");
                }
            }
        }
    }
}
