//! Zstandard frames, one after the other, decoded straight into the output, which is the window at once: no second
//! buffer of the window's size, and the limit is checked before each sequence. A block that says it holds more than
//! 128 KiB is refused before it does any harm (decoders that trust the block write gigabytes for a few bytes).
//!
//! Source: RFC 8878. Dictionaries are not supported, as no Kafka client uses one.

mod bits;
mod fse;
mod huffman;
mod sequences;

use self::huffman::Huffman;
use self::sequences::Sequences;
use super::{Fault, Output, skip, skippable_frame, u32_le};

const MAGIC: u32 = 0xFD2F_B528;
/// The most that a block may become (RFC 8878, 3.1.1.2.4).
const BLOCK_MAX: usize = 128 << 10;

/// The tables, and the literals of the block at hand. About 160 KiB once a batch was seen.
#[derive(Debug, Default)]
pub(super) struct Zstd {
    huffman: Huffman,
    sequences: Sequences,
    literals: Vec<u8>,
}

impl Zstd {
    pub(super) fn decompress(&mut self, mut input: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
        while !input.is_empty() {
            input = match skippable_frame(input)? {
                Some(rest) => rest,
                None => self.frame(input, out)?,
            };
        }
        Ok(())
    }

    fn frame<'a>(&mut self, input: &'a [u8], out: &mut Output<'_>) -> Result<&'a [u8], Fault> {
        let (content_checksum, mut rest) = frame_header(input)?;
        self.huffman.reset();
        self.sequences.reset();
        let start = out.filled;
        loop {
            let Some((&[b0, b1, b2], after)) = rest.split_first_chunk::<3>() else {
                return Err(Fault::Broken("block header cut off"));
            };
            let header = u32::from_le_bytes([b0, b1, b2, 0]);
            let size = (header >> 3) as usize;
            if size > BLOCK_MAX {
                return Err(TOO_LARGE_A_BLOCK);
            }
            rest = match header >> 1 & 0b11 {
                0 => {
                    let (raw, after) = split(after, size)?;
                    out.append(raw)?;
                    after
                }
                1 => {
                    let (&byte, after) = after.split_first().ok_or(CUT_OFF)?;
                    out.append_run(byte, size)?;
                    after
                }
                2 => {
                    let (block, after) = split(after, size)?;
                    self.block(block, start, out)?;
                    after
                }
                _ => return Err(Fault::Broken("unknown block type")),
            };
            if header & 1 != 0 {
                break;
            }
        }
        if content_checksum { skip(rest, 4) } else { Ok(rest) }
    }

    fn block(&mut self, block: &[u8], frame: usize, out: &mut Output<'_>) -> Result<(), Fault> {
        let rest = self.read_literals(block)?;
        self.sequences.execute(rest, &self.literals, frame, out)
    }

    /// Reads the literals section (RFC 8878, 3.1.1.3.1); returns what is behind it.
    fn read_literals<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], Fault> {
        let first = *block.first().ok_or(CUT_OFF)?;
        let format = first >> 2 & 0b11;
        self.literals.clear();
        match first & 0b11 {
            kind @ (0 | 1) => {
                let (bytes, bits) = match format {
                    0 | 2 => (1, 3),
                    1 => (2, 4),
                    _ => (3, 4),
                };
                let (head, rest) = split(block, bytes)?;
                let size = (little_endian(head) >> bits) as usize;
                if size > BLOCK_MAX {
                    return Err(TOO_LARGE_A_BLOCK);
                }
                if kind == 0 {
                    let (literals, rest) = split(rest, size)?;
                    self.literals.extend_from_slice(literals);
                    Ok(rest)
                } else {
                    let (&byte, rest) = rest.split_first().ok_or(CUT_OFF)?;
                    self.literals.resize(size, byte);
                    Ok(rest)
                }
            }
            kind => {
                let (bytes, bits) = match format {
                    0 | 1 => (3, 10),
                    2 => (4, 14),
                    _ => (5, 18),
                };
                let (head, rest) = split(block, bytes)?;
                let sizes = little_endian(head) >> 4;
                let mask = (1 << bits) - 1;
                let (size, compressed) = ((sizes & mask) as usize, (sizes >> bits & mask) as usize);
                if size > BLOCK_MAX {
                    return Err(TOO_LARGE_A_BLOCK);
                }
                let (mut streams, rest) = split(rest, compressed)?;
                if kind == 2 {
                    streams = self.huffman.read_tree(streams)?;
                }
                self.huffman.decode(streams, format != 0, size, &mut self.literals)?;
                Ok(rest)
            }
        }
    }
}

/// Reads a frame's header; says whether a checksum follows the frame. The window's size is of no interest, as all of the
/// output is at hand, and the content's size is only what the frame claims.
fn frame_header(input: &[u8]) -> Result<(bool, &[u8]), Fault> {
    let (magic, rest) = u32_le(input)?;
    if magic != MAGIC {
        return Err(Fault::Broken("no zstd frame"));
    }
    let (&descriptor, rest) = rest.split_first().ok_or(CUT_OFF)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 {
        return Err(Fault::Broken("unknown frame header"));
    }
    let rest = skip(rest, usize::from(!single_segment))?; // window descriptor
    let dictionary = match descriptor & 0b11 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let (dictionary, rest) = split(rest, dictionary)?;
    if dictionary.iter().any(|byte| *byte != 0) {
        return Err(Fault::Broken("a dictionary is needed"));
    }
    let content_size = match descriptor >> 6 {
        0 => usize::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    Ok((descriptor & 0x04 != 0, skip(rest, content_size)?))
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), Fault> {
    bytes.split_at_checked(at).ok_or(CUT_OFF)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const CUT_OFF: Fault = Fault::Broken("a block is cut off");
const TOO_LARGE_A_BLOCK: Fault = Fault::Broken("a block of more than 128 KiB");
