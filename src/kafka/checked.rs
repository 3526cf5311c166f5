//! Whether an answer is about what was asked, and does not contradict itself. One that is not is no fact about the topic: the
//! question is asked again.

use std::collections::BTreeSet;

use crate::kafka::protocol::fetch::FetchedPartition;
use crate::kafka::protocol::metadata::MetadataResponse;
use crate::kafka::start::Log;

/// The partitions that an answer lacks.
///
/// # Errors
/// When it names one that was not asked for, or one twice, with what is wrong.
pub(super) fn missing(asked: &[i32], answered: impl IntoIterator<Item = i32>) -> Result<BTreeSet<i32>, String> {
    let mut left: BTreeSet<i32> = asked.iter().copied().collect();
    for partition in answered {
        if !left.remove(&partition) {
            let what = if asked.contains(&partition) { "twice" } else { "and was not asked for it" };
            return Err(format!("it names partition {partition} {what}"));
        }
    }
    Ok(left)
}

/// What is wrong with the ends of a log, as its leader listed them: the start first, then the readable end, then the end.
pub(super) fn log_fault(log: Log) -> Option<String> {
    let Log { start, readable_end, end } = log;
    if start < 0 || readable_end < 0 || end < 0 {
        return Some(format!("a log from {start} to {readable_end} and {end}"));
    }
    // Each was asked for after the one before it, and a log only grows.
    (readable_end < start || end < readable_end).then(|| {
        format!("a log that ends before it starts or can be read to: from {start} to {readable_end} and {end}")
    })
}

/// What is wrong with a partition that was fetched without an error: the offsets of its log, or records of another place.
pub(super) fn fetch_fault(
    fetched: &FetchedPartition,
    fetch_offset: i64,
    isolation: i8,
    first_record: Option<i64>,
) -> Option<String> {
    let (end, readable, start) = (fetched.high_watermark, fetched.readable_end(isolation), fetched.log_start_offset);
    if end < 0 || readable < 0 {
        return Some(format!("its log ends at {end} and can be read to {readable}"));
    }
    if start > end {
        return Some(format!("its log starts at {start} and ends at {end}"));
    }
    if start > fetch_offset {
        return Some(format!("its log starts at {start}, and it answers for offset {fetch_offset}"));
    }
    if fetched.preferred_replica >= 0 && fetched.records.is_empty() {
        return Some(format!(
            "no records but a hint to read from broker {}, though no rack was given (see the broker's \
             replica.selector.class)",
            fetched.preferred_replica
        ));
    }
    // Compaction leaves gaps, but none beyond the end of the log.
    first_record
        .filter(|first| *first > end.max(fetch_offset))
        .map(|first| format!("records from offset {first} on for offset {fetch_offset}, and its log ends at {end}"))
}

