//! What the real server cannot be made to do on demand: silence, half answers, connections cut under a request. A
//! scripted peer does it; every insert must still end as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "insert_faults/peer.rs"]
mod peer;

use std::time::{Duration, SystemTime};

use sandarb_consumer::clickhouse::inserter::Ended;
use sandarb_consumer::decode::{Origin, Place, Rows};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;

use peer::*;

#[tokio::test]
async fn whatever_is_not_a_whole_yes_is_sent_again_unchanged() {
    let mut peer = Peer::start(vec![
        Act::Silence,
        // A receive timeout on the server: only the header tells.
        Act::Answer(answer("200 OK", "X-ClickHouse-Exception-Code: 209\r\n", "")),
        Act::Answer(answer("200 OK", "X-ClickHouse-Summary: {\"written_rows\":\"2\"}\r\n", "")),
        Act::Answer(answer("200 OK", "", "")),
        // The last chunk never comes.
        Act::AnswerAndClose(
            "HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {\"written_rows\":\"3\"}\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
        ),
        Act::Answer(stored()),
    ])
    .await;
    let mut bench = Bench::new(&[peer.port]);
    assert_eq!(bench.stored_after().await, 6);
    let requests = peer.requests(6).await;
    let mut ids = std::collections::BTreeSet::new();
    for request in &requests {
        assert_eq!(request.body, bench.insert.block.body);
        assert_eq!(request.parameter("insert_deduplication_token"), "token");
        // Too short to be compressed, it lies in the first frame as it is; the URL does not have it.
        let statement = b"INSERT INTO `d`.`t` (`a`) FORMAT Native\n";
        assert!(request.body.windows(statement.len()).any(|part| part == statement));
        assert_eq!(request.parameter("query"), "");
        assert_eq!((request.parameter("async_insert"), request.parameter("decompress")), ("0", "1"));
        ids.insert(request.parameter("query_id").to_owned());
        let has = |name: &str| request.headers.iter().any(|line| line.starts_with(name));
        assert!(has("x-clickhouse-user: u") && has("host: 127.0.0.1:"));
        assert!(!has("expect") && !has("accept-encoding") && !has("x-clickhouse-key"), "{:?}", request.headers);
    }
    assert_eq!(ids.len(), 6, "one query id an attempt");
    let progress = bench.progress.borrow().clone();
    assert_eq!((progress.failed_attempts, progress.rows, progress.batches), (5, 3, 1));
    assert!(progress.connected && progress.blocked.is_none());
}

#[tokio::test]
async fn a_kept_connection_is_used_again_and_replaced_once_the_server_has_closed_it() {
    let mut peer = Peer::start(vec![Act::Answer(stored()), Act::AnswerAndClose(stored()), Act::Answer(stored())]).await;
    let mut bench = Bench::new(&[peer.port]);
    for _ in 0..3 {
        assert_eq!(bench.stored_after().await, 1, "a closed connection is no failed attempt");
    }
    peer.requests(3).await;
}

#[tokio::test]
async fn after_an_unknown_outcome_no_other_address_is_asked() {
    let mut first = Peer::start(vec![Act::AnswerAndClose(String::new()), Act::Silence, Act::Answer(stored())]).await;
    let mut second = Peer::start(vec![Act::Answer(stored())]).await;
    let mut bench = Bench::new(&[first.port, second.port]);
    assert_eq!(bench.stored_after().await, 3);
    first.requests(3).await;
    assert!(second.seen.try_recv().is_err());
}

#[tokio::test]
async fn while_rows_given_up_may_be_stored_nothing_goes_to_another_address() {
    let first = Peer::start(vec![Act::AnswerAndClose(String::new())]).await;
    let mut second = Peer::start(vec![Act::Answer(stored())]).await;
    let mut bench = Bench::new(&[first.port, second.port]);
    bench.stop.send_replace(true);
    let ended = bench.insert().await;
    assert!(matches!(ended, Ended::Forgotten { on_wire_unknown: true, .. }), "{ended:?}");
    bench.inserter.stay(true);
    for _ in 0..2 {
        assert!(bench.inserter.probe().await.is_err());
        assert!(bench.inserter.describe().await.is_err());
        let ended = bench.insert().await;
        assert!(matches!(ended, Ended::Forgotten { on_wire_unknown: false, .. }), "{ended:?}");
    }
    assert!(second.seen.try_recv().is_err());
    bench.inserter.stay(false);
    bench.stop.send_replace(false);
    assert_eq!(bench.stored_after().await, 2);
    second.requests(1).await;
}

