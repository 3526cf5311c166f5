//! The fast path: an object read in one pass, its keys expected in the order in which they came before.
//!
//! What an event means is said in `visit`, by serde_json. This reads the ordinary event the same way and gives up on
//! anything else: then serde_json walks it from its beginning. Values go through the same [`Walk::set`], so what a value
//! means to its column is decided in one place only.

use serde_json::value::RawValue;

use super::value::Input;
use super::visit::{Keys, Walk};

/// Nothing for this path: what was set must be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusual;

/// Buffers used again from event to event.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A string without its escapes.
    text: String,
    /// Keys without a column, as places in the event: they are counted once the event is known to be ordinary.
    unknown: Vec<(usize, usize)>,
}

/// Fills a row from an object. After [`Unusual`] columns, faults and marks are in any state.
pub(super) fn scan(walk: &mut Walk<'_>, text: &str, scratch: &mut Scratch) -> Result<(), Unusual> {
    scratch.unknown.clear();
    let mut cursor = Cursor { text, bytes: text.as_bytes(), at: 0 };
    cursor.expect(b'{')?;
    cursor.blank();
    let mut previous = Keys::NONE;
    if cursor.peek() != Some(b'}') {
        loop {
            let column = cursor.key(walk.keys, &mut previous, &mut scratch.unknown)?;
            cursor.blank();
            cursor.expect(b':')?;
            cursor.blank();
            match column.filter(|column| !walk.keys.is_ours(*column)) {
                Some(column) => cursor.value(walk, column, &mut scratch.text)?,
                None => cursor.pass_value()?,
            }
            cursor.blank();
            match cursor.take() {
                Some(b',') => cursor.blank(),
                Some(b'}') => break,
                _ => return Err(Unusual),
            }
        }
    } else {
        cursor.at += 1;
    }
    if cursor.at != text.len() {
        return Err(Unusual);
    }
    if let Some(unknown) = &mut walk.unknown {
        for (start, end) in scratch.unknown.drain(..) {
            unknown.count(text.get(start..end).ok_or(Unusual)?);
        }
    }
    Ok(())
}

/// A place in an event.
struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// What a string comes upon.
enum Stop {
    Quote,
    Escape,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Result<(), Unusual> {
        if self.take() == Some(byte) { Ok(()) } else { Err(Unusual) }
    }

    /// Passes what JSON takes for white space.
    #[inline(always)]
    fn blank(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    fn between(&self, start: usize, end: usize) -> Result<&'a str, Unusual> {
        self.text.get(start..end).ok_or(Unusual)
    }

    /// Passes a key; its column, if it has one.
    #[inline(always)]
    fn key(
        &mut self,
        keys: &mut Keys,
        previous: &mut usize,
        unknown: &mut Vec<(usize, usize)>,
    ) -> Result<Option<usize>, Unusual> {
        if let Some((column, quoted)) = keys.expected(*previous)
            && self.rest().starts_with(quoted)
        {
            self.at += quoted.len();
            *previous = column;
            return Ok(Some(column));
        }
        self.expect(b'"')?;
        let start = self.at;
        let Stop::Quote = self.string_piece()? else { return Err(Unusual) };
        let end = self.at - 1;
        let found = keys.find(previous, self.between(start, end)?);
        if found.is_none() {
            unknown.push((start, end));
        }
        Ok(found)
    }

