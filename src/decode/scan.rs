//! The fast path: an object read in one pass, its keys expected in the order in which they came before.
//!
//! What an event means is said in `visit`, by serde_json. This reads the ordinary event the same way and gives up on
//! anything else: then serde_json walks it from its beginning. Values go through the same [`Walk::set`], so what a value
//! means to its column is decided in one place only.

use fast_mem::json_stops;
use serde_json::value::RawValue;

use super::value::Input;
use super::visit::{Keys, Walk};

/// Nothing for this path: what was set must be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusual;

/// Buffers used again from event to event.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A string without its escapes; as long as the longest event with such a one.
    text: Vec<u8>,
    /// Keys without a column, as places in the event: they are counted once the event is known to be ordinary.
    unknown: Vec<(usize, usize)>,
}

/// Fills a row from an object. After [`Unusual`] columns, faults and marks are in any state.
pub(super) fn scan(walk: &mut Walk<'_>, text: &str, scratch: &mut Scratch) -> Result<(), Unusual> {
    scratch.unknown.clear();
    let mut cursor = Cursor { text, rest: text.as_bytes() };
    cursor.expect(b'{')?;
    cursor.blank();
    let mut previous = Keys::NONE;
    if cursor.peek() == Some(b'}') {
        cursor.expect(b'}')?;
    } else {
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
    }
    if !cursor.rest.is_empty() {
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
    /// From the place on.
    rest: &'a [u8],
}

/// What a string comes upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Quote,
    Escape,
}

