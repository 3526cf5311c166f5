use std::collections::{HashMap, HashSet};

use super::*;

const BASE: i64 = 1_768_954_900_524;

#[test]
fn an_event_is_a_function_of_seed_index_and_base_time() {
    for index in [0, 1, 99_999, u64::MAX / 2] {
        assert_eq!(event(7, index, BASE).to_json(), event(7, index, BASE).to_json());
        assert_ne!(event(7, index, BASE).to_json(), event(8, index, BASE).to_json());
        let later = event(7, index, BASE + 5);
        assert_eq!(later.event_id, event(7, index, BASE).event_id);
        assert_eq!(later.event_time, event(7, index, BASE).event_time + 5);
    }
}

#[test]
fn ids_are_unique_version_4_uuids_and_times_lie_in_the_last_30_days() {
    let mut seen = HashSet::new();
    for seed in 0..3 {
        for index in 0..20_000 {
            let event = event(seed, index, BASE);
            let id = event.event_id.as_bytes();
            assert_eq!((id.len(), id[14], b"89ab".contains(&id[19])), (36, b'4', true), "{}", event.event_id);
            assert!(seen.insert(event.event_id), "twice: seed {seed}, index {index}");
            assert!(event.event_time <= BASE && event.event_time > BASE - 30 * 24 * 3_600_000);
        }
    }
}

#[test]
fn the_json_has_the_26_fields_in_order_and_about_900_bytes() {
    let fields = [
        "event_id",
        "event_type",
        "event_category",
        "agent_id",
        "agent_name",
        "org_id",
        "org_name",
        "context_id",
        "context_name",
        "version_id",
        "version_number",
        "prompt_id",
        "prompt_name",
        "data_classification",
        "governance_hash",
        "hash_type",
        "template_rendered",
        "denial_reason",
        "violation_type",
        "severity",
        "trace_id",
        "source_ip",
        "request_method",
        "request_path",
        "event_time",
        "metadata",
    ];
    let mut bytes = 0;
    for index in 0..5_000 {
        let json = event(1, index, BASE).to_json();
        bytes += json.len();
        let value: HashMap<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(value.len(), fields.len());
        let places: Vec<usize> = fields.iter().map(|name| json.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{json}");
        let inner: serde_json::Value = serde_json::from_str(value["metadata"].as_str().unwrap()).unwrap();
        assert!(inner["latency_ms"].is_u64(), "{inner}");
    }
    assert!((850..=950).contains(&(bytes / 5_000)), "{} bytes an event", bytes / 5_000);
}

#[test]
fn denied_events_say_why_and_others_do_not() {
    let (mut denied, mut granted) = (0, 0);
    for index in 0..5_000 {
        let event = event(1, index, BASE);
        let filled = [event.denial_reason, event.violation_type, event.severity].map(|text| !text.is_empty());
        let is_denied = event.event_type.ends_with("_DENIED");
        assert_eq!(filled, [is_denied; 3], "{}", event.to_json());
        if is_denied { denied += 1 } else { granted += 1 }
    }
    assert!(denied > 500 && granted > 2_000, "{denied} denied, {granted} granted");
}

#[test]
fn twelve_partitions_get_even_shares() {
    let mut shares = [0_u32; 12];
    for index in 0..24_000 {
        let org = org_number(&event(3, index, BASE).org_id).unwrap();
        shares[(org % 12) as usize] += 1;
    }
    assert!(shares.iter().all(|share| (1_600..=2_400).contains(share)), "{shares:?}");
}

#[test]
fn variety_sends_some_metadata_as_objects_with_the_same_text() {
    let source = Source { seed: 1, base_ms: BASE, variety: true };
    let mut objects = 0;
    for index in 0..2_000 {
        let (varied, plain) = (source.event(index), event(1, index, BASE));
        assert_eq!(varied.metadata.text(), plain.metadata.text());
        let value: serde_json::Value = serde_json::from_str(&varied.to_json()).unwrap();
        objects += u32::from(value["metadata"].is_object());
    }
    assert!((150..450).contains(&objects), "{objects} of 2000");
}
