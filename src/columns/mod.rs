//! Columns of one open batch, each in the wire form of ClickHouse's Native format, so that encoding is one copy.
//!
//! Layout per type: <https://clickhouse.com/docs/interfaces/formats/Native> and the server's `SerializationX.cpp`; all
//! integers little-endian. A column only ever loses its last row ([`Column::pop`]): that is how an event that turns out
//! bad half-way is undone, and how the last of two equal JSON keys wins.

mod cells;
mod fixed;
mod low_cardinality;
mod string;

use std::sync::Arc;

pub use cells::{Cells, Missing};
pub use fixed::{Fixed, FixedStrings, Integers, OutOfRange, TooLong};
pub use low_cardinality::LowCardinality;
pub use string::Strings;

use crate::clickhouse::types::{DataType, EnumMembers};

/// Takes encoded bytes, piece by piece.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// The values of one column. NULLs are kept beside it, in [`Cells`].
#[derive(Debug)]
pub enum Column {
    /// `String`.
    String(Strings),
    /// `LowCardinality(String)`.
    LowCardinality(LowCardinality),
    /// `FixedString(N)`.
    FixedString(FixedStrings),
    /// `Bool`: 0 or 1.
    Bool(Fixed<1>),
    /// `Int8` … `UInt64`.
    Integer(Integers),
    /// `Float32`.
    Float32(Fixed<4>),
    /// `Float64`.
    Float64(Fixed<8>),
    /// `UUID`: each half reversed.
    Uuid(Fixed<16>),
    /// `Date`: days.
    Date(Fixed<2>),
    /// `Date32`: days.
    Date32(Fixed<4>),
    /// `DateTime`: seconds.
    DateTime(Fixed<4>),
    /// `DateTime64(p)`: ticks of 10^-p s.
    DateTime64 {
        /// Digits after the second, 0 to 9.
        precision: u8,
        /// Int64 ticks.
        ticks: Fixed<8>,
    },
    /// `Enum8`. The server does not check the numbers: only values of members may go in.
    Enum8 {
        /// Names and values.
        members: Arc<EnumMembers>,
        /// Int8 values.
        values: Fixed<1>,
    },
    /// `Enum16`, likewise.
    Enum16 {
        /// Names and values.
        members: Arc<EnumMembers>,
        /// Int16 values.
        values: Fixed<2>,
    },
    /// `IPv4`: UInt32.
    Ipv4(Fixed<4>),
    /// `IPv6`: 16 bytes in network order.
    Ipv6(Fixed<16>),
}

/// The same call on whatever a variant holds.
macro_rules! each {
    ($column:expr, $inner:ident => $call:expr) => {
        match $column {
            Column::String($inner) => $call,
            Column::LowCardinality($inner) => $call,
            Column::FixedString($inner) => $call,
            Column::Integer($inner) => $call,
            Column::Bool($inner) | Column::Enum8 { values: $inner, .. } => $call,
            Column::Date($inner) | Column::Enum16 { values: $inner, .. } => $call,
            Column::Float32($inner) | Column::Date32($inner) | Column::DateTime($inner) | Column::Ipv4($inner) => $call,
            Column::Float64($inner) | Column::DateTime64 { ticks: $inner, .. } => $call,
            Column::Uuid($inner) | Column::Ipv6($inner) => $call,
        }
    };
}

impl Column {
    /// An empty column for the values of a type; of a Nullable, those of the type inside.
    pub fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Nullable(inner) => Self::new(inner),
            DataType::String => Self::String(Strings::default()),
            DataType::LowCardinality => Self::LowCardinality(LowCardinality::default()),
            DataType::FixedString(width) => Self::FixedString(FixedStrings::new(*width)),
            DataType::Bool => Self::Bool(Fixed::default()),
            DataType::Integer(kind) => Self::Integer(Integers::new(*kind)),
            DataType::Float32 => Self::Float32(Fixed::default()),
            DataType::Float64 => Self::Float64(Fixed::default()),
            DataType::Uuid => Self::Uuid(Fixed::default()),
            DataType::Date => Self::Date(Fixed::default()),
            DataType::Date32 => Self::Date32(Fixed::default()),
            DataType::DateTime => Self::DateTime(Fixed::default()),
            DataType::DateTime64(precision) => Self::DateTime64 { precision: *precision, ticks: Fixed::default() },
            DataType::Enum8(members) => Self::Enum8 { members: Arc::clone(members), values: Fixed::default() },
            DataType::Enum16(members) => Self::Enum16 { members: Arc::clone(members), values: Fixed::default() },
            DataType::Ipv4 => Self::Ipv4(Fixed::default()),
            DataType::Ipv6 => Self::Ipv6(Fixed::default()),
        }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        each!(self, inner => inner.len())
    }

    /// No rows held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes the rows take.
    pub fn bytes(&self) -> usize {
        each!(self, inner => inner.bytes())
    }

    /// Appends what stands where there is no value: what the server itself takes for the type's default, so that the
    /// row can be read even where nothing marks it as NULL.
    pub fn push_missing(&mut self) {
        match self {
            // Raw 0 need not be a member, and a row with it could not be read any more.
            Self::Enum8 { members, values } => {
                let [low, _] = members.lowest().to_le_bytes();
                values.push([low]);
            }
            Self::Enum16 { members, values } => values.push(members.lowest().to_le_bytes()),
            other => each!(other, inner => inner.push_missing()),
        }
    }

    /// Takes the last row back. At most once after each append.
    pub fn pop(&mut self) {
        each!(self, inner => inner.pop());
    }

    /// Removes all rows, keeps the room.
    pub fn clear(&mut self) {
        each!(self, inner => inner.clear());
    }

    /// Writes the column's data as Native has it. Nothing at all without rows. `nulls` holds one byte a row (1 = NULL)
    /// and makes it the Nullable form of the type.
    pub fn encode(&self, nulls: Option<&[u8]>, sink: Sink<'_>) {
        if self.is_empty() {
            return;
        }
        if let (Some(nulls), false) = (nulls, self.marks_nulls_itself()) {
            sink(nulls);
        }
        each!(self, inner => inner.encode(sink));
    }

    /// A dictionary's index 0 is its NULL.
    fn marks_nulls_itself(&self) -> bool {
        matches!(self, Self::LowCardinality(column) if column.is_dictionary())
    }
}

/// Appends a number as LEB128, Native's length prefix.
pub(crate) fn put_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
#[path = "golden_tests.rs"]
mod tests;
