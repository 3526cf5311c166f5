//! ApiVersions v0: which versions of which requests a broker takes. Every broker answers v0 (KIP-511).

use super::wire::{Reader, WireError};

/// Asks for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersionsRequest;

impl ApiVersionsRequest {
    /// Appends the body: there is none.
    pub fn encode(&self, _out: &mut Vec<u8>, _version: i16) {}
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// Error code.
    pub error: i16,
    /// API key, oldest version, newest version.
    pub ranges: Vec<(i16, i16, i16)>,
}

impl ApiVersionsResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        let error = reader.i16()?;
        let ranges = reader.array(|reader| Ok((reader.i16()?, reader.i16()?, reader.i16()?)))?;
        Ok(Self { error, ranges })
    }

    /// Whether the broker takes this version of this request.
    pub fn has(&self, api_key: i16, version: i16) -> bool {
        self.ranges.iter().any(|(key, oldest, newest)| *key == api_key && (*oldest..=*newest).contains(&version))
    }
}

super::api!(ApiVersionsRequest => ApiVersionsResponse, ApiVersions, versions 0..=0, flexible from 3);
