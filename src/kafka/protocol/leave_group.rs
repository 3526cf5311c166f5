//! LeaveGroup v2: gives the partitions back at once instead of after the session timeout.

use super::wire::{Reader, WireError, put_string};

/// Leaves the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroupRequest<'a> {
    /// The group id.
    pub group_id: &'a str,
    /// The member id.
    pub member_id: &'a str,
}

impl LeaveGroupRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_string(out, self.group_id);
        put_string(out, self.member_id);
    }
}

/// The coordinator's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroupResponse {
    /// Error code; 25 means that the member was gone already.
    pub error: i16,
}

impl LeaveGroupResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        Ok(Self { error: reader.i16()? })
    }
}

super::api!(LeaveGroupRequest<'_> => LeaveGroupResponse, LeaveGroup, versions 2..=2, flexible from 4);