/// What is wrong with an answer about topics: one is missing, there twice, or was not asked for; a broker or a partition is
/// there twice.
pub(super) fn metadata_fault(asked: &[&str], answer: &MetadataResponse) -> Option<String> {
    let mut brokers = BTreeSet::new();
    if let Some((node, ..)) = answer.brokers.iter().find(|(node, ..)| !brokers.insert(*node)) {
        return Some(format!("it lists broker {node} twice"));
    }
    if brokers.is_empty() {
        return Some("it lists no broker".to_owned());
    }
    let mut topics = BTreeSet::new();
    for topic in &answer.topics {
        if !asked.contains(&topic.name.as_str()) {
            return Some(format!("it is about the topic {:?}, which was not asked for", topic.name));
        }
        if !topics.insert(topic.name.as_str()) {
            return Some(format!("it is about the topic {} twice", topic.name));
        }
        let mut partitions = BTreeSet::new();
        for index in topic.partitions.iter().map(|partition| partition.index) {
            if index < 0 || !partitions.insert(index) {
                return Some(format!("it lists partition {index} of {} twice, or there is none such", topic.name));
            }
        }
    }
    asked.iter().find(|topic| !topics.contains(*topic)).map(|topic| format!("it says nothing of the topic {topic}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::protocol::metadata::{PartitionMetadata, TopicMetadata};

    #[test]
    fn an_answer_names_each_partition_that_was_asked_for_once() {
        assert_eq!(missing(&[3, 1], [1, 3]), Ok(BTreeSet::new()));
        assert_eq!(missing(&[3, 1], [3]), Ok(BTreeSet::from([1])));
        assert_eq!(missing(&[3, 1], []), Ok(BTreeSet::from([1, 3])));
        for (answered, what) in [(vec![3, 3, 1], "twice"), (vec![3, 1, 2], "not asked"), (vec![-1], "not asked")] {
            let fault = missing(&[3, 1], answered.clone()).expect_err(what);
            assert!(fault.contains(what), "{answered:?}: {fault}");
        }
    }

    #[test]
    fn logs_that_cannot_be() {
        let log = |start, readable_end, end| log_fault(Log { start, readable_end, end }).is_some();
        assert!(!log(0, 0, 0) && !log(5, 5, 9) && !log(5, 7, 9));
        assert!(log(-1, 5, 5) && log(0, -1, 5) && log(0, 0, -1) && log(6, 5, 7) && log(0, 8, 7));
    }

    #[test]
    fn fetched_partitions_that_cannot_be() {
        let fetched = |start, readable, end| FetchedPartition {
            partition: 0,
            error: 0,
            high_watermark: end,
            last_stable_offset: readable,
            log_start_offset: start,
            preferred_replica: -1,
            aborted: Vec::new(),
            records: 0..0,
        };
        let fault = |start, readable, end, at, first| fetch_fault(&fetched(start, readable, end), at, 1, first);
        assert_eq!(fault(0, 10, 10, 5, Some(3)), None, "a batch comes whole");
        assert_eq!(fault(0, 10, 10, 5, Some(9)), None, "compaction leaves gaps");
        assert_eq!(fault(0, 10, 10, 10, Some(10)), None, "written after the end was looked at");
        assert_eq!(fault(-1, 10, 10, 5, None), None, "old brokers do not tell the start");
        let hint = FetchedPartition { preferred_replica: 2, ..fetched(0, 10, 10) };
        assert!(fetch_fault(&hint, 5, 1, None).is_some(), "ignored, no record would ever come");
        for (start, readable, end, at, first) in [
            (0, 10, -1, 5, None),
            (0, -1, 10, 5, None),
            (11, 10, 10, 11, None),
            (6, 10, 10, 5, None),
            (0, 10, 10, 5, Some(11)),
        ] {
            assert!(fault(start, readable, end, at, first).is_some(), "{start} {readable} {end} {at} {first:?}");
        }
    }

    #[test]
    fn metadata_that_lacks_or_doubles() {
        let partition = |index| PartitionMetadata { error: 0, index, leader: 1, leader_epoch: 0 };
        let topic = |name: &str, indexes: &[i32]| TopicMetadata {
            error: 0,
            name: name.to_owned(),
            id: 7,
            partitions: indexes.iter().copied().map(partition).collect(),
        };
        let answer = |nodes: &[i32], topics: &[TopicMetadata]| MetadataResponse {
            brokers: nodes.iter().map(|node| (*node, "host".to_owned(), 9092)).collect(),
            cluster_id: None,
            topics: topics.to_vec(),
        };
        assert_eq!(metadata_fault(&["t"], &answer(&[1], &[topic("t", &[1, 0])])), None);
        let faults = [
            answer(&[], &[topic("t", &[0])]),
            answer(&[1, 1], &[topic("t", &[0])]),
            answer(&[1], &[]),
            answer(&[1], &[topic("u", &[0])]),
            answer(&[1], &[topic("t", &[0]), topic("u", &[0])]),
            answer(&[1], &[topic("t", &[0]), topic("t", &[0])]),
            answer(&[1], &[topic("t", &[0, 0])]),
            answer(&[1], &[topic("t", &[-1])]),
        ];
        for fault in &faults {
            assert!(metadata_fault(&["t"], fault).is_some(), "{fault:?}");
        }
    }
}
