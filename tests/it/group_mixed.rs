//! One group of this program and of librdkafka.

use std::collections::BTreeMap;
use std::time::Duration;

use sandarb_consumer::config::AssignorName;
use sandarb_consumer::kafka::assignor::{Member as Subscriber, PartitionCounts, assign, protocol_name};
use serde_json::{Value, json};

use crate::harness::bench::{PARTITIONS, SHIPPED};
use crate::harness::kafka::{Described, needs_kafka};
use crate::harness::{Bench, ClickHouse, Consumer, Kafka, Member, Series, Table, same, wait_until};

const LIMIT: Duration = Duration::from_secs(90);
const BOTH: [AssignorName; 2] = [AssignorName::Range, AssignorName::RoundRobin];

/// Members' shares, by member id.
type Shares = BTreeMap<String, Vec<(String, i32)>>;

#[test]
fn the_assignments_are_librdkafkas() {
    let kafka = Kafka::shared();
    let counts = PartitionCounts::from([("shapes_b".to_owned(), 12), ("shapes_a".to_owned(), 7)]);
    for (topic, count) in &counts {
        kafka.create_topic(topic, *count);
    }
    // One to seven members; member m of shape s reads the first topic, the second, or both: 56 shapes.
    let mut shapes = Vec::new();
    for name in BOTH {
        for size in 1..=7_usize {
            for pattern in 0..4_usize {
                let topics = |member: usize| match (member * (pattern + 1) + pattern * size) % 3 {
                    _ if pattern == 0 => json!(["shapes_a", "shapes_b"]),
                    0 => json!(["shapes_b", "shapes_a"]),
                    1 => json!(["shapes_a"]),
                    _ => json!(["shapes_b"]),
                };
                let members: Vec<Value> = (0..size).map(topics).collect();
                shapes.push(json!({"strategy": protocol_name(name), "members": members, "fixed": pattern == 3}));
            }
        }
    }
    let answers: Vec<Vec<Value>> = shapes.chunks(14).flat_map(|part| kafka.shapes(part)).collect();
    assert_eq!(answers.len(), 56);
    for (shape, members) in shapes.iter().zip(answers) {
        let name = BOTH.into_iter().find(|name| shape["strategy"] == protocol_name(*name)).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let subscribers = members.iter().map(|member| Subscriber {
            member_id: text(&member["id"]),
            instance_id: Described::read(member).instance,
            topics: member["topics"].as_array().unwrap().iter().map(text).collect(),
        });
        let theirs: Shares =
            members.iter().map(|member| (text(&member["id"]), Described::read(member).partitions)).collect();
        assert_eq!(shares(name, subscribers.collect(), &counts), theirs, "{shape}");
    }
    println!("{} group shapes as librdkafka", shapes.len());
}

#[test]
fn ours_lead_among_librdkafkas() {
    let bench = Bench::shared("mixed_lead");
    for name in BOTH {
        mix(&bench, &format!("{}-{}", bench.group, protocol_name(name)), name, true);
    }
}

#[test]
fn ours_follow_among_librdkafkas() {
    let bench = Bench::shared("mixed_follow");
    for name in BOTH {
        mix(&bench, &format!("{}-{}", bench.group, protocol_name(name)), name, false);
    }
}

/// From one member to four of each kind and back, all in one group.
fn mix(on: &Bench<'_>, group: &str, name: AssignorName, ours_first: bool) {
    let strategy = protocol_name(name);
    let env = [
        ("KAFKA_GROUP_ID", group),
        ("KAFKA_ASSIGNMENT_STRATEGY", strategy),
        ("KAFKA_HEARTBEAT_INTERVAL_MS", "500"),
        ("KAFKA_SESSION_TIMEOUT_MS", "6000"),
    ];
    let settings = json!({
        "group.id": group, "partition.assignment.strategy": strategy, "heartbeat.interval.ms": 500, "session.timeout.ms": 6000,
    });
    let (mut ours, mut theirs): (Vec<Consumer>, Vec<Member>) = (Vec::new(), Vec::new());
    let settled = |ours: &[Consumer], theirs: &[Member]| wait_settled(on, group, name, ours, theirs.len());
    for step in 0..8 {
        if (step % 2 == 0) == ours_first {
            ours.push(on.start(&env));
        } else {
            theirs.push(Member::hold(on, &settings));
        }
        settled(&ours, &theirs);
    }
    let leads = |consumer: &Consumer| consumer.log_lines().iter().any(|line| line["leader"] == true);
    assert_eq!(leads(&ours[0]), ours_first, "the first one leads");
    assert!(!ours[1..].iter().any(leads), "and no other");
    // The leader goes: another kind may lead now.
    if ours_first {
        ours.remove(0).stop();
    } else {
        theirs.remove(0).stop();
    }
    settled(&ours, &theirs);
    for member in theirs.drain(..) {
        member.stop();
    }
    settled(&ours, &[]);
    assert!(ours.iter().any(leads), "one of ours leads ours");
    for consumer in &ours {
        consumer.stop();
    }
    println!("{strategy}, {} first: 1 to 4 of each and back", if ours_first { "ours" } else { "librdkafka" });
}

