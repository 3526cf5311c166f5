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
    let bare = Answer { status: 200, code: Some(209), ..Answer::default() };
    let failure = Failure::of_insert(&bare, 10).expect("a failure");
    assert_eq!((failure.outcome, failure.nothing_stored), (Outcome::Retry, false));
    assert_eq!(failure.cause.to_string(), "ClickHouse says exception code 209, without a text");
    assert!(Failure::of_insert(&answer(500, 389, "deduplicated"), 10).is_none());
}

/// All of these numbers mean this, whatever HTTP status comes with them.
fn all(codes: &[u32], text: &str, expected: (Outcome, bool)) {
    for code in codes {
        for status in [400, 404, 500, 503] {
            assert_eq!(outcome(status, *code, text), expected, "code {code}, status {status}, {text:?}");
        }
        // After a 200 the server had begun: how far it came is unknown.
        assert_eq!(outcome(200, *code, text), (expected.0, false), "code {code} in a 200");
    }
}

#[test]
fn the_table_has_changed() {
    all(&[8, 10, 16, 20, 44, 47, 50, 53, 70], "no such column", (Outcome::SchemaChanged, false));
    all(&[117], "Unknown column with name x", (Outcome::SchemaChanged, false));
}

#[test]
fn what_no_kind_of_service_fault_names_may_be_the_rows() {
    let codes = [6, 32, 36, 38, 41, 43, 48, 49, 62, 69, 72, 117, 130, 153, 190, 321, 349, 395, 407, 691, 1001, 987_654];
    all(&codes, "Cannot parse", (Outcome::BadRows, false));
    all(&[252], "Too many partitions for single INSERT block", (Outcome::BadRows, true));
}

#[test]
fn a_violated_constraint_names_its_row_and_is_seen_before_anything_is_written() {
    let text =
        "Constraint `c` for table x.t (f808bcd3) is violated at row 7. Expression: (b != 0). Column values: b = 0.";
    all(&[469], text, (Outcome::BadRows, true));
    let failure = |text: &str| Failure::of_insert(&answer(500, 469, text), 10).expect("a failure");
    assert_eq!(failure(text).named_row(), Some(6));
    for (text, row) in [
        ("is violated at row 1", Some(0)),
        ("is violated at row 0", None),
        ("is violated at row", None),
        ("is violated at row 99999999999999999999999", None),
        ("is violated", None),
    ] {
        assert_eq!(failure(text).named_row(), row, "{text}");
    }
    // On a shard: others may have stored theirs.
    let shard = format!("{text} Insertion status:");
    assert_eq!(outcome(500, 469, &shard), (Outcome::BadRows, false));
    assert!(failure(&shard).is_of_a_shard() && !failure(text).is_of_a_shard());
}

#[test]
fn the_server_has_enough_for_now() {
    all(&[201, 202, 203, 252, 290, 700, 745, 749], "Too many parts (3000)", (Outcome::Overloaded, true));
    all(&[241, 364, 439, 574, 692], "Memory limit", (Outcome::Overloaded, false));
}

#[test]
fn a_person_must_act() {
    let codes = [60, 81, 115, 164, 192, 193, 194, 195, 218, 452, 497, 516, 701, 720, 741];
    all(&codes, "not allowed", (Outcome::Misconfigured, true));
}

#[test]
fn it_may_pass_and_the_rows_may_be_stored() {
    // Time limits and networks; Keeper, replicas and shutdowns; disk and memory of the system.
    all(&[159, 160, 209, 210, 198, 279, 519, 95, 96, 425, 412], "timeout", (Outcome::Retry, false));
    let keeper = [999, 225, 242, 244, 254, 285, 286, 289, 415, 529, 473, 236, 394, 734, 735, 341, 738, 384];
    all(&keeper, "session expired", (Outcome::Retry, false));
    all(&[243, 173, 76, 74, 75, 499, 1000], "no space", (Outcome::Retry, false));
    // The server says itself that it does not know; an earlier attempt still runs.
    all(&[319, 659, 216], "unknown status", (Outcome::Retry, false));
    // A body that was damaged on the way.
    all(&[271, 40, 354, 561, 618, 89], "checksum", (Outcome::Retry, false));
}

#[test]
fn the_words_of_a_view_count_at_the_end_of_a_text_only() {
    let text =
        "Cannot parse string ': while pushing to view x.v' as UInt32: syntax error. (CANNOT_PARSE_TEXT) (version 1)";
    assert_eq!(outcome(400, 6, text), (Outcome::BadRows, false), "they are a row's own");
    let text =
        "Division by zero: while pushing to view x.v2: while pushing to view `a b`.v1. (ILLEGAL_DIVISION) (version 1)";
    assert_eq!(outcome(500, 153, text), (Outcome::Misconfigured, false));
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
    let silent = Failure::from(ClientError::Timeout { address, limit, cut: None });
    assert_eq!((silent.outcome, silent.nothing_stored), (Outcome::Retry, false));
    assert!(!silent.is_contact());
}

#[test]
fn the_end_of_a_quota_is_waited_for() {
    let text = "Code: 201. DB::Exception: Quota for user `u` for 3600s has been exceeded: written_bytes = 9/5. Interval will \
                end at 2026-03-01 12:00:00. Name of quota template: `q`. (QUOTA_EXCEEDED)";
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(quota_ends_in(text, at(1_772_366_400 - 90)), Some(Duration::from_secs(91)));
    let answered_late = at(1_772_366_400) + Duration::from_millis(250);
    assert_eq!(quota_ends_in(text, answered_late), Some(Duration::from_millis(750)), "it ends within this second");
    assert_eq!(quota_ends_in(text, at(1_772_366_400 + 2)), None, "it has ended");
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

#[test]
fn what_did_not_go_out_whole_is_not_stored() {
    let address = "127.0.0.1:1".parse().unwrap();
    let limit = Duration::from_secs(1);
    let timeout = |cut| Failure::from(ClientError::Timeout { address, limit, cut }).nothing_stored;
    assert!(!timeout(None) && timeout(Some(None)));
    for (status, cut, nothing_stored) in [
        (413, false, true),
        (414, false, true),
        (431, false, true),
        (400, false, false),
        (400, true, true),
        (502, true, true),
    ] {
        let answer = Answer { status, cut, sent: 7_340_032, ..Answer::default() };
        let failure = Failure::of_insert(&answer, 1).unwrap();
        assert_eq!(failure.nothing_stored, nothing_stored, "{status} {cut}");
        if status == 413 {
            assert!(failure.to_string().contains("7340032 bytes") && failure.cure().contains("BATCH_SIZE"));
        }
    }
    let early = Answer { status: 200, cut: true, written_rows: Some(1), ..Answer::default() };
    let failure = Failure::of_insert(&early, 1).expect("no success before the end");
    assert!(failure.nothing_stored && !failure.is_unconfirmed());
}
