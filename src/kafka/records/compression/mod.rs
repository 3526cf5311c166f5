//! Decompression of a batch's records: one buffer that is used again for every batch, and a limit of what a batch may
//! become, checked before each step that writes.
//!
//! The checksums inside of frames are passed over: the batch's CRC-32C covers the same bytes. In steady state nothing is
//! allocated per batch, whatever the codec: gzip and zstd keep their tables, made when the first such batch comes.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

#[cfg(test)]
mod tests;

use super::RecordsError;
use super::batch::BatchHeader;

/// The names of the codecs by number.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The buffer, and what the codecs keep from batch to batch.
#[derive(Debug, Default)]
pub struct Decompressor {
    /// Never shortened, so that its bytes are zeroed only once; those behind `filled` are of earlier batches.
    buffer: Vec<u8>,
    filled: usize,
    gzip: gzip::Gzip,
    zstd: Option<Box<zstd::Zstd>>,
}

impl Decompressor {
    /// Decompresses the records of a batch, of which there may be at most `limit` bytes.
    ///
    /// # Errors
    /// [`RecordsError::Codec`] for a codec that does not exist, [`RecordsError::TooLarge`] above the limit,
    /// [`RecordsError::Decompress`] for bytes that are not what the codec writes.
    pub fn decompress(&mut self, header: &BatchHeader, compressed: &[u8], limit: usize) -> Result<(), RecordsError> {
        let offset = header.base_offset;
        let codec = usize::try_from(header.codec).ok().and_then(|codec| CODECS.get(codec)).copied();
        self.filled = 0;
        let mut out = Output { buffer: &mut self.buffer, filled: 0, limit };
        let outcome = match codec {
            Some("gzip") => self.gzip.decompress(compressed, &mut out),
            Some("snappy") => snappy::decompress(compressed, &mut out),
            Some("lz4") => lz4::decompress(compressed, &mut out),
            Some("zstd") => self.zstd.get_or_insert_default().decompress(compressed, &mut out),
            other => {
                let codec = other.map_or_else(|| format!("codec {}", header.codec), str::to_owned);
                return Err(RecordsError::Codec { offset, codec });
            }
        };
        self.filled = out.filled;
        outcome.map_err(|fault| match fault {
            Fault::TooLarge => RecordsError::TooLarge { offset, limit },
            Fault::Broken(cause) => {
                RecordsError::Decompress { offset, codec: codec.unwrap_or("none"), cause: cause.to_owned() }
            }
        })
    }

    /// What the last batch decompressed to.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or(&[])
    }

    /// The bytes that are held between batches, for the memory's account.
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Why a codec gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// More than the limit would come out.
    TooLarge,
    /// The bytes are not what the codec writes.
    Broken(&'static str),
}

/// Up to so many bytes are copied as so many, where there is room: what lies behind those written is overwritten later.
const SHORT: usize = 32;

/// Where a codec writes to.
#[derive(Debug)]
struct Output<'a> {
    buffer: &'a mut Vec<u8>,
    filled: usize,
    limit: usize,
}

impl Output<'_> {
    /// How many bytes may still be written.
    fn left(&self) -> usize {
        self.limit.saturating_sub(self.filled)
    }

    /// Makes room for `more` bytes. What is written is told by [`Output::wrote`].
    fn reserve(&mut self, more: usize) -> Result<(), Fault> {
        if more > self.left() {
            return Err(Fault::TooLarge);
        }
        let needed = self.filled + more;
        let length = self.buffer.len();
        if length < needed {
            // Doubled, so that a batch of many blocks is not copied for each of them.
            let wanted = length.saturating_mul(2).min(self.limit).max(needed);
            self.buffer.reserve_exact(wanted - length);
            self.buffer.resize(wanted, 0);
        }
        Ok(())
    }

    /// What was written, and the room behind it: as much as was reserved, at times more.
    fn split(&mut self) -> (&[u8], &mut [u8]) {
        let (done, free) = self.buffer.split_at_mut(self.filled);
        let left = self.limit.saturating_sub(self.filled).min(free.len());
        (done, free.get_mut(..left).unwrap_or_default())
    }

    fn wrote(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.len());
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.reserve(bytes.len())?;
        let (_, free) = self.split();
        let Some(to) = free.get_mut(..bytes.len()) else { return Err(Fault::TooLarge) };
        to.copy_from_slice(bytes);
        self.wrote(bytes.len());
        Ok(())
    }

    /// Appends the first `count` bytes of `from`; returns the others.
    #[inline]
    fn append_front<'a>(&mut self, from: &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = from.split_at_checked(count).ok_or(Fault::Broken("a block is cut off"))?;
        self.reserve(count)?;
        if count <= SHORT
            && let Some(bytes) = from.first_chunk::<SHORT>()
            && let Some(to) = self.buffer.get_mut(self.filled..).and_then(<[u8]>::first_chunk_mut::<SHORT>)
        {
            *to = *bytes;
            self.filled += count;
        } else {
            self.append(head)?;
        }
        Ok(rest)
    }

    fn append_run(&mut self, byte: u8, count: usize) -> Result<(), Fault> {
        self.reserve(count)?;
        let (_, free) = self.split();
        let Some(to) = free.get_mut(..count) else { return Err(Fault::TooLarge) };
        to.fill(byte);
        self.wrote(count);
        Ok(())
    }

    /// Appends `count` bytes that begin `distance` bytes before the end; they may overlap what they make. The distance
    /// must not reach behind `start`.
    fn append_match(&mut self, start: usize, distance: usize, count: usize) -> Result<(), Fault> {
        if distance == 0 || distance > self.filled.saturating_sub(start) {
            return Err(Fault::Broken("a match reaches before the beginning"));
        }
        self.reserve(count)?;
        let from = self.filled - distance;
        if count <= SHORT
            && distance >= SHORT
            && let Some((before, free)) = self.buffer.split_at_mut_checked(self.filled)
            && let Some(bytes) = before.get(from..).and_then(<[u8]>::first_chunk::<SHORT>)
            && let Some(to) = free.first_chunk_mut::<SHORT>()
        {
            *to = *bytes;
            self.filled += count;
            return Ok(());
        }
        repeat(self.buffer, self.filled, distance, count);
        self.wrote(count);
        Ok(())
    }
}

/// Copies `count` bytes that begin `distance` before `at` to `at`, where there is room for them; they may overlap what they
/// make. What no codec copies as one wide piece comes here, so it stays out of their loops.
#[inline(never)]
fn repeat(buffer: &mut [u8], at: usize, distance: usize, count: usize) {
    let from = at - distance;
    let mut copied = 0;
    while copied < count {
        // What was copied repeats with the same period: each round can take twice as much.
        let step = (distance + copied).min(count - copied);
        buffer.copy_within(from..from + step, at + copied);
        copied += step;
    }
}

/// Passes over bytes that nobody needs.
fn skip(bytes: &[u8], count: usize) -> Result<&[u8], Fault> {
    bytes.get(count..).ok_or(Fault::Broken("frame cut off"))
}

fn u32_le(bytes: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or(Fault::Broken("frame cut off"))?;
    Ok((u32::from_le_bytes(*head), rest))
}

/// A skippable frame (lz4 and zstd have the same): magic number, length, bytes of no concern.
fn skippable_frame(input: &[u8]) -> Result<Option<&[u8]>, Fault> {
    match u32_le(input)? {
        (0x184D_2A50..=0x184D_2A5F, rest) => {
            let (length, rest) = u32_le(rest)?;
            skip(rest, length as usize).map(Some)
        }
        _ => Ok(None),
    }
}
