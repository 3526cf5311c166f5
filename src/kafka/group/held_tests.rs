use std::collections::BTreeMap;

use super::*;
use crate::kafka::group::Committed;
use crate::part::{parse, plan};

fn identity() -> Identity {
    Identity { member_id: "m".into(), generation: 3 }
}

/// Partitions 0 and 1 committed at 10, the first with this note; 2 without a commit.
fn held(note: &str) -> Held {
    let at = |text: &str| Some(Committed { offset: 10, leader_epoch: 4, note: CommitNote::parse(text) });
    let partitions = BTreeMap::from([(0, at(note)), (1, at("partitions=3;topic=7")), (2, None)]);
    let assignment =
        Assignment { generation: 3, topic_id: 7, partition_count: 3, known_partition_count: Some(3), partitions };
    Held::new(assignment, Instant::now())
}

fn intent(offsets: &[(i32, i64)], parts: Option<&str>) -> Intent {
    let parts = parts.map(|text| parse(text).unwrap());
    Intent {
        epoch: 1,
        offsets: offsets.iter().copied().collect(),
        epochs: BTreeMap::new(),
        parts,
        drained: false,
        look: false,
        leave: false,
    }
}

/// What is committed next: partition, offset, and the parts in the note.
fn step(held: &Held, intent: &Intent) -> Vec<(i32, i64, String)> {
    match commit_step(intent, 1, &identity(), held, Instant::now()) {
        Some(Step::Commit { partitions, .. }) => partitions
            .into_iter()
            .map(|commit| {
                let parts = commit.metadata.split_once(PARTS).map_or("", |(_, parts)| parts);
                (commit.partition, commit.offset, parts.to_owned())
            })
            .collect(),
        None => Vec::new(),
        Some(other) => panic!("{other:?}"),
    }
}

fn take(held: &mut Held, intent: &Intent) {
    for (partition, offset, _) in step(held, intent) {
        held.took(intent, 1, partition, offset);
    }
    assert!(held.is_clean(intent, 1));
}

fn of(partition: i32, offset: i64, parts: &str) -> (i32, i64, String) {
    (partition, offset, parts.to_owned())
}

#[test]
fn what_is_in_doubt_is_noted_beside_unchanged_offsets_and_goes_when_they_pass_it() {
    let mut held = held("partitions=3;topic=7");
    assert_eq!(step(&held, &intent(&[], None)), []);
    let doubt = "0:a+5,1:a+2";
    let noted = intent(&[], Some(doubt));
    assert_eq!(step(&held, &noted), [of(0, 10, doubt), of(1, 10, doubt)]);
    take(&mut held, &noted);
    // One is stored but for the letters of partition 1.
    let passed = intent(&[(0, 15)], Some(doubt));
    assert_eq!(step(&held, &passed), [of(0, 15, "")]);
    take(&mut held, &passed);
    let both = intent(&[(0, 15), (1, 12)], Some(doubt));
    assert_eq!(step(&held, &both), [of(1, 12, "")]);
    take(&mut held, &both);
    assert!(
        !held.is_clean(&intent(&[(2, 4)], Some("2:4+1")), 1),
        "a partition without a commit gets one with its note"
    );
}

#[test]
fn a_note_that_was_found_stays_until_its_parts_are_passed_or_told_anew() {
    let found = "partitions=3;topic=7;parts=0:a+5,1:a+2/0:f+1";
    let mut held = held(found);
    assert_eq!(step(&held, &intent(&[(0, 10), (1, 10)], None)), [], "the start that is committed wipes nothing");
    assert_eq!(step(&held, &intent(&[(0, 10)], Some("0:a+1/0:b+4"))), [of(0, 10, "0:a+1/0:b+4")], "found in parts");
    let passed = intent(&[(0, 15)], None);
    assert_eq!(step(&held, &passed), [of(0, 15, "0:f+1")], "the second is open still");
    take(&mut held, &passed);
    assert_eq!(step(&held, &intent(&[(0, 16)], None)), [of(0, 16, "")]);
    assert_eq!(step(&held, &Intent { epoch: 2, ..intent(&[(0, 16)], Some("0:g+1")) }), [], "of another epoch");
}

#[test]
fn what_a_note_cannot_be_used_for() {
    for (note, useless, open) in [
        ("partitions=3;topic=7;parts=0:a+5", false, true),
        ("partitions=3;topic=0;parts=0:a+5", false, true),
        ("partitions=3;topic=8;parts=0:a+5", true, false),
        ("partitions=3;topic=8", false, false),
        ("partitions=3;topic=7;parts=0:a", true, false),
        ("partitions=3;topic=7;parts=0:5+9", false, false),
        ("hello;parts=0:a+5", false, false),
    ] {
        let held = held(note);
        assert_eq!(held.assignment.useless_notes(), if useless { vec![0] } else { vec![] }, "{note}");
        assert_eq!(plan(&held.assignment.noted()).is_some(), open, "{note}");
        assert_eq!(held.committed[&0].parts.is_empty(), !open, "{note}");
    }
}

#[test]
fn notes_that_are_too_long_go_without_their_parts() {
    let mut held = held("partitions=3;topic=7");
    let long: Vec<String> = (0..2000).map(|at| format!("0:{}+1", 1000 + at)).collect();
    let noted = intent(&[], Some(&long.join("/")));
    assert_eq!(step(&held, &noted), [of(0, 10, "")], "nobody is kept from joining");
    take(&mut held, &noted);
    // A broker with a smaller limit says so.
    let noted = intent(&[(0, 11)], Some("0:b+1"));
    let Some(Step::Commit { partitions, .. }) = commit_step(&noted, 1, &identity(), &held, Instant::now()) else {
        panic!("nothing to commit")
    };
    held.shorten_notes(&partitions);
    assert_eq!(held.notes, Notes::Short);
    held.shorten_notes(&partitions);
    assert_eq!(held.notes, Notes::Off);
    assert_eq!(held.note(Vec::new()), "");
}
