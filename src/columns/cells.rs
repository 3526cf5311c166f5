//! A column together with which of its rows lack a value, and what the server is told about those.

use std::ops::Range;

use super::{Column, Sink};
use crate::clickhouse::types::DataType;

/// What a row without a value gets. The same whatever the other rows of its batch have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// NULL: the table's column is Nullable. With `has_default`, an event without the column's key gets the DEFAULT, and
    /// only one with null under it gets NULL.
    Null {
        /// The table's column has a DEFAULT.
        has_default: bool,
    },
    /// The column's DEFAULT: in a column declared Nullable, whose NULLs the server turns into it.
    Default,
    /// The zero of the type.
    Zero,
}

/// The cells of one table column in the open batch.
#[derive(Debug)]
pub struct Cells {
    column: Column,
    missing: Missing,
    rows: usize,
    nulls: Nulls,
    lacking: usize,
    /// Rows that get the DEFAULT of a column in which no NULL can ask for it: they go in blocks without the column.
    asks: Nulls,
    asking: usize,
}

/// One byte a row: 1 = no value.
#[derive(Debug, Default)]
pub struct Nulls {
    /// Ends with the last row that has none, because most columns have a value in every row.
    marks: Vec<u8>,
}

impl Nulls {
    fn mark(&mut self, row: usize) {
        self.marks.resize(row, 0);
        self.marks.push(1);
    }

    /// Forgets rows; how many of them had no value.
    fn truncate(&mut self, rows: usize) -> usize {
        let dropped = self.marks.get(rows..).unwrap_or(&[]);
        let lacking = dropped.iter().filter(|mark| **mark == 1).count();
        self.marks.truncate(rows);
        lacking
    }

    fn marks(&self, row: usize) -> bool {
        self.marks.get(row) == Some(&1)
    }

    /// Writes them for some rows.
    pub(super) fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        let marked = rows.start.min(self.marks.len())..rows.end.min(self.marks.len());
        let mut left = rows.len() - marked.len();
        sink(self.marks.get(marked).unwrap_or(&[]));
        while left > 0 {
            let piece = ZEROS.get(..left).unwrap_or(&ZEROS);
            sink(piece);
            left -= piece.len();
        }
    }
}

const ZEROS: [u8; 512] = [0; 512];

impl Cells {
    /// No rows yet.
    pub fn new(data_type: &DataType, missing: Missing) -> Self {
        let (nulls, asks) = Default::default();
        Self { column: Column::new(data_type), missing, rows: 0, nulls, lacking: 0, asks, asking: 0 }
    }

    /// The items of an Array, the values of a Map.
    pub(super) fn item(data_type: &DataType) -> Self {
        let missing = if data_type.is_nullable() { Missing::Null { has_default: false } } else { Missing::Zero };
        Self::new(data_type, missing)
    }

    /// Appends a row by way of `fill`, which either appends exactly one value and says so, or appends none: then there
    /// is no row yet, and the answer is false.
    pub fn push<E>(&mut self, fill: impl FnOnce(&mut Column) -> Result<bool, E>) -> Result<bool, E> {
        let filled = fill(&mut self.column)?;
        self.rows += usize::from(filled);
        Ok(filled)
    }

    /// Appends the first `length` bytes of `from` to a column of strings; false and nothing for any other.
    #[inline(always)]
    pub fn push_text(&mut self, from: &[u8], length: usize) -> bool {
        match &mut self.column {
            Column::String(strings) => strings.push_front(from, length),
            Column::LowCardinality(strings) => strings.push_front(from, length),
            _ => return false,
        }
        self.rows += 1;
        true
    }

    /// Appends a row without a value.
    pub fn push_missing(&mut self) {
        if !self.asks_by_block() {
            return self.push_null();
        }
        self.column.push_missing();
        self.asks.mark(self.rows);
        self.rows += 1;
        self.asking += 1;
    }

    /// Appends a row whose value is null.
    pub fn push_null(&mut self) {
        self.column.push_missing();
        self.nulls.mark(self.rows);
        self.rows += 1;
        self.lacking += 1;
    }

    /// null is a value of the column, not a missing one.
    pub fn stores_null(&self) -> bool {
        self.missing == Missing::Null { has_default: true }
    }

    /// A row gets the column's DEFAULT only by a block that leaves the column out: no NULL can ask for it, because it is
    /// a value of the column, or because the type has none.
    pub fn asks_by_block(&self) -> bool {
        match self.missing {
            Missing::Null { has_default } => has_default,
            Missing::Default => !self.column.takes_nulls(),
            Missing::Zero => false,
        }
    }

    /// Whether a row must go in a block without the column.
    pub fn asks(&self, row: usize) -> bool {
        self.asks.marks(row)
    }

    /// Drops whatever lies beyond the first `rows`.
    pub fn truncate(&mut self, rows: usize) {
        if rows < self.rows {
            self.rows = rows;
            self.lacking -= self.nulls.truncate(rows);
            self.asking -= self.asks.truncate(rows);
            self.column.truncate(rows);
        }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// No rows held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes the rows take.
    pub fn bytes(&self) -> usize {
        let marks = |any: bool| if any { self.rows } else { 0 };
        self.column.bytes() + marks(self.lacking > 0) + marks(self.asking > 0)
    }

    /// Bytes set aside for rows, those that are held among them.
    pub fn room(&self) -> usize {
        self.column.room() + self.nulls.marks.capacity() + self.asks.marks.capacity()
    }

    /// The values.
    pub fn column(&self) -> &Column {
        &self.column
    }

    /// The values, to change them.
    pub fn column_mut(&mut self) -> &mut Column {
        &mut self.column
    }

    /// Removes all rows, keeps the room.
    pub fn clear(&mut self) {
        self.column.clear();
        self.rows = 0;
        self.nulls.marks.clear();
        self.lacking = 0;
        self.asks.marks.clear();
        self.asking = 0;
    }

    /// Whether a block of these rows has the column; of those that ask for its DEFAULT so, all do or none.
    pub fn is_sent(&self, rows: &Range<usize>) -> bool {
        if self.asks_by_block() {
            return !self.asks.marks(rows.start);
        }
        self.missing != Missing::Default || self.lacking < self.rows
    }

    /// Whether rows can ask for the column's DEFAULT one by one.
    pub fn can_ask_for_default(&self) -> bool {
        self.missing == Missing::Default && self.column.takes_nulls()
    }

    /// The type declared in a block of these rows for a table column of type `declared` (for LowCardinality of something other than
    /// String: the type inside).
    pub fn wire_type(&self, declared: &str, rows: &Range<usize>) -> String {
        let nulls = self.sends_nulls();
        match &self.column {
            Column::LowCardinality(_) => match (self.column.is_dictionary(rows), nulls) {
                (true, false) => "LowCardinality(String)".to_owned(),
                (true, true) => "LowCardinality(Nullable(String))".to_owned(),
                (false, false) => "String".to_owned(),
                (false, true) => "Nullable(String)".to_owned(),
            },
            _ if nulls && self.missing == Missing::Default => format!("Nullable({declared})"),
            _ => declared.to_owned(),
        }
    }

    /// Writes rows, in the form [`Cells::wire_type`] names.
    pub fn encode(&self, rows: Range<usize>, sink: Sink<'_>) {
        self.column.encode(self.sends_nulls().then_some(&self.nulls), rows, sink);
    }

    fn sends_nulls(&self) -> bool {
        match self.missing {
            Missing::Null { .. } => true,
            Missing::Default => self.lacking > 0 && self.column.takes_nulls(),
            Missing::Zero => false,
        }
    }
}
