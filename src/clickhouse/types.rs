//! Parser of ClickHouse's type names, as system.columns spells them, into the closed set of types this program fills.
//!
//! Grammar: `Name`, `Name(argument, …)`; an argument is a type, a number, or a string in single quotes with backslash
//! escapes; Enum members are `'name' = number`. White space counts nowhere outside strings (DESCRIBE breaks lines).
//! Source: <https://clickhouse.com/docs/sql-reference/data-types>.

use std::fmt;
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
    /// `Int8` … `UInt256`.
    Integer(Integer),
    /// `Decimal(P, S)`, in any of its spellings.
    Decimal {
        /// Decimal digits in all, 1 to 76.
        precision: usize,
        /// Digits behind the point, at most `precision`.
        scale: usize,
    },
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
    /// `Array(T)`. LowCardinality inside parses as the plain type: the server takes that.
    Array(Box<Self>),
    /// `Map(String, T)`, likewise.
    Map(Box<Self>),
    /// `JSON`, whatever its parameters.
    Json,
}

/// The integer types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integer {
    /// Two's complement instead of unsigned.
    pub signed: bool,
    /// Bytes: 1, 2, 4, 8, 16 or 32.
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

impl DataType {
    /// As the item of an Array or a Map: without the dictionaries, which the server does not ask for.
    fn item(self) -> Result<Self, TypeError> {
        Ok(match self {
            Self::LowCardinality => Self::String,
            Self::Nullable(inner) => Self::Nullable(Box::new(inner.item()?)),
            // Its version prefix would have to come before the offsets.
            Self::Json => return Err(TypeError::Unsupported("JSON inside an Array or a Map".to_owned())),
            other => other,
        })
    }
}

/// The type's name as a block declares it. Time zones, which mean nothing to the bytes, are not kept.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("String"),
            Self::FixedString(width) => write!(f, "FixedString({width})"),
            Self::LowCardinality => f.write_str("LowCardinality(String)"),
            Self::Nullable(inner) => match **inner {
                Self::LowCardinality => f.write_str("LowCardinality(Nullable(String))"),
                _ => write!(f, "Nullable({inner})"),
            },
            Self::Bool => f.write_str("Bool"),
            Self::Integer(Integer { signed, width }) => {
                write!(f, "{}Int{}", if *signed { "" } else { "U" }, width * 8)
            }
            Self::Decimal { precision, scale } => write!(f, "Decimal({precision}, {scale})"),
            Self::Float32 => f.write_str("Float32"),
            Self::Float64 => f.write_str("Float64"),
            Self::Uuid => f.write_str("UUID"),
            Self::Date => f.write_str("Date"),
            Self::Date32 => f.write_str("Date32"),
            Self::DateTime => f.write_str("DateTime"),
            Self::DateTime64(precision) => write!(f, "DateTime64({precision})"),
            Self::Enum8(members) => write!(f, "Enum8({members})"),
            Self::Enum16(members) => write!(f, "Enum16({members})"),
            Self::Ipv4 => f.write_str("IPv4"),
            Self::Ipv6 => f.write_str("IPv6"),
            Self::Array(item) => write!(f, "Array({item})"),
            Self::Map(value) => write!(f, "Map(String, {value})"),
            Self::Json => f.write_str("JSON"),
        }
    }
}

impl fmt::Display for EnumMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.by_name.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}'{}' = {value}", name.replace('\\', "\\\\").replace('\'', "\\'"))?;
        }
        Ok(())
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
            "Int128" => integer(true, 16),
            "Int256" => integer(true, 32),
            "UInt128" => integer(false, 16),
            "UInt256" => integer(false, 32),
            "Decimal" => self.decimal(None)?,
            "Decimal32" => self.decimal(Some(9))?,
            "Decimal64" => self.decimal(Some(18))?,
            "Decimal128" => self.decimal(Some(38))?,
            "Decimal256" => self.decimal(Some(76))?,
            "Array" => DataType::Array(Box::new(self.argument(depth)?.item()?)),
            "Map" => {
                self.token('(', "(")?;
                if !matches!(self.data_type(depth + 1)?, DataType::String | DataType::LowCardinality) {
                    return Err(TypeError::Unsupported("Map with keys that are no String".to_owned()));
                }
                self.token(',', ",")?;
                let values = self.data_type(depth + 1)?.item()?;
                self.token(')', ")")?;
                DataType::Map(Box::new(values))
            }
            "JSON" => {
                self.skip_arguments()?;
                DataType::Json
            }
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
                DataType::Array(_) | DataType::Map(_) | DataType::Json => {
                    return Err(TypeError::Unsupported("Nullable around an Array, a Map or JSON".to_owned()));
                }
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

    fn decimal(&mut self, precision: Option<usize>) -> Result<DataType, TypeError> {
        self.token('(', "(")?;
        let at = self.at;
        let mut number =
            || usize::try_from(self.number()?).map_err(|_| TypeError::Malformed { at, expected: "digits" });
        let (precision, scale) = match precision {
            Some(precision) => (precision, number()?),
            None => {
                let precision = number()?;
                (precision, if self.try_token(',') { usize::try_from(self.number()?).unwrap_or(usize::MAX) } else { 0 })
            }
        };
        self.token(')', ")")?;
        if !(1..=76).contains(&precision) || scale > precision {
            return Err(TypeError::Malformed { at, expected: "1 to 76 digits, no more of them behind the point" });
        }
        Ok(DataType::Decimal { precision, scale })
    }

    /// Passes over arguments in parentheses, if there are any.
    fn skip_arguments(&mut self) -> Result<(), TypeError> {
        let mut level = 0_usize;
        loop {
            match self.peek() {
                Some('(') => level += 1,
                Some(')') if level > 0 => level -= 1,
                Some('\'') if level > 0 => {
                    self.string()?;
                    continue;
                }
                Some(_) if level > 0 => {}
                None if level > 0 => return Err(self.expected(")")),
                _ => return Ok(()),
            }
            let length = self.peek().map_or(0, char::len_utf8);
            self.at += length;
            if level == 0 {
                return Ok(());
            }
        }
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
