//! The fast path: an object read in one pass, its keys expected in the order in which they came before.
//!
//! What an event means is said in `visit`, by serde_json. This reads the ordinary event the same way and gives up on
//! anything else: then serde_json walks it from its beginning. Values go through the same [`Walk::set`], so what a value
//! means to its column is decided in one place only.

use serde_json::value::RawValue;

use super::value::Input;
use super::visit::{Keys, Walk};
use crate::columns::{equal, put_front};

/// Nothing for this path: what was set must be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusual;

/// Buffers used again from event to event.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A string without its escapes.
    text: Vec<u8>,
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
            match column.filter(|column| !walk.keys.is_ours(*column)) {
                Some(column) => cursor.value(walk, column, &mut scratch.text)?,
                None => cursor.pass_value()?,
            }
            cursor.blank();
            match cursor.take() {
                Some(b',') => {}
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

    /// Passes a key and the colon behind it; its column, if it has one.
    #[inline(always)]
    fn key(
        &mut self,
        keys: &mut Keys,
        previous: &mut usize,
        unknown: &mut Vec<(usize, usize)>,
    ) -> Result<Option<usize>, Unusual> {
        if let Some((column, quoted)) = keys.expected(*previous)
            && self.rest().get(..quoted.len()).is_some_and(|front| equal(front, quoted))
        {
            self.at += quoted.len();
            *previous = column;
            return Ok(Some(column));
        }
        self.blank();
        self.expect(b'"')?;
        let start = self.at;
        let Stop::Quote = self.string_piece()? else { return Err(Unusual) };
        let end = self.at - 1;
        self.blank();
        self.expect(b':')?;
        let found = keys.find(previous, self.between(start, end)?);
        if found.is_none() {
            unknown.push((start, end));
        }
        Ok(found)
    }

    #[inline(always)]
    fn value(&mut self, walk: &mut Walk<'_>, column: usize, scratch: &mut Vec<u8>) -> Result<(), Unusual> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                let from = self.rest();
                match self.string_piece()? {
                    Stop::Quote => {
                        // A quote is no part of a character, so what lies before it is whole.
                        if !walk.set_front(column, from, self.at - start - 2) {
                            walk.set(column, Some(Input::Text(self.between(start + 1, self.at - 1)?)));
                        }
                    }
                    Stop::Escape => {
                        self.unescape(from, self.at - start - 2, scratch)?;
                        if !walk.set_front(column, scratch, scratch.len()) {
                            let text = std::str::from_utf8(scratch).map_err(|_| Unusual)?;
                            walk.set(column, Some(Input::Text(text)));
                        }
                    }
                }
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
        let (words, rest) = self.rest().as_chunks::<8>();
        for word in words {
            let hits = special(u64::from_le_bytes(*word));
            if hits != 0 {
                let place = (hits.trailing_zeros() / 8) as usize;
                self.at += place;
                return self.stop();
            }
            self.at += 8;
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

    /// A string without its escapes: `from` is where it begins, `length` what it has before its first backslash; the
    /// cursor is behind that.
    fn unescape(&mut self, mut from: &'a [u8], mut length: usize, out: &mut Vec<u8>) -> Result<(), Unusual> {
        out.clear();
        loop {
            put_front(from, length, out);
            out.push(match self.take() {
                Some(plain @ (b'"' | b'\\' | b'/')) => plain,
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'b') => 0x08,
                Some(b'f') => 0x0C,
                _ => return Err(Unusual),
            });
            from = self.rest();
            let start = self.at;
            let stop = self.string_piece()?;
            length = self.at - start - 1;
            if let Stop::Quote = stop {
                put_front(from, length, out);
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
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let backslash = below(word ^ (ONES * b'\\' as u64), 1);
    // With this bit turned over a quote comes to lie right behind the control characters, and nothing else does.
    let quote_or_control = below(word ^ (ONES * 2), u64::from(b'"' ^ 2) + 1);
    (backslash | quote_or_control) & HIGH
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
