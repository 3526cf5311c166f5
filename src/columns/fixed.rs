//! Columns whose values have one width.

use std::ops::Range;

use thiserror::Error;

use super::{Sink, of_width};
use crate::clickhouse::types::Integer;

/// Values of `W` bytes, one after another.
#[derive(Debug, Default)]
pub struct Fixed<const W: usize> {
    data: Vec<u8>,
}

impl<const W: usize> Fixed<W> {
    /// Appends a value in wire order.
    pub fn push(&mut self, value: [u8; W]) {
        self.data.extend_from_slice(&value);
    }

    /// Replaces the value of a row, if there is such a row.
    pub fn set(&mut self, row: usize, value: [u8; W]) {
        if let Some(place) = self.data.get_mut(row * W..(row + 1) * W) {
            place.copy_from_slice(&value);
        }
    }

    pub(super) fn push_missing(&mut self) {
        self.push([0; W]);
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() / W
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn room(&self) -> usize {
        self.data.capacity()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows * W);
    }

    pub(super) fn clear(&mut self) {
        self.data.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        sink(of_width(&self.data, W, rows));
    }
}

/// A number that the column's type cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("out of the range {least} to {most}")]
pub struct OutOfRange {
    /// The least that fits.
    pub least: i128,
    /// The most.
    pub most: i128,
}

/// Integers of one to eight bytes.
#[derive(Debug)]
pub struct Integers {
    width: usize,
    range: OutOfRange,
    data: Vec<u8>,
}

impl Integers {
    pub(super) fn new(kind: Integer) -> Self {
        let bits = kind.width * 8;
        let range = if kind.signed {
            OutOfRange { least: -(1 << (bits - 1)), most: (1 << (bits - 1)) - 1 }
        } else {
            OutOfRange { least: 0, most: (1 << bits) - 1 }
        };
        Self { width: kind.width, range, data: Vec::new() }
    }

    /// Appends a number, or says why it cannot: the server would wrap it silently.
    pub fn push(&mut self, number: i128) -> Result<(), OutOfRange> {
        if number < self.range.least || number > self.range.most {
            return Err(self.range);
        }
        // All of a width at once, and what is too much of it cut off: that needs no loop.
        let end = self.data.len() + self.width;
        self.data.extend_from_slice(&(number as i64).to_le_bytes());
        self.data.truncate(end);
        Ok(())
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn push_missing(&mut self) {
        self.data.resize(self.data.len() + self.width, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() / self.width
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn room(&self) -> usize {
        self.data.capacity()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows * self.width);
    }

    pub(super) fn clear(&mut self) {
        self.data.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        sink(of_width(&self.data, self.width, rows));
    }
}

/// A text longer than the column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{length} bytes in a FixedString({width})")]
pub struct TooLong {
    /// The text's length in bytes.
    pub length: usize,
    /// What fits.
    pub width: usize,
}

/// `FixedString(N)`: N bytes a row, padded with NUL.
#[derive(Debug)]
pub struct FixedStrings {
    width: usize,
    data: Vec<u8>,
}

impl FixedStrings {
    pub(super) fn new(width: usize) -> Self {
        Self { width: width.max(1), data: Vec::new() }
    }

    /// Appends a text, if it fits.
    pub fn push(&mut self, text: &[u8]) -> Result<(), TooLong> {
        if text.len() > self.width {
            return Err(TooLong { length: text.len(), width: self.width });
        }
        let end = self.data.len() + self.width;
        self.data.extend_from_slice(text);
        self.data.resize(end, 0);
        Ok(())
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn push_missing(&mut self) {
        self.data.resize(self.data.len() + self.width, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() / self.width
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn room(&self) -> usize {
        self.data.capacity()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows * self.width);
    }

    pub(super) fn clear(&mut self) {
        self.data.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        sink(of_width(&self.data, self.width, rows));
    }
}
