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

    /// The versions of this request that the broker takes, oldest and newest; `None` when it does not know the request.
    pub fn of(&self, api_key: i16) -> Option<(i16, i16)> {
        self.ranges.iter().find(|(key, ..)| *key == api_key).map(|(_, oldest, newest)| (*oldest, *newest))
    }

    /// The newest version of this request within `ours` that the broker takes too.
    pub fn newest_common(&self, api_key: i16, ours: (i16, i16)) -> Option<i16> {
        let (oldest, newest) = self.of(api_key)?;
        let version = newest.min(ours.1);
        (version >= oldest.max(ours.0)).then_some(version)
    }
}

super::api!(ApiVersionsRequest => ApiVersionsResponse, ApiVersions, versions 0..=0, flexible from 3);
