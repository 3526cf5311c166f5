//! Columns of one open batch, each in the wire form of ClickHouse's Native format, so that encoding is one copy.
//!
//! Layout per type: <https://clickhouse.com/docs/interfaces/formats/Native> and the server's `SerializationX.cpp`; all
//! integers little-endian. Rows can be taken back ([`Column::truncate`]): that is how an event that turns out bad half-way
//! is undone, and how the last of two equal JSON keys wins.

mod cells;
mod decimal;
mod fixed;
mod low_cardinality;
mod nested;
mod string;

use std::ops::Range;
use std::sync::Arc;

pub use cells::{Cells, Missing, Nulls};
pub use decimal::{DecimalFault, Decimals, whole};
pub use fixed::{Fixed, FixedStrings, Integers, OutOfRange, TooLong};
pub use low_cardinality::LowCardinality;
pub use nested::{Arrays, Jsons, Maps};
pub use string::Strings;

use self::decimal::Limit;
use crate::clickhouse::types::{DataType, EnumMembers};

/// Takes encoded bytes, piece by piece.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// The values of one column. NULLs are kept beside it, in [`Cells`].
#[derive(Debug)]
// With a tag of its own: telling the kinds apart is done for every value.
#[repr(u8)]
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
    /// `Decimal(P, S)` and integers of more than eight bytes.
    Decimal(Decimals),
    /// `Array(T)`.
    Array(Arrays),
    /// `Map(String, T)`.
    Map(Maps),
    /// `JSON`.
    Json(Jsons),
}

/// The same call on whatever a variant holds.
macro_rules! each {
    ($column:expr, $inner:ident => $call:expr) => {
        match $column {
            Column::String($inner) => $call,
            Column::LowCardinality($inner) => $call,
            Column::FixedString($inner) => $call,
            Column::Integer($inner) => $call,
            Column::Decimal($inner) => $call,
            Column::Array($inner) => $call,
            Column::Map($inner) => $call,
            Column::Json($inner) => $call,
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
            DataType::Integer(kind) if kind.width <= 8 => Self::Integer(Integers::new(*kind)),
            DataType::Integer(kind) => {
                let limit = if kind.signed { Limit::Signed } else { Limit::Unsigned };
                Self::Decimal(Decimals::new(kind.width, 0, limit))
            }
            DataType::Decimal { precision, scale } => {
                let width = match precision {
                    ..=9 => 4,
                    ..=18 => 8,
                    ..=38 => 16,
                    _ => 32,
                };
                Self::Decimal(Decimals::new(width, *scale, Limit::Digits(*precision)))
            }
            DataType::Array(inner) => Self::Array(Arrays::new(Cells::item(inner))),
            DataType::Map(inner) => Self::Map(Maps::new(Cells::item(inner))),
            DataType::Json => Self::Json(Jsons::default()),
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

    /// Bytes set aside for rows, those that are held among them.
    pub fn room(&self) -> usize {
        each!(self, inner => inner.room())
    }

    /// Bytes that a row takes at least, whatever its value.
    pub fn width(&self) -> usize {
        match self {
            Self::Bool(_) | Self::Enum8 { .. } | Self::String(_) | Self::Json(_) => 1,
            Self::Date(_) | Self::Enum16 { .. } | Self::LowCardinality(_) => 2,
            Self::Float32(_) | Self::Date32(_) | Self::DateTime(_) | Self::Ipv4(_) => 4,
            Self::Float64(_) | Self::DateTime64 { .. } | Self::Array(_) | Self::Map(_) => 8,
            Self::Uuid(_) | Self::Ipv6(_) => 16,
            Self::FixedString(strings) => strings.width(),
            Self::Integer(numbers) => numbers.width(),
            Self::Decimal(numbers) => numbers.width(),
        }
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

    /// Keeps the first `rows` only.
    pub fn truncate(&mut self, rows: usize) {
        each!(self, inner => inner.truncate(rows));
    }

    /// Holds texts, and takes the JSON text of whatever is none.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::String(_) | Self::LowCardinality(_) | Self::FixedString(_))
    }

    /// Values must come as the JSON text that the event has: their digits or their parts are read from it.
    pub fn reads_json_text(&self) -> bool {
        matches!(self, Self::Decimal(_) | Self::Array(_) | Self::Map(_) | Self::Json(_))
    }

    /// The type can be wrapped in Nullable.
    pub fn takes_nulls(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Map(_) | Self::Json(_))
    }

    /// Removes all rows, keeps the room.
    pub fn clear(&mut self) {
        each!(self, inner => inner.clear());
    }

    /// Writes some rows as Native has them. Nothing at all without rows. `nulls` says which rows are NULL and makes it the
    /// Nullable form of the type.
    pub fn encode(&self, nulls: Option<&Nulls>, rows: Range<usize>, sink: Sink<'_>) {
        if rows.is_empty() {
            return;
        }
        if let (Some(nulls), false) = (nulls, self.is_dictionary(&rows)) {
            nulls.encode(rows.clone(), sink);
        }
        each!(self, inner => inner.encode(rows, sink));
    }

    /// Rows go as a dictionary, whose index 0 is its NULL.
    fn is_dictionary(&self, rows: &Range<usize>) -> bool {
        matches!(self, Self::LowCardinality(column) if column.is_dictionary() && *rows == (0..column.len()))
    }
}

/// Rows of a column whose values have `width` bytes each.
fn of_width(data: &[u8], width: usize, rows: Range<usize>) -> &[u8] {
    data.get(rows.start * width..rows.end * width).unwrap_or(&[])
}

/// Appends a number as LEB128, Native's length prefix.
#[inline]
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
