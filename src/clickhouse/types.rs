//! Parser of ClickHouse's type names, as system.columns spells them, into the closed set of types this program fills.
//!
//! Grammar: `Name`, `Name(argument, …)`; an argument is a type, a number, or a string in single quotes with backslash
//! escapes; Enum members are `'name' = number`. White space counts nowhere outside strings (DESCRIBE breaks lines).
//! Source: <https://clickhouse.com/docs/sql-reference/data-types>.

use std::sync::Arc;

use thiserror::Error;

/// A column type that events can fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataType {
    /// `String`.
    String,
    /// `FixedString(N)`: N bytes.
    FixedString(usize),
    /// `LowCardinality(String)`, which goes over the wire as a dictionary. Other types inside LowCardinality parse as
    /// the inner type: the server takes its plain form.
    LowCardinality,
    /// `Nullable(T)`, never around itself. `LowCardinality(Nullable(T))` parses as a Nullable around the
    /// LowCardinality.
    Nullable(Box<Self>),
    /// `Bool`.
    Bool,
    /// `Int8` … `UInt64`.
    Integer(Integer),
    /// `Float32`.
    Float32,
    /// `Float64`.
    Float64,
    /// `UUID`.
    Uuid,
    /// `Date`: UInt16 days since 1970-01-01.
    Date,
    /// `Date32`: Int32 days since 1970-01-01.
    Date32,
    /// `DateTime`: UInt32 seconds since 1970-01-01 UTC, whatever zone it is shown in.
    DateTime,
    /// `DateTime64(p)`: Int64 ticks of 10^-p s, p ≤ 9.
    DateTime64(u8),
    /// `Enum8`: Int8 values.
    Enum8(Arc<EnumMembers>),
    /// `Enum16`: Int16 values.
    Enum16(Arc<EnumMembers>),
    /// `IPv4`.
    Ipv4,
    /// `IPv6`.
    Ipv6,
}

/// The integer types of up to eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer {
    /// Two's complement instead of unsigned.
    pub signed: bool,
    /// 1, 2, 4 or 8.
    pub width: usize,
}

/// The names and values of an Enum. At least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumMembers {
    /// Sorted by name.
    by_name: Vec<(Box<str>, i16)>,
    lowest: i16,
}

impl EnumMembers {
    /// The value of a name.
    pub fn value(&self, name: &str) -> Option<i16> {
        let at = self.by_name.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.by_name.get(at).map(|(_, value)| *value)
    }

    /// Whether a number is the value of a member.
    pub fn has(&self, value: i16) -> bool {
        self.by_name.iter().any(|(_, known)| *known == value)
    }

    /// The least value: what the server takes for the type's default.
    pub fn lowest(&self) -> i16 {
        self.lowest
    }
}

/// Why a type name cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TypeError {
    /// A type that this program does not fill.
    #[error("the type {0} is not supported")]
    Unsupported(String),
    /// Not a type name, or one with arguments this program does not know.
    #[error("cannot read the type name at byte {at}: expected {expected}")]
    Malformed {
        /// Byte offset in the name.
        at: usize,
        /// What would have fitted.
        expected: &'static str,
    },
}

impl DataType {
    /// Parses a type name.
    pub fn parse(name: &str) -> Result<Self, TypeError> {
        let mut parser = Parser { text: name, at: 0 };
        let parsed = parser.data_type(0)?;
        parser.space();
        if parser.at < name.len() {
            return Err(parser.expected("the end"));
        }
        Ok(parsed)
    }

    /// The type inside Nullable, or the type itself.
    pub fn bare(&self) -> &Self {
        match self {
            Self::Nullable(inner) => inner.bare(),
            other => other,
        }
    }

    /// Whether NULL is a value of the type.
    pub fn is_nullable(&self) -> bool {
        matches!(self, Self::Nullable(_))
    }
}

