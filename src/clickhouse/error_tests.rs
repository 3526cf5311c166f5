use super::*;
use crate::config::HostPort;
use crate::net::ConnectError;
use crate::net::dial::DialError;

fn answer(status: u16, code: u32, text: &str) -> Answer {
    Answer { status, code: Some(code), text: format!("Code: {code}. DB::Exception: {text}"), ..Answer::default() }
}

fn outcome(status: u16, code: u32, text: &str) -> (Outcome, bool) {
    let failure = Failure::of_insert(&answer(status, code, text), 10).expect("a failure");
    assert_eq!(failure.code(), Some(code));
    assert!(!failure.cure().is_empty());
    (failure.outcome, failure.nothing_stored)
}

#[test]
fn stored_needs_everything() {
    let good = Answer { status: 200, written_rows: Some(10), ..Answer::default() };
    assert!(Failure::of_insert(&good, 10).is_none());
    let views = Answer { written_rows: Some(30), ..good.clone() };
    assert!(Failure::of_insert(&views, 10).is_none(), "materialized views add their rows");
    for bad in [
        Answer { written_rows: Some(9), ..good.clone() },
        Answer { written_rows: None, ..good.clone() },
        Answer { text: "x".to_owned(), ..good.clone() },
    ] {
        let failure = Failure::of_insert(&bad, 10).expect("a failure");
        assert!(matches!(failure.cause, Cause::Unconfirmed { sent: 10, .. }));
        assert_eq!((failure.outcome, failure.nothing_stored), (Outcome::Retry, false));
    }
    // A receive timeout on the server: 200, empty body, and only the header tells.
    assert_eq!(outcome(200, 209, "timeout"), (Outcome::Retry, false));
    assert!(Failure::of_insert(&answer(500, 389, "deduplicated"), 10).is_none());
}

#[test]
fn each_class_by_number() {
    assert_eq!(outcome(500, 16, "no such column"), (Outcome::SchemaChanged, true));
    assert_eq!(outcome(400, 117, "Unknown column with name x"), (Outcome::SchemaChanged, true));
    assert_eq!(outcome(400, 117, "Cannot parse object"), (Outcome::BadRows, true));
    assert_eq!(outcome(500, 469, "Constraint"), (Outcome::BadRows, true));
    assert_eq!(outcome(200, 469, "Constraint"), (Outcome::BadRows, false));
    assert_eq!(outcome(500, 252, "Too many partitions for single INSERT block"), (Outcome::BadRows, true));
    assert_eq!(outcome(500, 252, "Too many parts (3000)"), (Outcome::Overloaded, true));
    assert_eq!(outcome(500, 241, "Memory limit"), (Outcome::Overloaded, false));
    assert_eq!(outcome(403, 516, "Authentication failed"), (Outcome::Misconfigured, true));
    assert_eq!(outcome(404, 60, "no table"), (Outcome::Misconfigured, true));
    assert_eq!(outcome(500, 319, "unknown status"), (Outcome::Retry, false));
    assert_eq!(outcome(500, 271, "checksum"), (Outcome::Retry, false));
    for unproven in [49, 1001, 987_654] {
        assert_eq!(outcome(500, unproven, "?"), (Outcome::Retry, false), "never bisected");
    }
}

#[test]
fn a_failing_view_is_asked_for_before_the_code() {
    for code in [395, 469, 252, 16] {
        let text = "Too many partitions for single INSERT block: while pushing to view sandarb.daily_kpis";
        assert_eq!(outcome(500, code, text), (Outcome::Misconfigured, false));
    }
}

#[test]
fn answers_of_others() {
    let judge = |status| {
        let failure = Failure::of_insert(&Answer { status, ..Answer::default() }, 1).expect("a failure");
        (failure.outcome, failure.nothing_stored, failure.is_contact())
    };
    assert_eq!(judge(502), (Outcome::Retry, false, false));
    assert_eq!(judge(400), (Outcome::Retry, false, false));
    assert_eq!(judge(429), (Outcome::Overloaded, false, false));
    assert_eq!(judge(302), (Outcome::Misconfigured, false, false));
}

#[test]
fn only_what_was_never_sent_is_known_to_have_stored_nothing() {
    let host = HostPort { host: "db".to_owned(), port: 8123 };
    let limit = Duration::from_secs(1);
    let refused = Failure::from(ClientError::from(ConnectError::Dial(DialError::ResolveTimedOut { host, limit })));
    assert_eq!((refused.outcome, refused.nothing_stored), (Outcome::Retry, true));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8123));
    let silent = Failure::from(ClientError::Timeout { address, limit });
    assert_eq!((silent.outcome, silent.nothing_stored), (Outcome::Retry, false));
    assert!(!silent.is_contact());
}

#[test]
fn the_end_of_a_quota_is_waited_for() {
    let text = "Code: 201. DB::Exception: Quota for user `u` for 3600s has been exceeded: written_bytes = 9/5. Interval will \
                end at 2026-03-01 12:00:00. Name of quota template: `q`. (QUOTA_EXCEEDED)";
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(quota_ends_in(text, at(1_772_366_400 - 90)), Some(Duration::from_secs(91)));
    assert_eq!(quota_ends_in(text, at(1_772_366_400 + 1)), None, "it has ended");
    assert_eq!(quota_ends_in("Interval will end at soon", at(0)), None);
    assert_eq!(quota_ends_in("no such words", at(0)), None);
}

#[test]
fn too_many_partitions_are_no_fault_of_single_rows() {
    let text = "Too many partitions for single INSERT block (more than 100)";
    let failure = |code, text| Failure::of_insert(&answer(500, code, text), 1).expect("a failure");
    assert!(!failure(252, text).blames_rows());
    assert!(failure(469, "Constraint").blames_rows());
}
