//! `String`: per row a LEB128 length and the bytes.

use std::ops::Range;

use super::Sink;

/// Strings in wire form.
#[derive(Debug, Default)]
pub struct Strings {
    /// The rows, and behind them room with anything in it: a string is written in pieces of fixed size, which take one
    /// check each and no call, and what is too much of one is overwritten by the next.
    data: Vec<u8>,
    /// Bytes of `data` that are rows.
    filled: usize,
    rows: usize,
    /// Where the last row starts, unless it became the last by losing others.
    last: Option<usize>,
    /// Where every so-many-th row starts, so that undoing several rows need not read all of them.
    starts: Vec<usize>,
}

/// Rows from one entry of `starts` to the next.
const STRIDE: usize = 64;
/// Bytes of the longest length in LEB128.
const MAX_PREFIX: usize = 10;
/// Bytes of the first room.
const FIRST_ROOM: usize = 256;

impl Strings {
    /// Appends a string; any bytes are allowed.
    pub fn push(&mut self, text: &[u8]) {
        self.push_front(text, text.len());
    }

    /// Appends the first `length` bytes of `from`.
    #[inline]
    pub(super) fn push_front(&mut self, from: &[u8], length: usize) {
        self.last = Some(self.filled);
        if self.rows.is_multiple_of(STRIDE) {
            self.starts.push(self.filled);
        }
        self.rows += 1;
        let put = if length <= 32 { self.put::<32>(from, length) } else { self.put::<64>(from, length) };
        if put.is_none() {
            self.put_any(from.get(..length).unwrap_or(from));
        }
    }

    /// Appends a string of at most `N` bytes, of which as many lie at the front of `from` and are free here.
    #[inline(always)]
    fn put<const N: usize>(&mut self, from: &[u8], length: usize) -> Option<()> {
        let [prefix, room @ ..] = self.data.get_mut(self.filled..)? else { return None };
        if length > N {
            return None;
        }
        *room.first_chunk_mut::<N>()? = *from.first_chunk()?;
        // Below 0x80, so that it is a prefix by itself.
        *prefix = length as u8;
        self.filled += 1 + length;
        Some(())
    }

    /// Appends any string; where the room is used up, half as much again is added.
    fn put_any(&mut self, text: &[u8]) {
        let most = self.filled + MAX_PREFIX + text.len();
        if most > self.data.len() {
            self.data.resize((most + FIRST_ROOM).max(self.data.len() / 2 * 3), 0);
        }
        let mut left = text.len();
        while left >= 0x80 {
            self.put_byte(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        self.put_byte(left.to_le_bytes()[0]);
        let end = self.filled + text.len();
        if let Some(place) = self.data.get_mut(self.filled..end) {
            place.copy_from_slice(text);
            self.filled = end;
        }
    }

    fn put_byte(&mut self, byte: u8) {
        if let Some(place) = self.data.get_mut(self.filled) {
            *place = byte;
            self.filled += 1;
        }
    }

    pub(super) fn push_missing(&mut self) {
        self.push(b"");
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.filled
    }

    pub(super) fn room(&self) -> usize {
        self.data.capacity()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        if rows >= self.rows {
            return;
        }
        let end = match self.last.take() {
            Some(last) if rows + 1 == self.rows => last,
            // Several rows at once: only where an event goes wrong in or behind an Array.
            _ => self.start_of(rows),
        };
        self.filled = end;
        self.starts.truncate(rows.div_ceil(STRIDE));
        self.rows = rows;
    }

    #[cfg(test)]
    fn written(&self) -> &[u8] {
        self.data.get(..self.filled).unwrap_or(&self.data)
    }

    fn start_of(&self, row: usize) -> usize {
        let mut at = self.starts.get(row / STRIDE).copied().unwrap_or(0);
        for _ in 0..row % STRIDE {
            let (mut length, mut shift) = (0, 0);
            for byte in self.data.get(at..).unwrap_or(&[]) {
                at += 1;
                length |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            at += length;
        }
        at
    }

    pub(super) fn clear(&mut self) {
        self.filled = 0;
        self.rows = 0;
        self.last = None;
        self.starts.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        let byte_of = |row: usize| match row {
            0 => 0,
            row if row >= self.rows => self.filled,
            row => self.start_of(row),
        };
        sink(self.data.get(byte_of(rows.start)..byte_of(rows.end)).unwrap_or(&[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_can_be_taken_back() {
        let text = |row: usize| "x".repeat(row % 200);
        let filled = |rows: usize| {
            let mut strings = Strings::default();
            (0..rows).for_each(|row| strings.push(text(row).as_bytes()));
            strings
        };
        for rows in [0, 1, 63, 64, 65, 128, 499, 500] {
            for more in [0, 1, 2, 63, 64, 65, 300] {
                let mut strings = filled(rows + more);
                strings.truncate(rows);
                assert_eq!((strings.rows, strings.written()), (rows, filled(rows).written()), "{rows} {more}");
                strings.push(text(rows).as_bytes());
                strings.push(text(rows + 1).as_bytes());
                let again = filled(rows + 2);
                assert_eq!((strings.written(), &strings.starts), (again.written(), &again.starts));
            }
        }
    }
}