/// How deep types may nest; the server's own limit lies far above any real table.
const MAX_DEPTH: usize = 16;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn data_type(&mut self, depth: usize) -> Result<DataType, TypeError> {
        if depth > MAX_DEPTH {
            return Err(self.expected("fewer nested types"));
        }
        let start = self.at;
        let name = self.word()?;
        let integer = |signed, width| DataType::Integer(Integer { signed, width });
        Ok(match name.as_str() {
            "String" => DataType::String,
            "Bool" => DataType::Bool,
            "Int8" => integer(true, 1),
            "Int16" => integer(true, 2),
            "Int32" => integer(true, 4),
            "Int64" => integer(true, 8),
            "UInt8" => integer(false, 1),
            "UInt16" => integer(false, 2),
            "UInt32" => integer(false, 4),
            "UInt64" => integer(false, 8),
            "Float32" => DataType::Float32,
            "Float64" => DataType::Float64,
            "UUID" => DataType::Uuid,
            "Date" => DataType::Date,
            "Date32" => DataType::Date32,
            "IPv4" => DataType::Ipv4,
            "IPv6" => DataType::Ipv6,
            "FixedString" => {
                self.token('(', "(")?;
                let at = self.at;
                let length = usize::try_from(self.number()?).ok().filter(|length| (1..=0xFF_FFFF).contains(length));
                self.token(')', ")")?;
                DataType::FixedString(length.ok_or(TypeError::Malformed { at, expected: "a length" })?)
            }
            "DateTime" => {
                if self.try_token('(') {
                    self.string()?;
                    self.token(')', ")")?;
                }
                DataType::DateTime
            }
            "DateTime64" => {
                self.token('(', "(")?;
                let at = self.at;
                let precision = u8::try_from(self.number()?).ok().filter(|precision| *precision <= 9);
                if self.try_token(',') {
                    self.string()?;
                }
                self.token(')', ")")?;
                DataType::DateTime64(precision.ok_or(TypeError::Malformed { at, expected: "0 to 9" })?)
            }
            "Enum8" => DataType::Enum8(self.members(i16::from(i8::MIN), i16::from(i8::MAX))?),
            "Enum16" => DataType::Enum16(self.members(i16::MIN, i16::MAX)?),
            "Nullable" => match self.argument(depth)? {
                DataType::Nullable(_) => return Err(self.expected("a type that is not Nullable already")),
                inner => DataType::Nullable(Box::new(inner)),
            },
            "LowCardinality" => match self.argument(depth)? {
                DataType::String => DataType::LowCardinality,
                DataType::Nullable(inner) if *inner == DataType::String => {
                    DataType::Nullable(Box::new(DataType::LowCardinality))
                }
                other => other,
            },
            _ => {
                let arguments = if self.peek() == Some('(') { "(…)" } else { "" };
                let name = self.text.get(start..self.at).map_or("", str::trim);
                return Err(TypeError::Unsupported(format!("{name}{arguments}")));
            }
        })
    }

    fn argument(&mut self, depth: usize) -> Result<DataType, TypeError> {
        self.token('(', "(")?;
        let inner = self.data_type(depth + 1)?;
        self.token(')', ")")?;
        Ok(inner)
    }

    fn members(&mut self, least: i16, most: i16) -> Result<Arc<EnumMembers>, TypeError> {
        let mut by_name = Vec::new();
        self.token('(', "(")?;
        loop {
            let name = self.string()?;
            self.token('=', "=")?;
            let at = self.at;
            let value = i16::try_from(self.number()?).ok().filter(|value| (least..=most).contains(value));
            let value = value.ok_or(TypeError::Malformed { at, expected: "a value the Enum can hold" })?;
            by_name.push((name.into_boxed_str(), value));
            if !self.try_token(',') {
                break;
            }
        }
        self.token(')', ")")?;
        by_name.sort_unstable();
        let lowest = by_name.iter().map(|(_, value)| *value).min().unwrap_or(0);
        Ok(Arc::new(EnumMembers { by_name, lowest }))
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn peek(&mut self) -> Option<char> {
        self.space();
        self.rest().chars().next()
    }

    fn try_token(&mut self, token: char) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.at += token.len_utf8();
        }
        found
    }

    fn token(&mut self, token: char, expected: &'static str) -> Result<(), TypeError> {
        if self.try_token(token) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn taken(&mut self, belongs: impl Fn(char) -> bool) -> String {
        self.space();
        let word: String = self.rest().chars().take_while(|c| belongs(*c)).collect();
        self.at += word.len();
        word
    }

    fn word(&mut self) -> Result<String, TypeError> {
        let word = self.taken(|c| c.is_ascii_alphanumeric() || c == '_');
        if word.is_empty() { Err(self.expected("a type name")) } else { Ok(word) }
    }

    fn number(&mut self) -> Result<i64, TypeError> {
        let at = self.at;
        let digits = self.taken(|c| c.is_ascii_digit() || c == '-');
        digits.parse().map_err(|_| TypeError::Malformed { at, expected: "a number" })
    }

    fn string(&mut self) -> Result<String, TypeError> {
        self.token('\'', "a string in quotes")?;
        let mut out = String::new();
        let mut chars = self.text.get(self.at..).unwrap_or("").char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => {
                    self.at += at + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, 'b')) => out.push('\u{8}'),
                    Some((_, 'f')) => out.push('\u{c}'),
                    Some((_, '0')) => out.push('\0'),
                    Some((_, other)) => out.push(other),
                    None => break,
                },
                other => out.push(other),
            }
        }
        Err(self.expected("a closing quote"))
    }

    fn expected(&self, expected: &'static str) -> TypeError {
        TypeError::Malformed { at: self.at, expected }
    }
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
