//! LZ4 frames, one after the other, and their blocks: no buffer of a frame decoder's own, and the output is capped before
//! each block. Events of one kind repeat long pieces of each other, so matches beyond a token's 18 bytes are the rule
//! here, and are copied in wide pieces like the short ones.
//!
//! The header's checksum is passed over like the others, so frames of old Java clients that got it wrong are read too.
//!
//! Source: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>, `lz4_Block_format.md`.

use super::{Fault, Output, repeat, skip, skippable_frame, u32_le};

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
    let filled = out.filled;
    // How far back the block's matches may reach.
    let floor = if linked { start.max(filled.saturating_sub(WINDOW)) } else { filled };
    let buffer = out.buffer.get_mut(..filled + room).unwrap_or_default();
    match block_into(block, buffer, floor, filled) {
        Ok(end) => {
            out.filled = end;
            Ok(())
        }
        Err(Damage::NoRoom) if capped => Err(Fault::TooLarge),
        Err(Damage::NoRoom) => Err(Fault::Broken("a block is larger than its frame allows")),
        Err(Damage::Malformed) => Err(Fault::Broken("a block is damaged")),
    }
}

/// Why a block cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// It is no block, or cut off.
    Malformed,
    /// It becomes more bytes than there is room for.
    NoRoom,
}

/// Fewer literals than this are told by the token alone, and copied as one piece: what is too much is overwritten by what
/// comes next.
const FEW: usize = 15;
/// Token, literals, and a word of what comes behind them: distance, and where the length goes on, its next byte.
const HEAD: usize = 1 + FEW - 1 + size_of::<u32>();
/// So many bytes of a match, and of literals beyond the token's, likewise.
const WIDE: usize = 64;

/// Decompresses a block to `buffer` from `at` on; where it ends. Matches reach back to `floor` at most. Not inlined: among
/// the other codecs the loop would keep less in registers.
#[inline(never)]
fn block_into(mut input: &[u8], buffer: &mut [u8], floor: usize, mut at: usize) -> Result<usize, Damage> {
    loop {
        // Token, literals, distance and the byte behind it are looked for in one piece of fixed size, which spares a check
        // for each.
        let (distance, length) = if let Some(&[token, ref text @ ..]) = input.first_chunk::<HEAD>()
            && let literals = usize::from(token >> 4)
            && literals < FEW
            && let Some(behind) = text.get(literals..).and_then(<[u8]>::first_chunk)
            && let Some(place) = buffer.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<{ FEW + 1 }>)
            && let Some(few) = text.first_chunk()
        {
            *place = *few;
            at += literals;
            let behind = u32::from_le_bytes(*behind);
            // Half of the lengths go on there, in no order that a processor could foresee: added without a branch.
            let short = token & 0xF;
            let first = if short == 0xF { behind >> 16 & 0xFF } else { 0 };
            input = input.get(1 + literals + 2 + usize::from(short == 0xF)..).ok_or(Damage::Malformed)?;
            let mut length = usize::from(short) + SHORTEST + first as usize;
            if first == u32::from(u8::MAX) {
                length += more(&mut input)?;
            }
            (behind as u16, length)
        } else {
            let (&token, rest) = input.split_first().ok_or(Damage::Malformed)?;
            input = rest;
            let mut literals = usize::from(token >> 4);
            if literals == FEW {
                literals += more(&mut input)?;
            }
            let free = buffer.get_mut(at..).ok_or(Damage::NoRoom)?;
            // Ids and hashes: they are as long as that, and repeat nothing.
            if literals <= WIDE
                && let (Some(bytes), Some(place)) = (input.first_chunk::<WIDE>(), free.first_chunk_mut())
            {
                *place = *bytes;
            } else {
                let bytes = input.get(..literals).ok_or(Damage::Malformed)?;
                free.get_mut(..literals).ok_or(Damage::NoRoom)?.copy_from_slice(bytes);
            }
            at += literals;
            input = input.get(literals..).ok_or(Damage::Malformed)?;
            // The last sequence has no match.
            if input.is_empty() {
                return Ok(at);
            }
            let (&distance, rest) = input.split_first_chunk().ok_or(Damage::Malformed)?;
            input = rest;
            let mut length = usize::from(token & 0xF) + SHORTEST;
            if length == SHORTEST + 0xF {
                length += more(&mut input)?;
            }
            (u16::from_le_bytes(distance), length)
        };
        let distance = usize::from(distance);
        if distance == 0 || distance > at - floor {
            return Err(Damage::Malformed);
        }
        copy_match(buffer, at, distance, length)?;
        at += length;
    }
}

