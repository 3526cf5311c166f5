use super::*;

fn healthy(now: Instant) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.kafka.good_until = Some(now + Duration::from_secs(1));
    snapshot.insert.connected = true;
    snapshot
}

#[tokio::test(start_paused = true)]
async fn whatever_blocks_is_named_with_its_class() {
    let now = Instant::now();
    type Fault = fn(&mut Snapshot);
    let cases: [(Fault, Class, &str); 9] = [
        (|s| s.kafka.good_until = None, Class::Kafka, "Kafka: no answer yet"),
        (
            |s| (s.kafka.good_until, s.kafka.failure) = (None, Some("a:9092 refused".to_owned())),
            Class::Kafka,
            "Kafka: a:9092 refused",
        ),
        (|s| s.kafka.blocked = Some("topic t is missing".to_owned()), Class::Topic, "Kafka: topic t is missing"),
        (
            |s| {
                s.kafka.partitions.push(3);
                s.kafka.blocked_partitions.extend([(3, "too large".to_owned()), (4, "given away".to_owned())]);
            },
            Class::Partitions,
            "partition 3: too large",
        ),
        (|s| s.insert.connected = false, Class::ClickHouse, "ClickHouse: no answer yet"),
        (
            |s| (s.insert.connected, s.insert.failure) = (false, Some("b:8123 refused".to_owned())),
            Class::ClickHouse,
            "ClickHouse: b:8123 refused",
        ),
        (|s| s.insert.blocked = Some("no table".to_owned()), Class::Inserts, "ClickHouse: no table"),
        (|s| s.pipeline.blocked = Some("all bad".to_owned()), Class::Events, "events: all bad"),
        (|s| s.pipeline.letters_blocked = Some("no right".to_owned()), Class::DeadLetters, "dead letters: no right"),
    ];
    assert_eq!(healthy(now).reasons(now), []);
    for (fault, class, text) in cases {
        let mut snapshot = healthy(now);
        fault(&mut snapshot);
        let reasons = snapshot.reasons(now);
        assert_eq!(
            reasons.iter().map(|reason| (reason.class, reason.text())).collect::<Vec<_>>(),
            [(class, text.to_owned())]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_start_in_which_nothing_failed_waits() {
    let now = Instant::now();
    let waiting = |snapshot: &Snapshot| snapshot.reasons(now).iter().map(|reason| reason.waiting).collect::<Vec<_>>();
    let mut snapshot = Snapshot::default();
    assert_eq!(waiting(&snapshot), [true, true]);
    snapshot.kafka.failure = Some("refused".to_owned());
    assert_eq!(waiting(&snapshot), [false, true]);
    snapshot.kafka.failure = None;
    snapshot.kafka.good_until = Some(now);
    assert_eq!(waiting(&snapshot), [false, true], "it had answered before");
}
