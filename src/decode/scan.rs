//! The fast path: an object read in one pass, its keys expected in the order in which they came before.
//!
//! What an event means is said in `visit`, by serde_json. This reads the ordinary event the same way and gives up on
//! anything else: then serde_json walks it from its beginning. Values go through the same [`Walk::set`], so what a value
//! means to its column is decided in one place only.

use fast_mem::json_stops_32;
use serde_json::value::RawValue;

use super::value::Input;
use super::visit::{Expected, Keys, Walk};

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
    let mut previous = walk.keys.before_all();
    if cursor.peek() == Some(b'}') {
        cursor.expect(b'}')?;
    } else {
        loop {
            let column;
            if let Some(expected) = walk.keys.expected(previous)
                && let Some(behind) = cursor.behind(expected)
            {
                cursor.rest = behind;
                previous = expected.column;
                column = Some(expected.column);
            } else {
                (cursor, previous, column) = cursor.key(walk.keys, previous, &mut scratch.unknown)?;
            }
            cursor = match column {
                Some(column) if cursor.peek() == Some(b'"') => cursor.text(walk, column, &mut scratch.text)?,
                Some(column) => cursor.value(walk, column, &mut scratch.text)?,
                None => cursor.pass_value()?,
            };
            if let [b',', rest @ ..] = cursor.rest {
                cursor.rest = rest;
                continue;
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

/// A place in an event. Handed on by value, so that it lives in registers.
#[derive(Clone, Copy)]
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
        if self.rest.first().is_some_and(|byte| *byte <= b' ') {
            self.rest = behind_blanks(self.rest);
        }
    }

    fn between(&self, start: usize, end: usize) -> Result<&'a str, Unusual> {
        self.text.get(start..end).ok_or(Unusual)
    }

    /// What is behind the key that came here last time and its colon, if it comes again.
    #[inline(always)]
    fn behind(&self, expected: &Expected) -> Option<&'a [u8]> {
        if expected.begins(self.rest.first_chunk()?) { self.rest.get(expected.length..) } else { None }
    }

    /// Passes any key and the colon behind it. What is `previous` to the next one, and the column, if it has one to be
    /// filled.
    #[inline(never)]
    fn key(
        mut self,
        keys: &mut Keys,
        mut previous: usize,
        unknown: &mut Vec<(usize, usize)>,
    ) -> Result<(Self, usize, Option<usize>), Unusual> {
        self.blank();
        self.expect(b'"')?;
        let start = self.at();
        let Stop::Quote = self.string_piece()? else { return Err(Unusual) };
        let end = self.at();
        self.skip(1)?;
        self.blank();
        self.expect(b':')?;
        let found = keys.find(&mut previous, self.between(start, end)?);
        if found.is_none() {
            unknown.push((start, end));
        }
        Ok((self, previous, found.filter(|column| !keys.is_ours(*column))))
    }

    /// A string for a column.
    #[inline(always)]
    fn text(mut self, walk: &mut Walk<'_>, column: usize, scratch: &mut Vec<u8>) -> Result<Self, Unusual> {
        self.skip(1)?;
        let from = self.rest;
        match self.string_piece()? {
            Stop::Quote => {
                let length = from.len() - self.rest.len();
                // A quote is no part of a character, so what lies before it is whole.
                if !walk.set_front(column, from, length) {
                    let at = self.at();
                    set(walk, column, Some(Input::Text(self.between(at - length, at)?)))?;
                }
            }
            Stop::Escape => {
                let (passed, length) = unescape(from, scratch)?;
                self.rest = from.get(passed..).ok_or(Unusual)?;
                if !walk.set_front(column, scratch, length) {
                    let text = scratch.get(..length).ok_or(Unusual)?;
                    set(walk, column, Some(Input::Text(std::str::from_utf8(text).map_err(|_| Unusual)?)))?;
                }
            }
        }
        self.skip(1)?;
        Ok(self)
    }

    /// Any value for a column.
    #[inline(never)]
    fn value(mut self, walk: &mut Walk<'_>, column: usize, scratch: &mut Vec<u8>) -> Result<Self, Unusual> {
        self.blank();
        match self.peek() {
            Some(b'"') => return self.text(walk, column, scratch),
            Some(b'{' | b'[') => {
                if !walk.keeps_json(column) {
                    return Err(Unusual);
                }
                let raw = self.pass_nested()?;
                walk.set_text(column, raw).map_err(|_| Unusual)?;
                if walk.too_deep || !walk.faults.is_empty() {
                    return Err(Unusual);
                }
            }
            _ => {
                let start = self.at();
                let input = match self.scalar()? {
                    Scalar::Null => None,
                    _ if walk.takes_text(column) => Some(Input::Json(self.between(start, self.at())?)),
                    Scalar::Bool(value) => Some(Input::Bool(value)),
                    Scalar::Number(number) => Some(Input::Unsigned(number)),
                };
                if !input.is_some_and(|input| walk.set_plain(column, input)) {
                    set(walk, column, input)?;
                }
            }
        }
        Ok(self)
    }

    /// Passes a value that nobody wants.
    #[inline(never)]
    fn pass_value(mut self) -> Result<Self, Unusual> {
        self.blank();
        match self.peek() {
            Some(b'"') => {
                self.skip(1)?;
                // With escapes it would have to be taken apart to know that they are right.
                if self.string_piece()? == Stop::Escape {
                    return Err(Unusual);
                }
                self.skip(1)?;
            }
            Some(b'{' | b'[') => return Err(Unusual),
            _ => {
                self.scalar()?;
            }
        }
        Ok(self)
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
            let stops = json_stops_32(chunk);
            if stops != 0 {
                self.skip(stops.trailing_zeros() as usize)?;
                return self.stop();
            }
            self.rest = behind;
        }
        self.skip(plain(self.rest)?)?;
        self.stop()
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
}

