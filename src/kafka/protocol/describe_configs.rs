//! DescribeConfigs v1 ([KIP-133]): one setting of one topic.
//!
//! [KIP-133]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-133%3A+Describe+and+Alter+Configs+Admin+APIs

use super::wire::{Reader, WireError, put_array, put_i8, put_string};

/// Asks for one setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeConfigsRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The setting's name.
    pub name: &'a str,
}

impl DescribeConfigsRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_array(out, [self.topic].into_iter(), |out, topic| {
            put_i8(out, TOPIC);
            put_string(out, topic);
            put_array(out, [self.name].into_iter(), put_string);
        });
        put_i8(out, 0); // include_synonyms
    }
}

/// The setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeConfigsResponse {
    /// Error code; 29 = this user may not know.
    pub error: i16,
    /// Its value, where there is one.
    pub value: Option<String>,
}

impl DescribeConfigsResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        let results = reader.array(|reader| {
            let error = reader.i16()?;
            reader.nullable_string()?; // error message
            reader.i8()?; // resource type
            reader.string()?; // resource name
            let values = reader.array(|reader| {
                reader.string()?;
                let value = reader.nullable_string()?.map(str::to_owned);
                reader.bool()?; // read_only
                reader.i8()?; // source
                reader.bool()?; // is_sensitive
                reader.array(|reader| {
                    reader.string()?;
                    reader.nullable_string()?;
                    reader.i8()
                })?; // synonyms
                Ok(value)
            })?;
            Ok(Self { error, value: values.into_iter().flatten().next() })
        })?;
        results.into_iter().next().ok_or(WireError::Length { what: "results", length: 0 })
    }
}

/// `ConfigResource.Type.TOPIC`.
const TOPIC: i8 = 2;

super::api!(DescribeConfigsRequest<'_> => DescribeConfigsResponse, DescribeConfigs, versions 1..=1, flexible from 4);
