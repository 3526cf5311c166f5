//! Decompression of a batch's records into a buffer that is used again.

use super::RecordsError;
use super::batch::BatchHeader;

/// The names of the codecs by number.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Decompresses the records of a batch into `out`, which is emptied first and never grows beyond `limit` bytes.
pub fn decompress(
    header: &BatchHeader,
    compressed: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), RecordsError> {
    out.clear();
    let offset = header.base_offset;
    match header.codec {
        3 => lz4_frames(compressed, out, limit).map_err(|fault| match fault {
            Fault::TooLarge => RecordsError::TooLarge { offset, limit },
            Fault::Broken(cause) => RecordsError::Decompress { offset, codec: "lz4", cause },
        }),
        codec => {
            let name = usize::try_from(codec).ok().and_then(|codec| CODECS.get(codec));
            let codec = name.map_or_else(|| format!("codec {codec}"), |name| (*name).to_owned());
            Err(RecordsError::Codec { offset, codec })
        }
    }
}

enum Fault {
    TooLarge,
    Broken(String),
}

fn broken<T>(cause: &str) -> Result<T, Fault> {
    Err(Fault::Broken(cause.to_owned()))
}

/// LZ4 frames, one after the other, by hand over the block format: no buffer of a frame decoder's own, and the output is
/// capped before each block. The frame's checksums are passed over, as the batch's CRC-32C covers the same bytes.
///
/// Source: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.
fn lz4_frames(mut input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Fault> {
    while !input.is_empty() {
        input = lz4_frame(input, out, limit)?;
    }
    Ok(())
}

fn lz4_frame<'a>(input: &'a [u8], out: &mut Vec<u8>, limit: usize) -> Result<&'a [u8], Fault> {
    let Some((&[m0, m1, m2, m3, flags, descriptor], mut rest)) = input.split_first_chunk::<6>() else {
        return broken("frame header cut off");
    };
    let magic = u32::from_le_bytes([m0, m1, m2, m3]);
    if (0x184D_2A50..=0x184D_2A5F).contains(&magic) {
        return skippable(input);
    }
    if magic != 0x184D_2204 {
        return broken("no lz4 frame");
    }
    if flags >> 6 != 1 {
        return broken("unknown frame version");
    }
    let linked = flags & 0x20 == 0;
    let block_checksum = flags & 0x10 != 0;
    let content_size = flags & 0x08 != 0;
    let content_checksum = flags & 0x04 != 0;
    if flags & 0x01 != 0 {
        return broken("a preset dictionary is needed");
    }
    let block_limit = match (descriptor >> 4) & 0b111 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return broken("unknown block size"),
    };
    rest = skip(rest, if content_size { 9 } else { 1 })?; // content size, header checksum
    let frame_start = out.len();
    loop {
        let (size, after) = u32_le(rest)?;
        rest = after;
        if size == 0 {
            break;
        }
        let stored = size & 0x8000_0000 != 0;
        let size = (size & 0x7fff_ffff) as usize;
        let Some((block, after)) = rest.split_at_checked(size) else { return broken("block cut off") };
        rest = if block_checksum { skip(after, 4)? } else { after };
        append_block(block, stored, linked, frame_start, block_limit, out, limit)?;
    }
    if content_checksum {
        rest = skip(rest, 4)?;
    }
    Ok(rest)
}

fn append_block(
    block: &[u8],
    stored: bool,
    linked: bool,
    frame_start: usize,
    block_limit: usize,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Fault> {
    if stored {
        if block.len() > limit.saturating_sub(out.len()) {
            return Err(Fault::TooLarge);
        }
        out.extend_from_slice(block);
        return Ok(());
    }
    let start = out.len();
    let room = block_limit.min(limit.saturating_sub(start));
    out.resize(start + room, 0);
    let (done, free) = out.split_at_mut(start);
    let written = if linked {
        // A block may refer to the 64 KiB before it in its frame.
        let window = done.len().min(64 << 10).min(done.len() - frame_start);
        let history = done.get(done.len() - window..).unwrap_or(&[]);
        lz4_flex::block::decompress_into_with_dict(block, free, history)
    } else {
        lz4_flex::block::decompress_into(block, free)
    };
    match written {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < block_limit => Err(Fault::TooLarge),
        Err(error) => Err(Fault::Broken(error.to_string())),
    }
}

fn skippable(input: &[u8]) -> Result<&[u8], Fault> {
    let (size, rest) = u32_le(skip(input, 4)?)?;
    skip(rest, size as usize)
}

fn skip(bytes: &[u8], count: usize) -> Result<&[u8], Fault> {
    bytes.get(count..).map_or_else(|| broken("frame cut off"), Ok)
}

fn u32_le(bytes: &[u8]) -> Result<(u32, &[u8]), Fault> {
    match bytes.split_first_chunk::<4>() {
        Some((head, rest)) => Ok((u32::from_le_bytes(*head), rest)),
        None => broken("frame cut off"),
    }
}
