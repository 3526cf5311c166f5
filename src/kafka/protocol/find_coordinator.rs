//! FindCoordinator v2 (KIP-98): which broker coordinates a group.

use super::wire::{Reader, WireError, put_i8, put_string};

/// Asks for the coordinator of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindCoordinatorRequest<'a> {
    /// The group id.
    pub group_id: &'a str,
}

impl FindCoordinatorRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_string(out, self.group_id);
        put_i8(out, 0); // key type: group
    }
}

/// Where the coordinator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindCoordinatorResponse {
    /// Error code, 0 = none; 15 for some seconds on a virgin cluster, while `__consumer_offsets` is created.
    pub error: i16,
    /// The broker's words to the error.
    pub message: Option<String>,
    /// Its node id, -1 on errors.
    pub node_id: i32,
    /// Its advertised host.
    pub host: String,
    /// Its advertised port.
    pub port: i32,
}

impl FindCoordinatorResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time: the broker mutes the connection itself
        Ok(Self {
            error: reader.i16()?,
            message: reader.nullable_string()?.map(str::to_owned),
            node_id: reader.i32()?,
            host: reader.string()?.to_owned(),
            port: reader.i32()?,
        })
    }
}

super::api!(FindCoordinatorRequest<'_> => FindCoordinatorResponse, FindCoordinator, versions 2..=2, flexible from 3);