/// Waits until the broker shows a stable group of exactly these, assigned as the assignor says, and ours know it.
fn wait_settled(bench: &Bench<'_>, group: &str, name: AssignorName, ours: &[Consumer], theirs: usize) {
    let counts = PartitionCounts::from([(bench.topic.clone(), PARTITIONS)]);
    wait_until(LIMIT, &format!("{} of ours and {theirs} others share", ours.len()), || {
        let (state, members) = bench.kafka.describe(group);
        same((state.as_str(), members.len()), ("STABLE", ours.len() + theirs))?;
        let subscribers = members.iter().map(|(id, member)| Subscriber {
            member_id: id.clone(),
            instance_id: member.instance.clone(),
            topics: vec![bench.topic.clone()],
        });
        let wanted = shares(name, subscribers.collect(), &counts);
        same(members.iter().map(|(id, member)| (id.clone(), member.partitions.clone())).collect(), wanted.clone())?;
        for consumer in ours {
            let id = consumer.status()?["kafka"]["member_id"].as_str().unwrap_or("").to_owned();
            let held: Vec<(String, i32)> =
                consumer.partitions()?.into_iter().map(|index| (bench.topic.clone(), index)).collect();
            same(Some(&held), wanted.get(&id))?;
        }
        Ok(())
    });
}

/// What our assignor gives to each, as a sorted list.
fn shares(name: AssignorName, members: Vec<Subscriber>, counts: &PartitionCounts) -> Shares {
    let list = |share: BTreeMap<String, Vec<i32>>| {
        let mut places: Vec<(String, i32)> = share
            .into_iter()
            .flat_map(|(topic, partitions)| partitions.into_iter().map(move |index| (topic.clone(), index)))
            .collect();
        places.sort_unstable();
        places
    };
    assign(name, members, counts).into_iter().map(|(id, share)| (id, list(share))).collect()
}

#[test]
fn members_of_the_new_protocol_come_and_go() {
    needs_kafka((4, 0), "the consumer group protocol of KIP-848");
    let bench = Bench::new("kip848", Kafka::shared(), ClickHouse::shared(), Table { views: true, window: false });
    let env =
        [("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"), ("KAFKA_SESSION_TIMEOUT_MS", "6000"), ("BATCH_TIMEOUT_MS", "500")];
    let ours = [bench.start(&env), bench.start(&env)];
    crate::harness::fleet::wait_shares(&[&ours[0], &ours[1]], PARTITIONS, LIMIT);
    let load = bench.load(1_000);
    for round in 1..=2 {
        let member = Member::bridge(&bench, &json!({"group.protocol": "consumer"}));
        wait_members(&bench, &[4, 4, 4]);
        bench.wait_rows(&ours[0], bench.rows() + 3_000, LIMIT);
        member.stop();
        wait_members(&bench, &[6, 6]);
        bench.wait_rows(&ours[0], bench.rows() + 3_000, LIMIT);
        println!("round {round}: the new protocol's member came and went");
    }
    let indices = load.stop();
    bench.wait_committed_to_the_end(&ours[0], LIMIT);
    for consumer in &ours {
        consumer.stop();
    }
    let series = Series::count("members of the new protocol", &bench, indices, &[]);
    assert!(series.duplicates <= 4 * 2_000, "{series:?}");
}

/// Waits until the broker shows a stable group with shares of these sizes, each partition once.
fn wait_members(bench: &Bench<'_>, sizes: &[usize]) {
    wait_until(LIMIT, &format!("members with {sizes:?} partitions"), || {
        let (state, members) = bench.kafka.describe(&bench.group);
        let mut found: Vec<usize> = members.values().map(|member| member.partitions.len()).collect();
        found.sort_unstable();
        same((state.as_str(), found.as_slice()), ("STABLE", sizes)).map(|_| ())?;
        let mut all: Vec<&(String, i32)> = members.values().flat_map(|member| &member.partitions).collect();
        all.sort_unstable();
        all.dedup();
        same(all.len(), PARTITIONS as usize)
    });
}

#[test]
fn a_rolling_migration_there_and_back_loses_nothing() {
    let bench = Bench::new("migration", Kafka::shared(), ClickHouse::shared(), Table { views: true, ..SHIPPED });
    // The Python bridge's settings; shorter sessions only for the test's sake.
    let settings = json!({"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000});
    let env =
        [("KAFKA_HEARTBEAT_INTERVAL_MS", "1000"), ("KAFKA_SESSION_TIMEOUT_MS", "6000"), ("BATCH_TIMEOUT_MS", "500")];
    let mut theirs: Vec<Member> = (0..4).map(|_| Member::bridge(&bench, &settings)).collect();
    wait_members(&bench, &[3, 3, 3, 3]);
    let load = bench.load(1_000);
    let progress =
        || {
            let wanted = bench.rows() + 2_000;
            wait_until(LIMIT, "rows come", || {
                if bench.rows() >= wanted { Ok(()) } else { Err(format!("{}", bench.rows())) }
            });
        };
    progress();
    let mut ours: Vec<Consumer> = Vec::new();
    while let Some(member) = theirs.pop() {
        member.stop();
        ours.push(bench.start(&env));
        wait_members(&bench, &[3, 3, 3, 3]);
        progress();
    }
    while let Some(consumer) = ours.pop() {
        consumer.stop();
        theirs.push(Member::bridge(&bench, &settings));
        wait_members(&bench, &[3, 3, 3, 3]);
        progress();
    }
    let indices = load.stop();
    let ends = bench.kafka.end_offsets(&bench.topic);
    wait_until(LIMIT, "all is committed", || same(bench.kafka.committed(&bench.group, &bench.topic), ends.clone()));
    for member in &theirs {
        member.wait_told(LIMIT, "assigned");
        member.stop();
    }
    let series = Series::count("four librdkafka bridges to ours and back", &bench, indices, &[]);
    // Theirs insert what they hold after a rebalance, too, and the new owners read it again: a batch a step and member.
    assert!(series.duplicates <= 8 * 4 * 2_000, "{series:?}");
}
