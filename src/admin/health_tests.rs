use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::progress::End;

fn at(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

/// 2026-02-07T10:00:00 UTC.
const STARTED: u64 = 1_770_458_400_000_000;

fn healthy(now: Instant) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.kafka.good_until = Some(now + Duration::from_secs(1));
    snapshot.insert.connected = true;
    snapshot
}

#[tokio::test(start_paused = true)]
async fn the_nine_fields_in_the_order_and_form_of_the_original() {
    let now = Instant::now();
    let mut snapshot = healthy(now);
    snapshot.pipeline.settled.tombstones = 99;
    snapshot.pipeline.settled.rejected.add("invalid_json", 1);
    snapshot.pipeline.settled.rows = 1233;
    snapshot.insert.rows = 2000;
    snapshot.insert.batches = 5;
    snapshot.insert.failed_attempts = 20;
    snapshot.insert.last_stored_at = Some(at(STARTED + 1_800_000_007));
    snapshot.kafka.errors = 300;
    assert_eq!(
        snapshot.health(at(STARTED), now).to_json(),
        "{\"status\": \"healthy\", \"kafka_connected\": true, \"clickhouse_connected\": true, \
         \"events_consumed\": 1234, \"events_inserted\": 1233, \"batches_flushed\": 5, \"errors\": 321, \
         \"last_flush_at\": \"2026-02-07T10:30:00.000007Z\", \"started_at\": \"2026-02-07T10:00:00.000000Z\"}"
    );
}

#[tokio::test(start_paused = true)]
async fn before_anything_has_happened() {
    assert_eq!(
        Snapshot::default().health(at(STARTED), Instant::now()).to_json(),
        "{\"status\": \"unhealthy\", \"kafka_connected\": false, \"clickhouse_connected\": false, \
         \"events_consumed\": 0, \"events_inserted\": 0, \"batches_flushed\": 0, \"errors\": 0, \
         \"last_flush_at\": \"\", \"started_at\": \"2026-02-07T10:00:00.000000Z\"}"
    );
}

#[tokio::test(start_paused = true)]
async fn kafka_is_connected_until_its_time_is_up() {
    let now = Instant::now();
    let snapshot = healthy(now);
    assert!(snapshot.health(at(STARTED), now + Duration::from_millis(999)).kafka_connected);
    let later = snapshot.health(at(STARTED), now + Duration::from_secs(1));
    assert!(!later.kafka_connected);
    assert_eq!(later.status, Status::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn a_member_without_partitions_and_errors_of_the_past_are_healthy() {
    let now = Instant::now();
    let mut snapshot = healthy(now);
    snapshot.kafka.errors = 7;
    snapshot.insert.failed_attempts = 7;
    snapshot.pipeline.settled.rejected.add("server", 7);
    assert_eq!(snapshot.health(at(STARTED), now).status, Status::Healthy);
}

#[tokio::test(start_paused = true)]
async fn status_tells_everything() {
    let now = Instant::now();
    let mut snapshot = healthy(now);
    snapshot.kafka.state = "stable";
    snapshot.kafka.contact_limit = Duration::from_secs(8);
    snapshot.kafka.round_trip = Some(Duration::from_millis(250));
    snapshot.kafka.member_id = "m-1".to_owned();
    snapshot.kafka.generation = 4;
    snapshot.kafka.partitions = vec![0, 3];
    snapshot.kafka.blocked_partitions.insert(3, "a record of 9000000 bytes".to_owned());
    snapshot.insert.rows = 10;
    snapshot.insert.dedup = Some("window 10000".to_owned());
    snapshot.insert.last_stored_at = Some(at(STARTED));
    snapshot.pipeline.settled.tombstones = 2;
    snapshot.kafka.rebalances = 2;
    snapshot.kafka.ends.insert(0, End { readable: 100, log: 107 });
    snapshot.kafka.positions.insert(0, 60);
    snapshot.stall = Duration::from_millis(20);
    let json = serde_json::to_value(snapshot.status(at(STARTED), 61, now)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "status": "unhealthy",
            "reasons": ["partition 3: a record of 9000000 bytes"],
            "waiting": [{
                "class": "partitions", "subject": "partition 3", "cause": "a record of 9000000 bytes", "action": "",
                "since": null, "seconds": 0, "failures": 0
            }],
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": "2026-02-07T10:00:00.000000Z",
            "uptime_seconds": 61,
            "loop_stall_seconds": 0.02,
            "kafka": {
                "connected": true,
                "failure": null,
                "contact_limit_seconds": 8.0,
                "round_trip_seconds": 0.25,
                "state": "stable",
                "member_id": "m-1",
                "generation": 4,
                "partitions": [0, 3],
                "rebalances": 2,
                "lags": {"0": 47},
                "lag_failure": null,
                "held_by_transactions": {"0": 7},
                "errors": 0,
                "blocked": null,
                "blocked_partitions": {"3": "a record of 9000000 bytes"}
            },
            "clickhouse": {
                "connected": true,
                "failure": null,
                "rows_inserted": 10,
                "batches_inserted": 0,
                "last_insert_at": "2026-02-07T10:00:00.000000Z",
                "failed_attempts": 0,
                "dedup": "window 10000",
                "blocked": null
            },
            "events": {
                "consumed": 0, "inserted": 0, "tombstones": 2, "rejected": 0, "open": 0, "read": 0, "read_again": 0,
                "uncommitted_batches": 0, "dead_lettered": 0, "blocked": null, "dead_letters_blocked": null
            }
        })
    );
}
