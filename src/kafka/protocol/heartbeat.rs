//! Heartbeat v3 (KIP-345): keeps the membership, and tells of rebalances.

use super::wire::{Reader, WireError, put_i32, put_nullable_string, put_string};

/// One sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest<'a> {
    /// The group id.
    pub group_id: &'a str,
    /// The generation of the membership.
    pub generation: i32,
    /// The member id.
    pub member_id: &'a str,
    /// The instance id of a static member.
    pub instance_id: Option<&'a str>,
}

impl HeartbeatRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_string(out, self.group_id);
        put_i32(out, self.generation);
        put_string(out, self.member_id);
        put_nullable_string(out, self.instance_id);
    }
}

/// The coordinator's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// Error code; 27 = a rebalance is under way.
    pub error: i16,
}

impl HeartbeatResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        Ok(Self { error: reader.i16()? })
    }
}

super::api!(HeartbeatRequest<'_> => HeartbeatResponse, Heartbeat, versions 3..=3, flexible from 4);
