//! What each error code of the group's requests means: the one table.
//!
//! Source: the error handling of Kafka's AbstractCoordinator and ConsumerCoordinator, and librdkafka's.

/// The request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// JoinGroup.
    Join,
    /// SyncGroup.
    Sync,
    /// Heartbeat.
    Heartbeat,
    /// OffsetCommit, one partition's code.
    Commit,
    /// OffsetFetch, the whole's or one partition's code.
    FetchOffsets,
}

impl Api {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "JoinGroup",
            Self::Sync => "SyncGroup",
            Self::Heartbeat => "Heartbeat",
            Self::Commit => "OffsetCommit",
            Self::FetchOffsets => "OffsetFetch",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It went well.
    Fine,
    /// The same again after a pause; identity and assignment stay.
    Retry,
    /// Find the coordinator again, then the same; identity and assignment stay.
    Rediscover,
    /// The answer has the member id to join with, at once (KIP-394).
    TakeMemberId,
    /// The group is rebalancing: finish, commit, join again with the same member id.
    Rebalance,
    /// The assignment is void; join again with the same member id.
    Lost,
    /// The assignment is void and so is the member id.
    LostWithId,
    /// Only this partition: commit again without the note beside the offset.
    WithoutNote,
    /// Only this partition: leave it until the metadata shows the topic, or the partitions go.
    Park,
    /// For good.
    Refused,
}

/// The verdict on an error code.
pub fn verdict(api: Api, code: i16) -> Verdict {
    use Verdict::{Fine, Lost, LostWithId, Park, Rebalance, Rediscover, Refused, Retry, TakeMemberId, WithoutNote};
    match (api, code) {
        (_, 0) => Fine,
        // While it loads the group, a coordinator takes heartbeats as good.
        (Api::Heartbeat, 14) => Fine,
        (_, 14) => Retry,
        (_, 15 | 16) => Rediscover,
        (Api::Commit, 7) => Rediscover,
        (Api::FetchOffsets, 22 | 25 | 27) => Retry,
        (_, 22) => Lost,
        (_, 25) => LostWithId,
        // A JoinGroup answered so has only hit a slow write of the broker's.
        (Api::Join, 27) => Retry,
        (_, 27) => Rebalance,
        (Api::Join, 79) => TakeMemberId,
        // The group is full: a place may come free.
        (Api::Join, 81) => Retry,
        (Api::Commit, 12 | 28) => WithoutNote,
        (Api::Commit, 3 | 29) => Park,
        (_, 23 | 24 | 26 | 30 | 35 | 42 | 82 | 111) => Refused,
        _ => Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use Api::{Commit, FetchOffsets, Heartbeat, Join, Sync};
        let all = [Join, Sync, Heartbeat, Commit, FetchOffsets];
        // code, then Join, Sync, Heartbeat, Commit, FetchOffsets
        use Verdict as V;
        let table = [
            (0, [V::Fine; 5]),
            (7, [V::Retry, V::Retry, V::Retry, V::Rediscover, V::Retry]),
            (14, [V::Retry, V::Retry, V::Fine, V::Retry, V::Retry]),
            (15, [V::Rediscover; 5]),
            (16, [V::Rediscover; 5]),
            (22, [V::Lost, V::Lost, V::Lost, V::Lost, V::Retry]),
            (25, [V::LostWithId, V::LostWithId, V::LostWithId, V::LostWithId, V::Retry]),
            (27, [V::Retry, V::Rebalance, V::Rebalance, V::Rebalance, V::Retry]),
            (79, [V::TakeMemberId, V::Retry, V::Retry, V::Retry, V::Retry]),
            (82, [V::Refused; 5]),
            (23, [V::Refused; 5]),
            (30, [V::Refused; 5]),
            (12, [V::Retry, V::Retry, V::Retry, V::WithoutNote, V::Retry]),
            (3, [V::Retry, V::Retry, V::Retry, V::Park, V::Retry]),
            (-1, [V::Retry; 5]),
        ];
        for (code, expected) in table {
            for (api, expected) in all.into_iter().zip(expected) {
                assert_eq!(verdict(api, code), expected, "{} answered {code}", api.name());
            }
        }
    }
}