    #[inline(always)]
    fn value(&mut self, walk: &mut Walk<'_>, column: usize, scratch: &mut String) -> Result<(), Unusual> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                let text = match self.string_piece()? {
                    Stop::Quote => self.between(start + 1, self.at - 1)?,
                    Stop::Escape => {
                        self.unescape(start + 1, scratch)?;
                        scratch.as_str()
                    }
                };
                walk.set(column, Some(Input::Text(text)));
            }
            Some(b'{' | b'[') => {
                if !walk.keeps_json(column) {
                    return Err(Unusual);
                }
                let raw = self.pass_nested()?;
                walk.set_text(column, raw).map_err(|_| Unusual)?;
                if walk.too_deep {
                    return Err(Unusual);
                }
            }
            _ => match self.scalar()? {
                Scalar::Null => walk.set(column, None),
                _ if walk.takes_text(column) => walk.set(column, Some(Input::Json(self.between(start, self.at)?))),
                Scalar::Bool(value) => walk.set(column, Some(Input::Bool(value))),
                Scalar::Number(number) => walk.set(column, Some(Input::Unsigned(number))),
            },
        }
        Ok(())
    }

    /// Passes a value that nobody wants.
    fn pass_value(&mut self) -> Result<(), Unusual> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                // With escapes it would have to be taken apart to know that they are right.
                if matches!(self.string_piece()?, Stop::Quote) { Ok(()) } else { Err(Unusual) }
            }
            Some(b'{' | b'[') => Err(Unusual),
            _ => self.scalar().map(|_| ()),
        }
    }

    /// true, false, null, or a whole number of at most 18 digits.
    #[inline(always)]
    fn scalar(&mut self) -> Result<Scalar, Unusual> {
        let rest = self.rest();
        let (length, scalar) = match rest.first() {
            Some(b't') if rest.starts_with(b"true") => (4, Scalar::Bool(true)),
            Some(b'f') if rest.starts_with(b"false") => (5, Scalar::Bool(false)),
            Some(b'n') if rest.starts_with(b"null") => (4, Scalar::Null),
            Some(b'0'..=b'9') => {
                let mut number = 0;
                let mut digits = 0;
                while let Some(digit @ b'0'..=b'9') = rest.get(digits) {
                    if digits == MAX_DIGITS {
                        return Err(Unusual);
                    }
                    number = number * 10 + u64::from(digit - b'0');
                    digits += 1;
                }
                if digits > 1 && rest.first() == Some(&b'0') {
                    return Err(Unusual);
                }
                (digits, Scalar::Number(number))
            }
            _ => return Err(Unusual),
        };
        self.at += length;
        // A fraction, an exponent, or no JSON.
        match self.peek() {
            Some(b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t') => Ok(scalar),
            _ => Err(Unusual),
        }
    }

    /// Passes an object or array; its text, known to be JSON.
    fn pass_nested(&mut self) -> Result<&'a str, Unusual> {
        let rest = self.text.get(self.at..).ok_or(Unusual)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let Some(Ok(raw)) = values.next() else { return Err(Unusual) };
        self.at += raw.get().len();
        Ok(raw.get())
    }

    /// Goes on behind the next quote or backslash.
    #[inline(always)]
    fn string_piece(&mut self) -> Result<Stop, Unusual> {
        let mut rest = self.rest();
        while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
            let hits = special(u64::from_le_bytes(*chunk));
            if hits != 0 {
                self.at += (hits.trailing_zeros() / 8) as usize;
                return self.stop();
            }
            self.at += 8;
            rest = after;
        }
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).ok_or(Unusual)?;
        self.at += end;
        self.stop()
    }

    #[inline(always)]
    fn stop(&mut self) -> Result<Stop, Unusual> {
        match self.take() {
            Some(b'"') => Ok(Stop::Quote),
            Some(b'\\') => Ok(Stop::Escape),
            // A control character: no JSON.
            _ => Err(Unusual),
        }
    }

    /// The string from `start` on without its escapes; the cursor is behind its first backslash.
    fn unescape(&mut self, mut start: usize, out: &mut String) -> Result<(), Unusual> {
        out.clear();
        loop {
            out.push_str(self.between(start, self.at - 1)?);
            out.push(match self.take() {
                Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
                Some(b'n') => '\n',
                Some(b't') => '\t',
                Some(b'r') => '\r',
                Some(b'b') => '\u{8}',
                Some(b'f') => '\u{c}',
                _ => return Err(Unusual),
            });
            start = self.at;
            if let Stop::Quote = self.string_piece()? {
                out.push_str(self.between(start, self.at - 1)?);
                return Ok(());
            }
        }
    }
}

enum Scalar {
    Null,
    Bool(bool),
    Number(u64),
}

/// So many digits fit eight bytes for certain.
const MAX_DIGITS: usize = 18;

/// The high bit of each byte that is a quote, a backslash or below 0x20. Bits above the lowest one may be wrong.
#[inline(always)]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGH
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
