//! Why an event cannot become a row.

use std::fmt;

use thiserror::Error;

/// An event that cannot become a row. It goes to the dead letters, and its offset counts as consumed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{class}{}: {reason}", column.as_deref().map(|name| format!(" in {name}")).unwrap_or_default())]
pub struct Reject {
    /// The kind of fault.
    pub class: Class,
    /// The column whose value does not fit.
    pub column: Option<String>,
    /// The fault in words.
    pub reason: String,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Not UTF-8.
    InvalidUtf8,
    /// Not JSON.
    InvalidJson,
    /// JSON, but no object.
    NotAnObject,
    /// Nested deeper than 64.
    TooDeep,
    /// An object of which no key is a column, apart from those that always get a value.
    NoColumn,
    /// A value that its column cannot take without loss.
    InvalidValue,
    /// A number, a time or a text beyond what its column can hold.
    OutOfRange,
}

impl Class {
    /// All of them, for counters that exist before the first event.
    pub const ALL: [Self; 7] = [
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::NotAnObject,
        Self::TooDeep,
        Self::NoColumn,
        Self::InvalidValue,
        Self::OutOfRange,
    ];

    /// The class in one word, for headers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::NoColumn => "no_column",
            Self::InvalidValue => "invalid_value",
            Self::OutOfRange => "out_of_range",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) class: Class,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self { class: Class::InvalidValue, reason: reason.into() }
    }

    pub(super) fn range(reason: impl Into<String>) -> Self {
        Self { class: Class::OutOfRange, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_among_all() {
        let number = |class: Class| match class {
            Class::InvalidUtf8 => 0,
            Class::InvalidJson => 1,
            Class::NotAnObject => 2,
            Class::TooDeep => 3,
            Class::NoColumn => 4,
            Class::InvalidValue => 5,
            // A new last one makes `ALL` as long as its number and one.
            Class::OutOfRange => 6,
        };
        assert!(Class::ALL.iter().enumerate().all(|(at, class)| number(*class) == at));
        assert_eq!(Class::ALL.len(), number(Class::OutOfRange) + 1);
    }
}
