//! Gzip, of one or more members (RFC 1952), inflated straight into the output.

use std::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::{Fault, Output, skip};

/// The inflater's tables, made for the first batch.
#[derive(Default)]
pub(super) struct Gzip {
    inflater: Option<Box<DecompressorOxide>>,
}

impl fmt::Debug for Gzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gzip").field("in_use", &self.inflater.is_some()).finish()
    }
}

const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
/// What the output grows by at the least.
const STEP: usize = 32 << 10;

impl Gzip {
    pub(super) fn decompress(&mut self, mut input: &[u8], out: &mut Output<'_>) -> Result<(), Fault> {
        if input.is_empty() {
            return Err(Fault::Broken("nothing there"));
        }
        while !input.is_empty() {
            let inflater = self.inflater.get_or_insert_default();
            let used = inflate(inflater, header(input)?, out)?;
            input = skip(used, 8)?; // CRC-32 and length of the content
        }
        Ok(())
    }
}

/// Passes over a member's header.
fn header(input: &[u8]) -> Result<&[u8], Fault> {
    let Some((&[0x1f, 0x8b, method, flags, ..], mut rest)) = input.split_first_chunk::<10>() else {
        return Err(Fault::Broken("no gzip member"));
    };
    if method != 8 {
        return Err(Fault::Broken("unknown compression method"));
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(Fault::Broken("header cut off"))?;
        rest = skip(after, u16::from_le_bytes(*length).into())?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(Fault::Broken("header cut off"))?;
            rest = skip(rest, end + 1)?;
        }
    }
    if flags & HEADER_CRC != 0 { skip(rest, 2) } else { Ok(rest) }
}

/// Inflates one member; returns what is behind it.
fn inflate<'a>(inflater: &mut DecompressorOxide, mut input: &'a [u8], out: &mut Output<'_>) -> Result<&'a [u8], Fault> {
    inflater.init();
    let start = out.filled;
    loop {
        let step = input.len().saturating_mul(2).max(STEP).min(out.left());
        out.reserve(step)?;
        let filled = out.filled;
        let room = (filled + out.left()).min(out.buffer.len());
        let member = out.buffer.get_mut(start..room).unwrap_or_default();
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(inflater, input, member, filled - start, flags);
        input = skip(input, read)?;
        out.wrote(written);
        match status {
            TINFLStatus::Done => return Ok(input),
            TINFLStatus::HasMoreOutput if out.left() == 0 => return Err(Fault::TooLarge),
            TINFLStatus::HasMoreOutput => {}
            _ => return Err(Fault::Broken("the deflate stream is damaged")),
        }
    }
}