/// Behind what JSON takes for white space.
#[cold]
fn behind_blanks(mut rest: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\n' | b'\r' | b'\t', behind)) = rest.split_first() {
        rest = behind;
    }
    rest
}

/// Bytes before the next quote, backslash or control character, one by one.
fn plain(rest: &[u8]) -> Result<usize, Unusual> {
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).ok_or(Unusual)
}

/// Goes from the beginning of a string to the quote at its end, which is so many bytes on; the text without escapes comes to
/// stand at the front of `out`, and has the other length returned.
fn unescape(from: &[u8], out: &mut Vec<u8>) -> Result<(usize, usize), Unusual> {
    let room = from.len() + WINDOW;
    if out.len() < room {
        out.resize(room, 0);
    }
    let (mut passed, mut filled) = (0, 0);
    while let Some(window) = from.get(passed..).and_then(<[u8]>::first_chunk) {
        match look(window, out, &mut filled)? {
            Looked::Ended(at) => return Ok((passed + at, filled)),
            Looked::Passed(taken) => passed += taken,
        }
    }
    // Behind the end of the event stands what is no string.
    let rest = from.get(passed..).ok_or(Unusual)?;
    let mut end = [0; 2 * WINDOW];
    end.get_mut(..rest.len()).ok_or(Unusual)?.copy_from_slice(rest);
    let mut at_end = 0;
    while let Some(window) = end.get(at_end..).and_then(<[u8]>::first_chunk) {
        match look(window, out, &mut filled)? {
            Looked::Ended(at) => return Ok((passed + at_end + at, filled)),
            Looked::Passed(taken) => at_end += taken,
        }
    }
    Err(Unusual)
}

/// What a window has shown.
enum Looked {
    /// The string ends so many bytes on.
    Ended(usize),
    /// So many bytes are done with.
    Passed(usize),
}

/// Appends what a string has in the first [`LOOK`] bytes of a window, without the escapes.
#[inline]
fn look(window: &[u8; WINDOW], out: &mut [u8], filled: &mut usize) -> Result<Looked, Unusual> {
    let half = |at: usize| window.get(at..).and_then(<[u8]>::first_chunk).map(json_stops_32).ok_or(Unusual);
    let mut stops = u64::from(half(0)?) | u64::from(half(PIECE)?) << PIECE;
    let mut taken = 0;
    while stops != 0 {
        let at = stops.trailing_zeros() as usize % LOOK;
        let plain = at - taken;
        let place = copy_piece(window, taken, out, *filled)?;
        if plain > PIECE {
            taken += PIECE;
            *filled += PIECE;
            continue;
        }
        if window[at] != b'\\' {
            *filled += plain;
            // Anything else is a control character: no JSON.
            return if window[at] == b'"' { Ok(Looked::Ended(at)) } else { Err(Unusual) };
        }
        place[plain] = escaped(window[at + 1])?;
        *filled += plain + 1;
        taken = at + 2;
        // The escaped one is no stop any more.
        stops &= !(0b11 << at);
    }
    let plain = LOOK.saturating_sub(taken);
    copy_piece(window, taken, out, *filled)?;
    if plain > PIECE {
        copy_piece(window, taken + PIECE, out, *filled + PIECE)?;
    }
    *filled += plain;
    Ok(Looked::Passed(taken.max(LOOK)))
}

/// Copies a piece of a window from `taken` on, whatever of it is needed: what is too much is overwritten by what follows.
/// The place that it was copied to, and a byte behind.
#[inline(always)]
fn copy_piece<'o>(
    window: &[u8; WINDOW],
    taken: usize,
    out: &'o mut [u8],
    filled: usize,
) -> Result<&'o mut [u8; PIECE + 1], Unusual> {
    let piece: &[u8; PIECE] = window.get(taken..).and_then(<[u8]>::first_chunk).ok_or(Unusual)?;
    let place: &mut [u8; PIECE + 1] = out.get_mut(filled..).and_then(<[u8]>::first_chunk_mut).ok_or(Unusual)?;
    let [front @ .., _] = place;
    *front = *piece;
    Ok(place)
}

/// What a byte behind a backslash stands for; a code point by number, and what is no JSON, is not ordinary.
#[inline(always)]
fn escaped(byte: u8) -> Result<u8, Unusual> {
    let plain = ESCAPES[usize::from(byte)];
    if plain == 0 { Err(Unusual) } else { Ok(plain) }
}

/// [`Walk::set`]; a value that does not fit is not ordinary, so that no column ever has a fault here.
fn set(walk: &mut Walk<'_>, column: usize, input: Option<Input<'_>>) -> Result<(), Unusual> {
    walk.set(column, input);
    if walk.faults.is_empty() { Ok(()) } else { Err(Unusual) }
}

/// Bytes that are copied, and looked at, in one piece.
const PIECE: usize = 32;
/// Bytes of a string with escapes whose stops are known at once.
const LOOK: usize = 2 * PIECE;
/// And what is looked at behind them: the byte behind a backslash, and a piece from there on.
const WINDOW: usize = LOOK + 2 + PIECE;

/// What stands for itself or for another character behind a backslash; 0 for anything else.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
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
