//! SyncGroup v3 (KIP-345): the leader hands in the assignments, every member gets its own.

use super::wire::{Reader, WireError, put_array, put_bytes, put_i32, put_nullable_string, put_string};

/// Asks for the assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroupRequest<'a> {
    /// The group id.
    pub group_id: &'a str,
    /// The generation.
    pub generation: i32,
    /// The member id.
    pub member_id: &'a str,
    /// The instance id of a static member.
    pub instance_id: Option<&'a str>,
    /// From the leader: member id and encoded assignment of every member. Empty from followers.
    pub assignments: &'a [(String, Vec<u8>)],
}

impl SyncGroupRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_string(out, self.group_id);
        put_i32(out, self.generation);
        put_string(out, self.member_id);
        put_nullable_string(out, self.instance_id);
        put_array(out, self.assignments.iter(), |out, (member_id, assignment)| {
            put_string(out, member_id);
            put_bytes(out, assignment);
        });
    }
}

/// This member's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroupResponse {
    /// Error code.
    pub error: i16,
    /// The encoded assignment; no bytes at all when the leader forgot this member.
    pub assignment: Vec<u8>,
}

impl SyncGroupResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        Ok(Self { error: reader.i16()?, assignment: reader.bytes()?.to_vec() })
    }
}

super::api!(SyncGroupRequest<'_> => SyncGroupResponse, SyncGroup, versions 3..=3, flexible from 4);
