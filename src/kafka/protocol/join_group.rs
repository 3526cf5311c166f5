//! JoinGroup v5 (KIP-345, KIP-394): becomes a member; blocks until the group has gathered.

use super::wire::{Reader, WireError, put_array, put_bytes, put_i32, put_nullable_string, put_string};

/// Asks to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroupRequest<'a> {
    /// The group id.
    pub group_id: &'a str,
    /// Milliseconds without a heartbeat after which the member is expired.
    pub session_timeout_ms: i32,
    /// Milliseconds the group waits for this member to rejoin. Never 0: the broker would throw the member out at once.
    pub rebalance_timeout_ms: i32,
    /// The member id, "" for a new member.
    pub member_id: &'a str,
    /// The instance id of a static member.
    pub instance_id: Option<&'a str>,
    /// Offered assignors with the subscription encoded for each, in order of preference.
    pub protocols: &'a [(&'a str, Vec<u8>)],
}

impl JoinGroupRequest<'_> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>, _version: i16) {
        put_string(out, self.group_id);
        put_i32(out, self.session_timeout_ms);
        put_i32(out, self.rebalance_timeout_ms);
        put_string(out, self.member_id);
        put_nullable_string(out, self.instance_id);
        put_string(out, "consumer");
        put_array(out, self.protocols.iter(), |out, (name, subscription)| {
            put_string(out, name);
            put_bytes(out, subscription);
        });
    }
}

/// The gathered group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroupResponse {
    /// Error code; 79 gives a member id to come back with.
    pub error: i16,
    /// The new generation, -1 on errors.
    pub generation: i32,
    /// The assignor that the group agreed on: the one to obey, whatever was offered first.
    pub protocol: String,
    /// The leader's member id; "" when the broker assigns itself (KIP-848 groups).
    pub leader: String,
    /// Our member id.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member id.
    pub member_id: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
    /// Its subscription, encoded.
    pub subscription: Vec<u8>,
}

impl JoinGroupResponse {
    /// Reads the body.
    pub fn decode(reader: &mut Reader<'_>, _version: i16) -> Result<Self, WireError> {
        reader.i32()?; // throttle time
        Ok(Self {
            error: reader.i16()?,
            generation: reader.i32()?,
            protocol: reader.nullable_string()?.unwrap_or("").to_owned(),
            leader: reader.string()?.to_owned(),
            member_id: reader.string()?.to_owned(),
            members: reader.array(|reader| {
                Ok(JoinedMember {
                    member_id: reader.string()?.to_owned(),
                    instance_id: reader.nullable_string()?.map(str::to_owned),
                    subscription: reader.bytes()?.to_vec(),
                })
            })?,
        })
    }
}

super::api!(JoinGroupRequest<'_> => JoinGroupResponse, JoinGroup, versions 5..=5, flexible from 6);
