//! The messages that rskafka lacks, one file each, as plain `encode` and `decode` functions; [`api!`] hangs them into
//! rskafka's traits. Versions are fixed where all brokers from 2.3 to 4.x and Redpanda speak the same one.
//!
//! Source: <https://kafka.apache.org/protocol#protocol_messages>. Request headers v1, response headers v0 (v2 and v1
//! for flexible versions) are the Messenger's.

pub mod api_versions;
pub mod describe_configs;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod join_group;
pub mod leave_group;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod topic_details;
pub mod wire;

#[cfg(test)]
mod tests;

/// Implements rskafka's traits for a request with `encode(&self, &mut Vec<u8>, i16)` and a response with
/// `decode(&mut Reader, i16) -> Result<Self, WireError>`, both given the negotiated version.
macro_rules! api {
    ($request:ty => $response:ty, $key:ident, versions $min:literal..=$max:literal, flexible from $flexible:literal) => {
        impl rskafka::protocol::messages::RequestBody for $request {
            type ResponseBody = $response;
            const API_KEY: rskafka::protocol::api_key::ApiKey = rskafka::protocol::api_key::ApiKey::$key;
            const API_VERSION_RANGE: rskafka::protocol::api_version::ApiVersionRange =
                rskafka::protocol::api_version::ApiVersionRange::new(
                    rskafka::protocol::api_version::ApiVersion(rskafka::protocol::primitives::Int16($min)),
                    rskafka::protocol::api_version::ApiVersion(rskafka::protocol::primitives::Int16($max)),
                );
            const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: rskafka::protocol::api_version::ApiVersion =
                rskafka::protocol::api_version::ApiVersion(rskafka::protocol::primitives::Int16($flexible));
        }

        impl rskafka::protocol::messages::WriteVersionedType<Vec<u8>> for $request {
            fn write_versioned(
                &self,
                writer: &mut Vec<u8>,
                version: rskafka::protocol::api_version::ApiVersion,
            ) -> Result<(), rskafka::protocol::messages::WriteVersionedError> {
                self.encode(writer, version.0.0);
                Ok(())
            }
        }

        impl rskafka::protocol::messages::ReadVersionedType<std::io::Cursor<Vec<u8>>> for $response {
            fn read_versioned(
                cursor: &mut std::io::Cursor<Vec<u8>>,
                version: rskafka::protocol::api_version::ApiVersion,
            ) -> Result<Self, rskafka::protocol::messages::ReadVersionedError> {
                let (decoded, left) = {
                    let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
                    let body = cursor.get_ref().get(start..).unwrap_or(&[]);
                    let mut reader = $crate::kafka::protocol::wire::Reader::new(body);
                    (Self::decode(&mut reader, version.0.0), reader.rest().len())
                };
                // The Messenger refuses a message that was not read to its end.
                cursor.set_position((cursor.get_ref().len() - left) as u64);
                decoded.map_err(|error| rskafka::protocol::traits::ReadError::Malformed(Box::new(error)).into())
            }
        }
    };
}
use api;