impl<'a> Cursor<'a> {
    /// Bytes before the place.
    #[inline(always)]
    fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline(always)]
    fn take(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Result<(), Unusual> {
        if self.take() == Some(byte) { Ok(()) } else { Err(Unusual) }
    }

    #[inline(always)]
    fn skip(&mut self, bytes: usize) -> Result<(), Unusual> {
        self.rest = self.rest.get(bytes..).ok_or(Unusual)?;
        Ok(())
    }

    /// Passes what JSON takes for white space.
    #[inline(always)]
    fn blank(&mut self) {
        while let Some((b' ' | b'\n' | b'\r' | b'\t', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
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
        if let Some(expected) = keys.expected(*previous)
            && self.rest.first_chunk().is_some_and(|front| expected.begins(front))
        {
            self.skip(expected.length)?;
            *previous = expected.column;
            return Ok(Some(expected.column));
        }
        self.blank();
        self.expect(b'"')?;
        let start = self.at();
        let Stop::Quote = self.string_piece()? else { return Err(Unusual) };
        let end = self.at();
        self.skip(1)?;
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
        match self.peek() {
            Some(b'"') => {
                self.skip(1)?;
                let from = self.rest;
                match self.string_piece()? {
                    Stop::Quote => {
                        let length = from.len() - self.rest.len();
                        // A quote is no part of a character, so what lies before it is whole.
                        if !walk.set_front(column, from, length) {
                            let at = self.at();
                            walk.set(column, Some(Input::Text(self.between(at - length, at)?)));
                        }
                    }
                    Stop::Escape => {
                        self.rest = from;
                        let length = self.unescape(scratch)?;
                        if !walk.set_front(column, scratch, length) {
                            let text = scratch.get(..length).ok_or(Unusual)?;
                            walk.set(column, Some(Input::Text(std::str::from_utf8(text).map_err(|_| Unusual)?)));
                        }
                    }
                }
                self.skip(1)
            }
            Some(b'{' | b'[') => {
                if !walk.keeps_json(column) {
                    return Err(Unusual);
                }
                let raw = self.pass_nested()?;
                walk.set_text(column, raw).map_err(|_| Unusual)?;
                if walk.too_deep { Err(Unusual) } else { Ok(()) }
            }
            _ => {
                let start = self.at();
                match self.scalar()? {
                    Scalar::Null => walk.set(column, None),
                    _ if walk.takes_text(column) => {
                        walk.set(column, Some(Input::Json(self.between(start, self.at())?)));
                    }
                    Scalar::Bool(value) => walk.set(column, Some(Input::Bool(value))),
                    Scalar::Number(number) => walk.set(column, Some(Input::Unsigned(number))),
                }
                Ok(())
            }
        }
    }

    /// Passes a value that nobody wants.
    fn pass_value(&mut self) -> Result<(), Unusual> {
        match self.peek() {
            Some(b'"') => {
                self.skip(1)?;
                // With escapes it would have to be taken apart to know that they are right.
                if self.string_piece()? == Stop::Escape {
                    return Err(Unusual);
                }
                self.skip(1)
            }
            Some(b'{' | b'[') => Err(Unusual),
            _ => self.scalar().map(|_| ()),
        }
    }

    /// true, false, null, or a whole number of at most 18 digits.
    #[inline(always)]
    fn scalar(&mut self) -> Result<Scalar, Unusual> {
        let rest = self.rest;
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
        self.skip(length)?;
        // A fraction, an exponent, or no JSON.
        match self.peek() {
            Some(b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t') => Ok(scalar),
            _ => Err(Unusual),
        }
    }

    /// Passes an object or array; its text, known to be JSON.
    fn pass_nested(&mut self) -> Result<&'a str, Unusual> {
        let rest = self.text.get(self.at()..).ok_or(Unusual)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let Some(Ok(raw)) = values.next() else { return Err(Unusual) };
        self.skip(raw.get().len())?;
        Ok(raw.get())
    }

    /// Goes on to the next quote or backslash.
    #[inline(always)]
    fn string_piece(&mut self) -> Result<Stop, Unusual> {
        while let Some((chunk, behind)) = self.rest.split_first_chunk() {
            let stops = json_stops(chunk);
            if stops != 0 {
                self.skip(stops.trailing_zeros() as usize)?;
                return self.stop();
            }
            self.rest = behind;
        }
        self.skip(self.plain()?)?;
        self.stop()
    }

    /// Bytes before the next quote, backslash or control character, one by one.
    fn plain(&self) -> Result<usize, Unusual> {
        self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).ok_or(Unusual)
    }

    #[inline(always)]
    fn stop(&self) -> Result<Stop, Unusual> {
        match self.peek() {
            Some(b'"') => Ok(Stop::Quote),
            Some(b'\\') => Ok(Stop::Escape),
            // A control character: no JSON.
            _ => Err(Unusual),
        }
    }

    /// Goes on from the beginning of a string to the quote at its end; its text without escapes comes to stand at the
    /// front of `out`, and has the length returned.
    fn unescape(&mut self, out: &mut Vec<u8>) -> Result<usize, Unusual> {
        if out.len() < self.rest.len() {
            out.resize(self.rest.len(), 0);
        }
        let mut room = out.as_mut_slice();
        let whole = room.len();
        loop {
            // Sixteen bytes as they are; what is no part of the text is overwritten by what comes next.
            let plain = if let (Some((chunk, behind)), Some(place)) =
                (self.rest.split_first_chunk::<16>(), room.first_chunk_mut())
            {
                *place = *chunk;
                let stops = json_stops(chunk);
                if stops == 0 {
                    self.rest = behind;
                    room = room.get_mut(16..).ok_or(Unusual)?;
                    continue;
                }
                stops.trailing_zeros() as usize
            } else {
                let plain = self.plain()?;
                let text = self.rest.get(..plain).ok_or(Unusual)?;
                room.get_mut(..plain).ok_or(Unusual)?.copy_from_slice(text);
                plain
            };
            match self.rest.get(plain..) {
                Some([b'\\', escaped, behind @ ..]) => {
                    // Else a code point by number, or no JSON.
                    let plain_byte = ESCAPES.get(usize::from(*escaped)).copied().filter(|byte| *byte != 0);
                    let [place, free @ ..] = room.get_mut(plain..).ok_or(Unusual)? else { return Err(Unusual) };
                    *place = plain_byte.ok_or(Unusual)?;
                    room = free;
                    self.rest = behind;
                }
                Some(end @ [b'"', ..]) => {
                    self.rest = end;
                    return Ok(whole - room.len() + plain);
                }
                _ => return Err(Unusual),
            }
        }
    }
}

/// What stands for itself or for another character behind a backslash; 0 for anything else.
const ESCAPES: [u8; 128] = {
    let mut table = [0; 128];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'n' as usize] = b'\n';
    table[b't' as usize] = b'\t';
    table[b'r' as usize] = b'\r';
    table[b'b' as usize] = 0x08;
    table[b'f' as usize] = 0x0C;
    table
};

enum Scalar {
    Null,
    Bool(bool),
    Number(u64),
}

/// So many digits fit eight bytes for certain.
const MAX_DIGITS: usize = 18;

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
