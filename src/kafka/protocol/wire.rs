//! The primitive types of the Kafka protocol over plain byte slices: no sockets, no allocation sized by the peer.
//!
//! Source: <https://kafka.apache.org/protocol#protocol_types>; compact types and tagged fields are KIP-482.

use thiserror::Error;

/// Why bytes of a peer could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The message ended before the field did.
    #[error("message ends after {available} of {needed} bytes of {what}")]
    Truncated {
        /// The field's type.
        what: &'static str,
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        available: usize,
    },
    /// A length below zero where none may be.
    #[error("{what} has the length {length}")]
    Length {
        /// The field's type.
        what: &'static str,
        /// What stood there.
        length: i64,
    },
    /// Text that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A variable-length integer with too many bytes.
    #[error("a varint does not end")]
    Varint,
}

/// Reads fields from the front of a message.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! integers {
    ($($name:ident: $type:ty),*) => {$(
        /// A big-endian integer.
        pub fn $name(&mut self) -> Result<$type, WireError> {
            let (head, rest) = self.rest.split_first_chunk::<{ size_of::<$type>() }>().ok_or(WireError::Truncated {
                what: stringify!($name),
                needed: size_of::<$type>(),
                available: self.rest.len(),
            })?;
            self.rest = rest;
            Ok(<$type>::from_be_bytes(*head))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Reads from the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    integers!(i8: i8, i16: i16, i32: i32, i64: i64, u32: u32);

    /// BOOLEAN: anything but 0 is true.
    pub fn bool(&mut self) -> Result<bool, WireError> {
        Ok(self.i8()? != 0)
    }

    /// UUID: 16 bytes.
    pub fn uuid(&mut self) -> Result<u128, WireError> {
        let high = self.i64()?;
        let low = self.i64()?;
        Ok(u128::from(high.cast_unsigned()) << 64 | u128::from(low.cast_unsigned()))
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated {
            what,
            needed: length,
            available: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(head)
    }

    /// UNSIGNED_VARINT of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.i8()?.cast_unsigned();
            if shift == 28 && byte > 0x0f {
                return Err(WireError::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    /// NULLABLE_STRING.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, WireError> {
        let length = i64::from(self.i16()?);
        self.text(length, "STRING")
    }

    /// STRING.
    pub fn string(&mut self) -> Result<&'a str, WireError> {
        self.nullable_string()?.ok_or(WireError::Length { what: "STRING", length: -1 })
    }

    /// COMPACT_NULLABLE_STRING.
    pub fn compact_nullable_string(&mut self) -> Result<Option<&'a str>, WireError> {
        let length = i64::from(self.unsigned_varint()?) - 1;
        self.text(length, "COMPACT_STRING")
    }

    /// NULLABLE_BYTES.
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| WireError::Length { what: "BYTES", length: i64::from(length) })?;
                self.take(length, "BYTES").map(Some)
            }
        }
    }

    /// BYTES.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        self.nullable_bytes()?.ok_or(WireError::Length { what: "BYTES", length: -1 })
    }

    /// COMPACT_NULLABLE_BYTES, and COMPACT_RECORDS.
    pub fn compact_nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.unsigned_varint()? {
            0 => Ok(None),
            length => {
                let length = usize::try_from(length - 1).map_err(|_| WireError::Varint)?;
                self.take(length, "COMPACT_BYTES").map(Some)
            }
        }
    }

    /// ARRAY; a null array reads as an empty one. The vector grows with what was read, not with what was announced.
    pub fn array<T>(&mut self, element: impl FnMut(&mut Self) -> Result<T, WireError>) -> Result<Vec<T>, WireError> {
        let length = i64::from(self.i32()?);
        self.elements(length, element)
    }

    /// COMPACT_ARRAY; null reads as empty.
    pub fn compact_array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let length = i64::from(self.unsigned_varint()?) - 1;
        self.elements(length, element)
    }

    /// The partitions of an answer about one topic: an ARRAY of names, each with an ARRAY. Whose they are was asked for.
    pub fn of_topic<T>(
        &mut self,
        mut partition: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let topics = self.array(|reader| {
            reader.string()?;
            reader.array(&mut partition)
        })?;
        Ok(topics.into_iter().flatten().collect())
    }

    /// The same with the names, for whoever looks whether they are what was asked for.
    pub fn of_topics<T>(
        &mut self,
        mut partition: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<(Vec<String>, Vec<T>), WireError> {
        let topics = self.array(|reader| Ok((reader.string()?.to_owned(), reader.array(&mut partition)?)))?;
        let (names, partitions): (Vec<_>, Vec<_>) = topics.into_iter().unzip();
        Ok((names, partitions.into_iter().flatten().collect()))
    }

    /// Tagged fields (KIP-482), passed over.
    pub fn tagged_fields(&mut self) -> Result<(), WireError> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let length = self.unsigned_varint()?;
            self.take(usize::try_from(length).map_err(|_| WireError::Varint)?, "tagged field")?;
        }
        Ok(())
    }

    fn text(&mut self, length: i64, what: &'static str) -> Result<Option<&'a str>, WireError> {
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| WireError::Length { what, length })?;
        std::str::from_utf8(self.take(length, what)?).map(Some).map_err(|_| WireError::NotUtf8)
    }

    fn elements<T>(
        &mut self,
        length: i64,
        mut element: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        if length < -1 {
            return Err(WireError::Length { what: "ARRAY", length });
        }
        let mut elements = Vec::new();
        for _ in 0..length {
            elements.push(element(self)?);
        }
        Ok(elements)
    }
}

