//! Snappy: one raw block (librdkafka and others), or the blocks of Java's stream framing ("xerial").
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | magic | `82 53 4E 41 50 50 59 00` |
//! | 8 | version i32 | |
//! | 12 | oldest version that can read it i32 | |
//! | 16 | blocks | length i32 (big-endian), raw block |
//!
//! Source: <https://github.com/xerial/snappy-java> (SnappyOutputStream), and
//! <https://github.com/google/snappy/blob/main/format_description.txt>.

use snap::raw::{Decoder, decompress_len};

use super::{Fault, Output, skip};

const XERIAL: [u8; 8] = *b"\x82SNAPPY\0";

pub(super) fn decompress(input: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
    if !input.starts_with(&XERIAL) {
        return block(input, out);
    }
    let mut rest = skip(input, 16)?;
    while !rest.is_empty() {
        // Streams that were written one behind the other: Java's reader passes over the header in between.
        if rest.starts_with(&XERIAL) {
            rest = skip(rest, 16)?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or(Fault::Broken("block length cut off"))?;
        let length =
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| Fault::Broken("negative block length"))?;
        let (compressed, after) = after.split_at_checked(length).ok_or(Fault::Broken("block cut off"))?;
        block(compressed, out)?;
        rest = after;
    }
    Ok(())
}

fn block(compressed: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
    const DAMAGED: Fault = Fault::Broken("a block is damaged");
    let length = decompress_len(compressed).map_err(|_| DAMAGED)?;
    out.reserve(length)?;
    let (_, free) = out.split();
    let to = free.get_mut(..length).ok_or(Fault::TooLarge)?;
    let written = Decoder::new().decompress(compressed, to).map_err(|_| DAMAGED)?;
    out.wrote(written);
    Ok(())
}
