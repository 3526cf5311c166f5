//! Where a JSON string cannot go on as it is, and where bytes are the same: thirty-two in one look.

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
use crate::neon as looks;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
use crate::sse2 as looks;
#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon")
)))]
use crate::words as looks;

/// One bit for each byte, the first lowest: set for a quote, a backslash and what is below 0x20.
#[inline(always)]
pub fn json_stops_32(chunk: &[u8; 32]) -> u32 {
    match chunk.as_chunks().0 {
        [front, back] => looks::bits(looks::stops(front), looks::stops(back)),
        _ => 0,
    }
}

/// One bit for each byte that is the same in both, the first lowest.
#[inline(always)]
pub fn equal_bytes(left: &[u8; 32], right: &[u8; 32]) -> u32 {
    match (left.as_chunks().0, right.as_chunks().0) {
        ([left, left_behind], [right, right_behind]) => {
            looks::bits(looks::equal(left, right), looks::equal(left_behind, right_behind))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;

    fn expected(chunk: &[u8; 16]) -> u32 {
        let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
        chunk.iter().rev().fold(0, |bits, byte| bits << 1 | u32::from(stops(byte)))
    }

    #[test]
    fn equal_bytes_are_told() {
        let check = |left: &[u8; 32], right: &[u8; 32], expected: u32| {
            assert_eq!(equal_bytes(left, right), expected, "{left:?} {right:?}");
            let ([left, left_behind], [right, right_behind]) = (left.as_chunks().0, right.as_chunks().0) else {
                panic!("thirty-two bytes are two pieces");
            };
            let marks = (words::equal(left, right), words::equal(left_behind, right_behind));
            assert_eq!(words::bits(marks.0, marks.1), expected, "{left:?} {right:?}");
        };
        let text = *b"0123456789abcdefghijklmnopqrstuv";
        check(&text, &text, u32::MAX);
        for place in 0..32 {
            for flip in [1, 0x80, 0xFF] {
                let mut other = text;
                other[place] ^= flip;
                check(&text, &other, !(1 << place));
                let only: [u8; 32] = core::array::from_fn(|at| text[at] ^ if at == place { 0 } else { flip });
                check(&text, &only, 1 << place);
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
                    assert_eq!(words::stops(&chunk), expected(&chunk), "{chunk:?}");
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