/// Appends an INT8.
pub fn put_i8(out: &mut Vec<u8>, value: i8) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an INT16.
pub fn put_i16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an INT32.
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an INT64.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a STRING. Longer than 32,767 bytes is cut at a character border: no name that the broker accepts is.
pub fn put_string(out: &mut Vec<u8>, value: &str) {
    let mut end = value.len().min(i16::MAX as usize);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    put_i16(out, end as i16);
    out.extend(value.bytes().take(end));
}

/// Appends a NULLABLE_STRING.
pub fn put_nullable_string(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => put_string(out, value),
        None => put_i16(out, -1),
    }
}

/// Appends BYTES. What we send is bounded far below 2 GiB by the memory budget.
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_i32(out, value.len() as i32);
    out.extend_from_slice(value);
}

/// Appends an ARRAY.
pub fn put_array<T>(
    out: &mut Vec<u8>,
    elements: impl ExactSizeIterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T),
) {
    put_i32(out, elements.len() as i32);
    for element in elements {
        put(out, element);
    }
}

/// Appends an UNSIGNED_VARINT.
pub fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_do_not_size_allocations() {
        let announced = i32::MAX.to_be_bytes();
        let fault = Reader::new(&announced).array(Reader::i64);
        assert_eq!(fault, Err(WireError::Truncated { what: "i64", needed: 8, available: 0 }));
        assert!(matches!(Reader::new(&[0xff; 4]).array(Reader::i64), Ok(empty) if empty.is_empty()));
        assert!(matches!(Reader::new(&[0x80, 0, 0, 0]).array(Reader::i64), Err(WireError::Length { .. })));
        assert!(matches!(Reader::new(&[0xff; 8]).unsigned_varint(), Err(WireError::Varint)));
    }

    proptest! {
        #[test]
        fn strings_and_numbers_come_back(text in ".{0,40}", bytes: Vec<u8>, number: i64, small: u32) {
            let mut out = Vec::new();
            put_string(&mut out, &text);
            put_nullable_string(&mut out, None);
            put_bytes(&mut out, &bytes);
            put_i64(&mut out, number);
            put_unsigned_varint(&mut out, small);
            put_array(&mut out, [1i16, 2].into_iter(), put_i16);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.string(), Ok(text.as_str()));
            prop_assert_eq!(reader.nullable_string(), Ok(None));
            prop_assert_eq!(reader.bytes(), Ok(bytes.as_slice()));
            prop_assert_eq!(reader.i64(), Ok(number));
            prop_assert_eq!(reader.unsigned_varint(), Ok(small));
            prop_assert_eq!(reader.array(Reader::i16), Ok(vec![1, 2]));
            prop_assert!(reader.rest().is_empty());
        }
    }
}
