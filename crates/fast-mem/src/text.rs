//! Bytes as a text, which most often is ASCII.

use core::str::Utf8Error;

/// The bytes as a text, if they are UTF-8. As `core::str::from_utf8`, which looks at two words at a time; here it is more.
#[inline(always)]
pub fn text(bytes: &[u8]) -> Result<&str, Utf8Error> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Ok(unsafe { core::str::from_utf8_unchecked(bytes) });
    }
    core::str::from_utf8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_none_is_found_in_every_place() {
        for length in 0..=100 {
            let mut bytes = [b'a'; 100];
            assert_eq!(text(&bytes[..length]), core::str::from_utf8(&bytes[..length]));
            for place in 0..length {
                for byte in [0, 0x7F, 0x80, 0xC3, 0xFF] {
                    bytes[place] = byte;
                    assert_eq!(
                        text(&bytes[..length]),
                        core::str::from_utf8(&bytes[..length]),
                        "{byte} at {place} of {length}"
                    );
                }
                bytes[place] = 0xA4;
                if place > 0 {
                    bytes[place - 1] = 0xC3;
                    assert_eq!(text(&bytes[..length]), core::str::from_utf8(&bytes[..length]));
                    bytes[place - 1] = b'a';
                }
                bytes[place] = b'a';
            }
        }
    }
}
