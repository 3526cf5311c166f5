//! A column together with which of its rows lack a value, and what the server is told about those.

use super::{Column, Sink};
use crate::clickhouse::types::DataType;

/// What a row without a value gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// NULL: the table's column is Nullable. With `has_default`, a batch in which no row has a value leaves the column
    /// out, so that the DEFAULT applies.
    Null {
        /// The table's column has a DEFAULT.
        has_default: bool,
    },
    /// The column's DEFAULT: left out of a batch in which no row has a value; declared Nullable where some have none
    /// (the server turns each NULL into the DEFAULT).
    Default,
    /// The zero of the type.
    Zero,
}

/// The cells of one table column in the open batch.
#[derive(Debug)]
pub struct Cells {
    column: Column,
    missing: Missing,
    /// One byte a row: 1 = no value.
    nulls: Vec<u8>,
    lacking: usize,
}

impl Cells {
    /// No rows yet.
    pub fn new(data_type: &DataType, missing: Missing) -> Self {
        Self { column: Column::new(data_type), missing, nulls: Vec::new(), lacking: 0 }
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
        if filled {
            self.nulls.push(0);
        }
        Ok(filled)
    }

    /// Appends the first `length` bytes of `from` to a column of strings; false and nothing for any other.
    #[inline(always)]
    pub fn push_text(&mut self, from: &[u8], length: usize) -> bool {
        match &mut self.column {
            Column::String(strings) => strings.push_front(from, length),
            Column::LowCardinality(strings) => strings.push(from.get(..length).unwrap_or(from)),
            _ => return false,
        }
        self.nulls.push(0);
        true
    }

    /// Appends a row without a value.
    pub fn push_missing(&mut self) {
        self.column.push_missing();
        self.nulls.push(1);
        self.lacking += 1;
    }

    /// Drops whatever lies beyond the first `rows`.
    pub fn truncate(&mut self, rows: usize) {
        if let Some(dropped) = self.nulls.get(rows..).filter(|dropped| !dropped.is_empty()) {
            self.lacking -= dropped.iter().filter(|null| **null == 1).count();
            self.nulls.truncate(rows);
            self.column.truncate(rows);
        }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.nulls.len()
    }

    /// No rows held.
    pub fn is_empty(&self) -> bool {
        self.nulls.is_empty()
    }

    /// Bytes the rows take.
    pub fn bytes(&self) -> usize {
        self.column.bytes() + self.nulls.len()
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
        self.nulls.clear();
        self.lacking = 0;
    }

    /// Whether the insert names the column at all.
    pub fn is_sent(&self) -> bool {
        let filled = self.lacking < self.nulls.len();
        match self.missing {
            Missing::Zero | Missing::Null { has_default: false } => true,
            Missing::Default | Missing::Null { has_default: true } => filled,
        }
    }

    /// Whether rows can ask for the column's DEFAULT one by one.
    pub fn can_ask_for_default(&self) -> bool {
        self.missing == Missing::Default && self.column.takes_nulls()
    }

    /// The type declared in the block for a table column of type `declared` (for LowCardinality of something other than
    /// String: the type inside).
    pub fn wire_type(&self, declared: &str) -> String {
        let nulls = self.sends_nulls();
        match &self.column {
            Column::LowCardinality(column) => match (column.is_dictionary(), nulls) {
                (true, false) => "LowCardinality(String)".to_owned(),
                (true, true) => "LowCardinality(Nullable(String))".to_owned(),
                (false, false) => "String".to_owned(),
                (false, true) => "Nullable(String)".to_owned(),
            },
            _ if nulls && self.missing == Missing::Default => format!("Nullable({declared})"),
            _ => declared.to_owned(),
        }
    }

    /// Writes the rows, in the form [`Cells::wire_type`] names.
    pub fn encode(&self, sink: Sink<'_>) {
        self.column.encode(self.sends_nulls().then_some(&*self.nulls), sink);
    }

    fn sends_nulls(&self) -> bool {
        match self.missing {
            Missing::Null { .. } => true,
            Missing::Default => self.lacking > 0 && self.column.takes_nulls(),
            Missing::Zero => false,
        }
    }
}
