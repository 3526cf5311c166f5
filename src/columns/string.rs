//! `String`: per row a LEB128 length and the bytes.

use super::{Sink, put_varint};

/// Strings in wire form.
#[derive(Debug, Default)]
pub struct Strings {
    data: Vec<u8>,
    rows: usize,
    /// Where the last row starts.
    last: usize,
}

impl Strings {
    /// Appends a string; any bytes are allowed.
    pub fn push(&mut self, text: &[u8]) {
        self.last = self.data.len();
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

    pub(super) fn pop(&mut self) {
        self.data.truncate(self.last);
        self.rows = self.rows.saturating_sub(1);
    }

    pub(super) fn clear(&mut self) {
        self.data.clear();
        self.rows = 0;
        self.last = 0;
    }

    pub(super) fn encode(&self, sink: Sink<'_>) {
        sink(&self.data);
    }
}