/// A server's answers about a table as they were recorded, but for the engine: no server with a Keeper is at hand, so this
/// is all that is shown of replicated tables.
fn described(engine: &str) -> Vec<Act> {
    recorded(engine).iter().map(|rows| good(rows)).collect()
}

fn good(rows: &str) -> Act {
    Act::Answer(answer("200 OK", "", &format!("{rows}\n")))
}

/// The names of [`recorded`]'s settings.
const KNOWN: &str = r#""async_insert", "deduplicate_insert", "insert_deduplicate", "insert_deduplication_token",
 "max_insert_threads", "timeout_overflow_mode""#;

fn recorded(engine: &str) -> [String; 5] {
    let engine_full = format!("{engine}('/clickhouse/tables/{{uuid}}/{{shard}}', '{{replica}}') ORDER BY a");
    [
        r#"["a","String","","","","",""]"#.to_owned(),
        r#"[1, [[1,"a","String","",""]]]"#.to_owned(),
        format!(r#"["{engine}","{engine_full}","a"]"#),
        r#"["0"]"#.to_owned(),
        format!(r#"["26.9.2.1", 6, [{}]]"#, KNOWN.replace('\n', "")),
    ]
}

/// Answers that lack, double or contradict what was asked, by the place of the question.
const WRONG: [(usize, &str); 19] = [
    (0, ""),
    (0, "<html>Welcome</html>"),
    (0, "[\"a\",\"String\",\"\",\"\",\"\",\"\",\"\"]\n[\"a\",\"String\",\"\",\"\",\"\",\"\",\"\"]"),
    (1, "[2, [[1,\"a\",\"String\",\"\",\"\"],[2,\"b\",\"String\",\"\",\"\"]]]"),
    (0, "[1]"),
    (1, ""),
    (1, "[2, [[1,\"a\",\"String\",\"\",\"\"]]]"),
    (1, "[1, [[1,\"b\",\"String\",\"\",\"\"]]]"),
    (1, "[2, [[1,\"a\",\"String\",\"\",\"\"],[2,\"a\",\"String\",\"\",\"\"]]]"),
    (1, "[1, [[1,\"a\",\"String\",\"\",\"\"]]]\n[1, [[1,\"a\",\"String\",\"\",\"\"]]]"),
    (1, "[1, [[1,\"a\",\"Str"),
    (2, ""),
    (2, "[\"MergeTree\",\"\",\"\"]\n[\"Log\",\"\",\"\"]"),
    (3, ""),
    (3, "[\"many\"]"),
    (4, ""),
    (4, "[\"26.9.2.1\", 0, []]"),
    (4, "[\"26.9.2.1\", 2, [\"async_insert\"]]"),
    (4, "[\"26.9.2.1\", 3, [\"max_insert_threads\", \"insert_deduplicate\", \"insert_deduplicate\"]]"),
];

#[tokio::test]
async fn an_answer_about_the_table_that_is_none_to_the_question_is_asked_for_again() {
    let whole = recorded("MergeTree");
    for (at, wrong) in WRONG {
        let spoiled = || whole.iter().take(at).map(String::as_str).chain([wrong]).map(good);
        // Once: asked again, and then believed.
        let acts = spoiled().chain(described("MergeTree")).collect();
        let mut peer = Peer::start(acts).await;
        let mut bench = Bench::new(&[peer.port]);
        let schema = bench.inserter.describe().await.unwrap_or_else(|error| panic!("{at} {wrong}: {error}"));
        assert_eq!((schema.columns.len(), schema.takes_token), (1, true), "{at} {wrong}");
        assert!(bench.progress.borrow().connected && bench.progress.borrow().blocked.is_none());
        peer.requests(at + 1 + whole.len()).await;
    }
    // Each time: an error that names the question and what is wrong, and a reason to be unhealthy.
    let peer =
        Peer::start((0..3).flat_map(|_| [good(&whole[0]), good("[0, [[1,\"a\",\"String\",\"\",\"\"]]]")]).collect())
            .await;
    let mut bench = Bench::new(&[peer.port]);
    let error = bench.inserter.describe().await.unwrap_err().to_string();
    assert!(error.contains("system.columns") && error.contains("it counts 0 and has 1"), "{error}");
    let blocked = bench.progress.borrow().blocked.clone().unwrap();
    assert!(blocked.contains("it counts 0 and has 1"), "{blocked}");
}

#[tokio::test]
async fn a_probe_believes_nobody_but_clickhouse() {
    for wrong in ["", "<html>Welcome</html>", "2\n", "1\n1\n"] {
        let _peer = Peer::start(vec![Act::Answer(answer("200 OK", "", wrong))]).await;
        let mut bench = Bench::new(&[_peer.port]);
        assert!(bench.inserter.probe().await.is_err(), "{wrong}");
        assert!(!bench.progress.borrow().connected, "{wrong}");
    }
}

#[tokio::test]
async fn json_columns_need_a_server_that_takes_their_texts() {
    for (version, taken) in [("24.12.6.70", false), ("23.6.1", false), ("25.1.3.23", true), ("head", true)] {
        let mut rows = recorded("MergeTree");
        rows[1] = rows[1].replace("String", "JSON(max_dynamic_paths=8)");
        rows[4] = rows[4].replace("26.9.2.1", version);
        let peer = Peer::start(rows.iter().map(|rows| good(rows)).collect()).await;
        let mut bench = Bench::new(&[peer.port]);
        let described = bench.inserter.describe().await;
        assert_eq!(described.is_ok(), taken, "{version}");
        if let Err(error) = described {
            let text = error.to_string();
            assert!(text.contains("column a") && text.contains(version) && text.contains("25.1"), "{text}");
        }
    }
}

#[tokio::test]
async fn replicas_share_their_tokens_so_any_address_may_be_asked_after_an_unknown_outcome() {
    for (engine, dedup) in
        [("ReplicatedMergeTree", "replicated"), ("SharedReplacingMergeTree", "replicated"), ("MergeTree", "off")]
    {
        let mut acts = described(engine);
        acts.push(Act::AnswerAndClose(String::new()));
        acts.push(Act::Answer(stored()));
        let mut first = Peer::start(acts).await;
        let mut second = Peer::start(vec![Act::Answer(stored())]).await;
        let mut bench = Bench::new(&[first.port, second.port]);
        let schema = bench.inserter.describe().await.unwrap();
        assert_eq!(schema.dedup.to_string(), dedup, "{engine}");
        assert_eq!(bench.progress.borrow().dedup.as_deref(), Some(dedup));
        let mut rows = Rows::new(&schema, Origin { cluster_id: "c".to_owned(), topic: "t".to_owned() });
        for offset in 0..3 {
            rows.push(&Place { partition: 0, offset, timestamp_ms: -1 }, br#"{"a": "x"}"#).unwrap();
        }
        bench.insert.block = rows.encode(SystemTime::now());
        assert_eq!(bench.stored_after().await, 2, "{engine}");
        let mut asked = first.requests(if dedup == "off" { 7 } else { 6 }).await;
        let again = if dedup == "off" { asked.pop().unwrap() } else { second.requests(1).await.remove(0) };
        let lost = asked.pop().unwrap();
        assert_eq!(again.body, lost.body, "the same bytes");
        let token = "insert_deduplication_token";
        assert_eq!((again.parameter(token), lost.parameter(token)), ("token", "token"));
        assert_eq!(again.parameter("insert_deduplicate"), "1");
    }
}

#[tokio::test]
async fn after_a_definite_refusal_another_address_is_asked() {
    // Bound and not listening: refused for as long as the test holds it.
    let refusing = tokio::net::TcpSocket::new_v4().unwrap();
    refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut second = Peer::start(vec![Act::Answer(stored())]).await;
    let mut bench = Bench::new(&[refusing.local_addr().unwrap().port(), second.port]);
    assert_eq!(bench.stored_after().await, 2);
    second.requests(1).await;
}

#[tokio::test]
async fn pauses_end_with_the_membership_and_with_the_process() {
    let busy = || {
        let body = "Code: 202. DB::Exception: Too many simultaneous queries";
        Act::Answer(answer(
            "500 Internal Server Error",
            "Retry-After: 100\r\nX-ClickHouse-Exception-Code: 202\r\n",
            body,
        ))
    };
    for by_stop in [true, false] {
        let mut peer = Peer::start(vec![busy()]).await;
        let mut bench = Bench::new(&[peer.port]);
        let (tenure, stop, mut progress) = (bench.tenure.clone(), bench.stop.clone(), bench.progress.clone());
        let end = async {
            progress.wait_for(|progress| progress.failed_attempts == 1).await.unwrap();
            if by_stop {
                stop.send_replace(true);
            } else {
                tenure.send_modify(|tenure| tenure.epoch += 1);
            }
        };
        let started = Instant::now();
        let (ended, ()) = tokio::join!(bench.insert(), end);
        assert!(matches!(ended, Ended::Forgotten { on_wire_unknown: false, .. }), "{ended:?}");
        assert!(started.elapsed() < Duration::from_secs(30), "the pause asked for was 100 s");
        peer.requests(1).await;
    }
}

#[tokio::test]
async fn the_pause_a_server_asks_for_is_kept() {
    let mut peer =
        Peer::start(vec![Act::Answer(answer("503 Busy", "Retry-After: 2\r\n", "busy")), Act::Answer(stored())]).await;
    let mut bench = Bench::new(&[peer.port]);
    let started = Instant::now();
    assert_eq!(bench.stored_after().await, 2);
    assert!(started.elapsed() >= Duration::from_secs(2));
    peer.requests(2).await;
}

#[tokio::test]
async fn a_definite_refusal_while_stopping_ends_it_at_once() {
    let refusing = tokio::net::TcpSocket::new_v4().unwrap();
    refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut bench = Bench::new(&[refusing.local_addr().unwrap().port()]);
    bench.stop.send_replace(true);
    let ended = bench.insert().await;
    assert!(matches!(ended, Ended::Forgotten { on_wire_unknown: false, .. }), "{ended:?}");
    assert_eq!(bench.progress.borrow().failed_attempts, 1, "one attempt is made, and no other");
}

#[tokio::test]
async fn an_unknown_outcome_is_found_out_while_stopping() {
    let refused = || {
        let body = "Code: 202. DB::Exception: Too many simultaneous queries";
        let headers = "Retry-After: 100\r\nX-ClickHouse-Exception-Code: 202\r\n";
        Act::Answer(answer("500 Internal Server Error", headers, body))
    };
    // The first attempt may have stored the rows: neither the refusals nor the pauses they ask for end it.
    let mut peer = Peer::start(vec![Act::Silence, refused(), refused(), Act::Answer(stored())]).await;
    let mut bench = Bench::new(&[peer.port]);
    bench.stop.send_replace(true);
    let started = Instant::now();
    assert_eq!(bench.stored_after().await, 4);
    assert!(started.elapsed() < Duration::from_secs(50), "the pauses asked for were 100 s each");
    for request in peer.requests(4).await {
        assert_eq!(request.body, bench.insert.block.body);
    }
}

#[tokio::test]
async fn a_long_pause_is_cut_short_when_an_unknown_outcome_is_waited_for() {
    let busy = answer("503 Busy", "Retry-After: 100\r\n", "busy");
    let mut peer = Peer::start(vec![Act::Answer(busy), Act::Answer(stored())]).await;
    let mut bench = Bench::new(&[peer.port]);
    let (stop, mut progress) = (bench.stop.clone(), bench.progress.clone());
    let end = async {
        progress.wait_for(|progress| progress.failed_attempts == 1).await.unwrap();
        stop.send_replace(true);
    };
    // Without the stop the pause alone would outlast the bench's limit.
    let (attempts, ()) = tokio::join!(bench.stored_after(), end);
    assert_eq!(attempts, 2);
    peer.requests(2).await;
}

#[tokio::test]
async fn an_unknown_outcome_is_given_up_once_nobody_has_listened_for_a_while() {
    let mut peer = Peer::start(vec![Act::Silence]).await;
    let mut bench = Bench::new(&[peer.port]);
    bench.stop.send_replace(true);
    let started = Instant::now();
    let ended = bench.insert().await;
    assert!(matches!(ended, Ended::Forgotten { on_wire_unknown: true, .. }), "{ended:?}");
    assert!(started.elapsed() >= Duration::from_millis(3_500), "the request's own limit, then 3 s of refusals");
    assert!(bench.progress.borrow().failed_attempts > 3, "tried on meanwhile");
    peer.requests(1).await;
}

/// Answers each connection once the first bytes are there, and closes without reading the rest, which resets it.
async fn interrupting(text: String) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn what_a_server_says_before_it_closes_is_read_although_writing_fails() {
    let refused = "Code: 516. DB::Exception: u: Authentication failed: password is incorrect";
    let said = answer("403 Forbidden", "X-ClickHouse-Exception-Code: 516\r\nConnection: close\r\n", refused);
    let gateway = answer("400 Bad Request", "Connection: close\r\n", "Bad request");
    for (text, words) in [(said, "Authentication failed"), (gateway, "HTTP status 400")] {
        let mut bench = Bench::new(&[interrupting(text).await]);
        // More than the sockets between the two take.
        bench.insert.block.body = vec![7; 32 << 20].into();
        bench.stop.send_replace(true);
        let ended = bench.insert().await;
        assert!(
            matches!(ended, Ended::Forgotten { on_wire_unknown: false, .. }),
            "a body that did not go out whole cannot be stored: {ended:?}"
        );
        let progress = bench.progress.borrow().clone();
        let failure = progress.failure.unwrap();
        assert!(failure.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn codes_that_are_no_one_number_confirm_nothing() {
    let stored = "X-ClickHouse-Summary: {\"written_rows\":\"3\"}\r\n";
    let headers = [
        "X-ClickHouse-Exception-Code: -1\r\n",
        "X-ClickHouse-Exception-Code: 99999999999\r\n",
        "X-ClickHouse-Exception-Code: \r\n",
        "X-ClickHouse-Exception-Code: 0\r\n",
        "X-ClickHouse-Exception-Code: 389\r\nX-ClickHouse-Exception-Code: 209\r\n",
        "X-ClickHouse-Summary: {\"written_rows\":\"0\"}\r\n",
    ];
    let mut acts: Vec<_> =
        headers.iter().map(|more| Act::Answer(answer("200 OK", &format!("{stored}{more}"), ""))).collect();
    acts.push(Act::Answer(answer("200 OK", "X-ClickHouse-Summary: {\"written_rows\":\"3\"}\r\n", "")));
    let mut peer = Peer::start(acts).await;
    let mut bench = Bench::new(&[peer.port]);
    let attempts = u32::try_from(headers.len()).unwrap() + 1;
    assert_eq!(bench.stored_after().await, attempts);
    peer.requests(headers.len() + 1).await;
}

/// Answers each insert with what the query id before it would have been given.
#[tokio::test]
async fn the_answer_to_an_earlier_insert_confirms_no_other() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut ids: Vec<String> = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            while let Some(request) = read(&mut stream).await {
                ids.push(request.parameter("query_id").to_owned());
                // The second request gets the first one's answer once more.
                let of = if ids.len() == 2 { &ids[0] } else { &ids[ids.len() - 1] };
                let headers =
                    format!("X-ClickHouse-Query-Id: {of}\r\nX-ClickHouse-Summary: {{\"written_rows\":\"3\"}}\r\n");
                stream.write_all(answer("200 OK", &headers, "").as_bytes()).await.unwrap();
            }
        }
    });
    let mut bench = Bench::new(&[port]);
    assert_eq!(bench.stored_after().await, 1);
    assert_eq!(bench.stored_after().await, 2, "the first answer once more is none to the second insert");
}
