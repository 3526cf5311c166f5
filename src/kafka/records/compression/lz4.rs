//! LZ4 frames, one after the other, by hand over the block format: no buffer of a frame decoder's own, and the output is
//! capped before each block.
//!
//! The header's checksum is passed over like the others, so frames of old Java clients that got it wrong are read too.
//!
//! Source: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

use super::{Fault, Output, skip, skippable_frame, u32_le};

const MAGIC: u32 = 0x184D_2204;
/// How far back a linked block may refer.
const WINDOW: usize = 64 << 10;
/// Of a block's size: it is stored as it is.
const STORED: u32 = 1 << 31;

pub(super) fn decompress(mut input: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
    while !input.is_empty() {
        input = match skippable_frame(input)? {
            Some(rest) => rest,
            None => frame(input, out)?,
        };
    }
    Ok(())
}

fn frame<'a>(input: &'a [u8], out: &mut Output<'_>) -> Result<&'a [u8], Fault> {
    let (magic, rest) = u32_le(input)?;
    if magic != MAGIC {
        return Err(Fault::Broken("no lz4 frame"));
    }
    let Some((&[flags, descriptor], rest)) = rest.split_first_chunk::<2>() else {
        return Err(Fault::Broken("frame cut off"));
    };
    if flags >> 6 != 1 {
        return Err(Fault::Broken("unknown frame version"));
    }
    let linked = flags & 0x20 == 0;
    let block_checksum = flags & 0x10 != 0;
    let content_size = flags & 0x08 != 0;
    let content_checksum = flags & 0x04 != 0;
    if flags & 0x01 != 0 {
        return Err(Fault::Broken("a preset dictionary is needed"));
    }
    let largest = match (descriptor >> 4) & 0b111 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(Fault::Broken("unknown block size")),
    };
    let mut rest = skip(rest, if content_size { 9 } else { 1 })?; // content size, header checksum
    let start = out.filled;
    loop {
        let (size, after) = u32_le(rest)?;
        if size == 0 {
            rest = after;
            break;
        }
        let length = (size & !STORED) as usize;
        let Some((block, after)) = after.split_at_checked(length) else {
            return Err(Fault::Broken("block cut off"));
        };
        rest = if block_checksum { skip(after, 4)? } else { after };
        if size & STORED != 0 {
            out.append(block)?;
        } else {
            compressed_block(block, linked, start, largest, out)?;
        }
    }
    if content_checksum { skip(rest, 4) } else { Ok(rest) }
}

fn compressed_block(
    block: &[u8],
    linked: bool,
    start: usize,
    largest: usize,
    out: &mut Output<'_>,
) -> Result<(), Fault> {
    // A byte of a block becomes 255 bytes at the most: a small block needs no room for a large one.
    let room = largest.min(block.len().saturating_mul(255));
    let capped = room > out.left();
    let room = room.min(out.left());
    out.reserve(room)?;
    let (done, free) = out.split();
    let free = free.get_mut(..room).unwrap_or_default();
    let written = if linked {
        let frame = done.get(start..).unwrap_or(&[]);
        let window = frame.get(frame.len().saturating_sub(WINDOW)..).unwrap_or(&[]);
        decompress_into_with_dict(block, free, window)
    } else {
        decompress_into(block, free)
    };
    match written {
        Ok(written) => {
            out.wrote(written);
            Ok(())
        }
        Err(DecompressError::OutputTooSmall { .. }) if capped => Err(Fault::TooLarge),
        Err(DecompressError::OutputTooSmall { .. }) => Err(Fault::Broken("a block is larger than its frame allows")),
        Err(_) => Err(Fault::Broken("a block is damaged")),
    }
}
