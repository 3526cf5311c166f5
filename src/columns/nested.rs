//! `Array(T)` and `Map(String, T)`: cumulative end offsets (`u64` a row), then the items of all rows; of a Map all keys,
//! then all values. `JSON` as text: `u64 1` once a block, then strings.

use std::ops::Range;

use super::{Cells, Sink, Strings, of_width};

/// Where each row's items end.
#[derive(Debug, Default)]
struct Offsets {
    data: Vec<u8>,
}

impl Offsets {
    fn push(&mut self, end: usize) {
        self.data.extend((end as u64).to_le_bytes());
    }

    fn rows(&self) -> usize {
        self.data.len() / 8
    }

    /// How many items the first `rows` have.
    fn items_of(&self, rows: usize) -> usize {
        let end = rows.checked_sub(1).and_then(|last| self.data.get(last * 8..)?.first_chunk());
        end.map_or(0, |end| u64::from_le_bytes(*end) as usize)
    }

    /// Writes those of some rows, counted from the first of these; the items they have.
    fn encode(&self, rows: Range<usize>, sink: Sink<'_>) -> Range<usize> {
        let items = self.items_of(rows.start)..self.items_of(rows.end);
        let data = of_width(&self.data, 8, rows);
        if items.start == 0 {
            sink(data);
        } else {
            let ends: &[[u8; 8]] = data.as_chunks().0;
            ends.iter().for_each(|end| sink(&(u64::from_le_bytes(*end) - items.start as u64).to_le_bytes()));
        }
        items
    }

    /// Keeps so many rows; how many items they have.
    fn truncate(&mut self, rows: usize) -> usize {
        self.data.truncate(rows * 8);
        self.items_of(rows)
    }
}

/// `Array(T)`.
#[derive(Debug)]
pub struct Arrays {
    offsets: Offsets,
    items: Box<Cells>,
}

impl Arrays {
    pub(super) fn new(items: Cells) -> Self {
        Self { offsets: Offsets::default(), items: Box::new(items) }
    }

    /// Appends a row, whose items `fill` appends. After a failure the column is as before.
    pub fn push<E>(&mut self, fill: impl FnOnce(&mut Cells) -> Result<(), E>) -> Result<(), E> {
        let before = self.items.len();
        let filled = fill(&mut self.items);
        match filled {
            Ok(()) => self.offsets.push(self.items.len()),
            Err(_) => self.items.truncate(before),
        }
        filled
    }

    pub(super) fn push_missing(&mut self) {
        self.offsets.push(self.items.len());
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.rows()
    }

    pub(super) fn bytes(&self) -> usize {
        self.offsets.data.len() + self.items.bytes()
    }

    pub(super) fn room(&self) -> usize {
        self.offsets.data.capacity() + self.items.room()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        let items = self.offsets.truncate(rows);
        self.items.truncate(items);
    }

    pub(super) fn clear(&mut self) {
        self.truncate(0);
        self.items.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        let items = self.offsets.encode(rows, sink);
        self.items.encode(items, sink);
    }
}

/// `Map(String, T)`.
#[derive(Debug)]
pub struct Maps {
    offsets: Offsets,
    keys: Strings,
    values: Box<Cells>,
}

impl Maps {
    pub(super) fn new(values: Cells) -> Self {
        Self { offsets: Offsets::default(), keys: Strings::default(), values: Box::new(values) }
    }

    /// Appends a row, whose keys and values, as many of each, `fill` appends. After a failure the column is as before.
    pub fn push<E>(&mut self, fill: impl FnOnce(&mut Strings, &mut Cells) -> Result<(), E>) -> Result<(), E> {
        let before = self.offsets.rows();
        let filled = fill(&mut self.keys, &mut self.values);
        match filled {
            Ok(()) => self.offsets.push(self.values.len()),
            Err(_) => self.truncate(before),
        }
        filled
    }

    pub(super) fn push_missing(&mut self) {
        self.offsets.push(self.values.len());
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.rows()
    }

    pub(super) fn bytes(&self) -> usize {
        self.offsets.data.len() + self.keys.bytes() + self.values.bytes()
    }

    pub(super) fn room(&self) -> usize {
        self.offsets.data.capacity() + self.keys.room() + self.values.room()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        let items = self.offsets.truncate(rows);
        self.keys.truncate(items);
        self.values.truncate(items);
    }

    pub(super) fn clear(&mut self) {
        self.offsets.truncate(0);
        self.keys.clear();
        self.values.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        let items = self.offsets.encode(rows, sink);
        self.keys.encode(items.clone(), sink);
        self.values.encode(items, sink);
    }
}

/// `JSON`, as the texts of objects.
#[derive(Debug, Default)]
pub struct Jsons {
    texts: Strings,
}

impl Jsons {
    /// Appends the text of an object, which the caller has made sure it is.
    pub fn push(&mut self, text: &[u8]) {
        self.texts.push(text);
    }

    pub(super) fn push_missing(&mut self) {
        // An empty text is an error to the server.
        self.texts.push(b"{}");
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.texts.bytes()
    }

    pub(super) fn room(&self) -> usize {
        self.texts.room()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.texts.truncate(rows);
    }

    pub(super) fn clear(&mut self) {
        self.texts.clear();
    }

    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        sink(&1_u64.to_le_bytes());
        self.texts.encode(rows, sink);
    }
}