/// Bytes of the shortest match.
const SHORTEST: usize = 4;

/// What a length of 15 goes on with: bytes that are added up, of which only the last is below 255.
fn more(input: &mut &[u8]) -> Result<usize, Damage> {
    let mut sum = 0;
    loop {
        let (&byte, rest) = input.split_first().ok_or(Damage::Malformed)?;
        *input = rest;
        sum += usize::from(byte);
        if byte < u8::MAX {
            return Ok(sum);
        }
    }
}

/// Copies `length` bytes that begin `distance` before `at` to `at`; they may overlap what they make.
#[inline(always)]
fn copy_match(buffer: &mut [u8], at: usize, distance: usize, length: usize) -> Result<(), Damage> {
    // All of a wide piece whatever the length: a branch for half of it costs more than the other half.
    if distance >= WIDE && length <= WIDE {
        let (before, free) = buffer.split_at_mut_checked(at).ok_or(Damage::NoRoom)?;
        let from = before.get(at - distance..).and_then(|from| from.first_chunk::<WIDE>());
        if let (Some(from), Some(place)) = (from, free.first_chunk_mut()) {
            *place = *from;
            return Ok(());
        }
    }
    if length > buffer.len() - at {
        return Err(Damage::NoRoom);
    }
    repeat(buffer, at, distance, length);
    Ok(())
}

#[cfg(test)]
mod block_tests {
    use lz4_flex::block::{compress, decompress_into, decompress_into_with_dict};
    use proptest::prelude::*;

    use super::*;

    /// Text that repeats itself at all distances and lengths.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let new = prop_oneof![prop::collection::vec(any::<u8>(), 1..20), prop::collection::vec(any::<u8>(), 1..300)];
        prop::collection::vec((new, 0..200_usize, 1..80_usize), 0..60).prop_map(|steps| {
            let mut text = vec![b'x'];
            for (new, back, length) in steps {
                text.extend(new);
                let back = back % text.len() + 1;
                for _ in 0..length {
                    text.push(text[text.len() - back]);
                }
            }
            text
        })
    }

    fn ours(block: &[u8], before: &[u8], room: usize) -> Result<Vec<u8>, Damage> {
        let mut buffer = before.to_vec();
        buffer.resize(before.len() + room, 0);
        let end = block_into(block, &mut buffer, 0, before.len())?;
        assert_eq!(buffer[..before.len()], *before, "what was there is not touched");
        Ok(buffer[before.len()..end].to_vec())
    }

    proptest! {
        /// Also of blocks that are damaged, and with too little room, the outcome is that of lz4_flex.
        #[test]
        fn as_another_decoder(
            text in text(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            before in prop::collection::vec(any::<u8>(), 0..100),
            room in 0..9000_usize,
        ) {
            let mut block = compress(&text);
            prop_assert_eq!(ours(&block, b"", text.len()), Ok(text));
            for (place, byte) in damage {
                let place = place.index(block.len());
                block[place] = byte;
            }
            let mut theirs = vec![0; room];
            let outcome = decompress_into(&block, &mut theirs).map(|length| theirs[..length].to_vec());
            prop_assert_eq!(ours(&block, b"", room).ok(), outcome.ok());
            let outcome = decompress_into_with_dict(&block, &mut theirs, &before).map(|length| theirs[..length].to_vec());
            prop_assert_eq!(ours(&block, &before, room).ok(), outcome.ok());
        }
    }
}
