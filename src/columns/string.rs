//! `String`: per row a LEB128 length and the bytes.

use super::{Sink, put_varint};

/// Strings in wire form.
#[derive(Debug, Default)]
pub struct Strings {
    data: Vec<u8>,
    rows: usize,
    /// Where the last row starts, unless it became the last by losing others.
    last: Option<usize>,
}

impl Strings {
    /// Appends a string; any bytes are allowed.
    pub fn push(&mut self, text: &[u8]) {
        self.last = Some(self.data.len());
        self.rows += 1;
        put_varint(text.len(), &mut self.data);
        self.data.extend_from_slice(text);
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
        self.rows = rows;
    }

    fn start_of(&self, row: usize) -> usize {
        let mut at = 0;
        for _ in 0..row {
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
    }

    pub(super) fn encode(&self, sink: Sink<'_>) {
        sink(&self.data);
    }
}
