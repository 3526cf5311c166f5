//! `String`: per row a LEB128 length and the bytes.

use super::{Sink, put_front, put_varint};

/// Strings in wire form.
#[derive(Debug, Default)]
pub struct Strings {
    data: Vec<u8>,
    rows: usize,
    /// Where the last row starts, unless it became the last by losing others.
    last: Option<usize>,
    /// Where every so-many-th row starts, so that undoing several rows need not read all of them.
    starts: Vec<usize>,
}

/// Rows from one entry of `starts` to the next.
const STRIDE: usize = 64;

impl Strings {
    /// Appends a string; any bytes are allowed.
    pub fn push(&mut self, text: &[u8]) {
        self.push_front(text, text.len());
    }

    /// Appends the first `length` bytes of `from`.
    #[inline]
    pub(super) fn push_front(&mut self, from: &[u8], length: usize) {
        let length = length.min(from.len());
        self.last = Some(self.data.len());
        if self.rows.is_multiple_of(STRIDE) {
            self.starts.push(self.data.len());
        }
        self.rows += 1;
        put_varint(length, &mut self.data);
        put_front(from, length, &mut self.data);
    }

    pub(super) fn push_missing(&mut self) {
        self.push(b"");
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
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
        self.data.truncate(end);
        self.starts.truncate(rows.div_ceil(STRIDE));
        self.rows = rows;
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
        self.data.clear();
        self.rows = 0;
        self.last = None;
        self.starts.clear();
    }

    pub(super) fn encode(&self, sink: Sink<'_>) {
        sink(&self.data);
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
                assert_eq!((strings.rows, &strings.data), (rows, &filled(rows).data), "{rows} {more}");
                strings.push(text(rows).as_bytes());
                strings.push(text(rows + 1).as_bytes());
                assert_eq!((&strings.data, &strings.starts), (&filled(rows + 2).data, &filled(rows + 2).starts));
            }
        }
    }
}
