use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::config::HealthHttpStatus;
use crate::progress::{InsertProgress, KafkaProgress, PipelineProgress, Progress};
use crate::reason_log::Standing;

/// A running server and the ends that feed it.
struct Fixture {
    address: SocketAddr,
    kafka: watch::Sender<KafkaProgress>,
    insert: watch::Sender<InsertProgress>,
    _pipeline: watch::Sender<PipelineProgress>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

async fn start(http_status: HealthHttpStatus) -> Fixture {
    let (kafka, kafka_end) = watch::channel(KafkaProgress {
        good_until: Some(Instant::now() + Duration::from_secs(3600)),
        ..KafkaProgress::default()
    });
    let (insert, insert_end) = watch::channel(InsertProgress { connected: true, ..InsertProgress::default() });
    let (pipeline, pipeline_end) = watch::channel(PipelineProgress::default());
    let (_, stall) = watch::channel(Duration::ZERO);
    let progress = Progress { kafka: kafka_end, insert: insert_end, pipeline: pipeline_end, stall };
    let (stop, stop_end) = watch::channel(false);
    let listener = bind(0).await.unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()));
    let server = tokio::spawn(serve(
        listener,
        Health::new(progress, watch::channel(Standing::default()).1, http_status),
        stop_end,
    ));
    Fixture { address, kafka, insert, _pipeline: pipeline, stop, server }
}

impl Fixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Head and body of the answer to one request.
    async fn ask(&self, request: &str) -> (String, String) {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        split(&until_closed(&mut stream).await)
    }

    async fn get(&self, path: &str) -> (String, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }
}

/// What comes until the server closes, in good order or not.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read =
        timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.expect("the server keeps it open");
    if let Err(error) = read {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads one answer of a connection that stays open.
async fn one_answer(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let count = timeout(Duration::from_secs(20), stream.read_buf(&mut bytes)).await.expect("no answer").unwrap();
        assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

fn split(answer: &str) -> (String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn healthy() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let (head, body) = fixture.get("/health").await;
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
    assert!(body.starts_with("{\"status\": \"healthy\", \"kafka_connected\": true, "), "{body}");
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ok\n")] {
        let (head, body) = fixture.get(path).await;
        assert!(head.starts_with("http/1.1 200 ") && head.contains("text/plain; charset=utf-8"), "{head}");
        assert_eq!(body, text);
    }
    let (head, body) = fixture.get("/status").await;
    assert!(head.starts_with("http/1.1 200 ") && head.contains("application/json"), "{head}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["status"], "healthy");
}

#[tokio::test]
async fn unhealthy() {
    let fixture = start(HealthHttpStatus::Strict).await;
    fixture.kafka.send_modify(|kafka| kafka.blocked = Some("topic t is missing".to_owned()));
    fixture.insert.send_modify(|insert| insert.connected = false);
    let (head, body) = fixture.get("/health").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(body.contains("\"status\": \"unhealthy\"") && body.contains("\"clickhouse_connected\": false"), "{body}");
    let (head, body) = fixture.get("/readyz").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "Kafka: topic t is missing\nClickHouse: no answer yet\n");
    let (head, _) = fixture.get("/livez").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let (head, _) = fixture.get("/status").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

#[tokio::test]
async fn always200_speaks_for_health_alone() {
    let fixture = start(HealthHttpStatus::Always200).await;
    fixture.insert.send_modify(|insert| insert.connected = false);
    let (head, body) = fixture.get("/health").await;
    assert!(head.starts_with("http/1.1 200 ") && body.contains("\"unhealthy\""), "{head} {body}");
    assert!(fixture.get("/readyz").await.0.starts_with("http/1.1 503 "));
}

#[tokio::test]
async fn head_has_the_head_of_get_and_no_body() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let (_, body) = fixture.get("/health").await;
    let (head, nothing) = fixture.ask("HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert_eq!(nothing, "");
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let fixture = start(HealthHttpStatus::Strict).await;
    for path in ["/", "/healthz", "/health/", "//health"] {
        let (head, body) = fixture.get(path).await;
        assert!(head.starts_with("http/1.1 404 "), "{path}: {head}");
        assert_eq!(body, "there are /health, /livez, /readyz, /status and /metrics\n");
    }
    let (head, _) = fixture.get("/health?verbose=1").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request = format!("{method} /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let (head, body) = fixture.ask(&request).await;
        assert!(head.starts_with("http/1.1 405 ") && head.contains("\r\nallow: get, head\r\n"), "{method}: {head}");
        assert_eq!(body, "only GET and HEAD\n");
    }
}

#[tokio::test]
async fn http_1_0_and_keep_alive() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let (head, body) = fixture.ask("GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("http/1.0 200 ") && body == "ok\n", "{head}");
    let mut stream = fixture.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(one_answer(&mut stream, "ok\n").await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn a_flood_of_headers_is_cut_off() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let mut stream = fixture.connect().await;
    let (mut reader, mut writer) = stream.split();
    let flood = async {
        writer.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n").await?;
        let line = format!("X-Flood: {}\r\n", "a".repeat(1000));
        for _ in 0..100_000 {
            writer.write_all(line.as_bytes()).await?;
        }
        Ok::<(), io::Error>(())
    };
    let answer = async {
        let mut bytes = Vec::new();
        // The reset that follows the answer may overtake it.
        let outcome = reader.read_to_end(&mut bytes).await;
        (outcome.map_err(|error| error.kind()), bytes)
    };
    let (flooded, (read, bytes)) =
        timeout(Duration::from_secs(20), async { tokio::join!(flood, answer) }).await.unwrap();
    flooded.expect_err("100 MB of headers were taken");
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 431 ") || read == Err(io::ErrorKind::ConnectionReset), "{text} {read:?}");
    assert!(fixture.get("/health").await.0.starts_with("http/1.1 200 "), "the server lives on");
}

#[tokio::test]
async fn headers_up_to_the_limit_are_taken() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let padding = "a".repeat(15_000);
    let request = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Pad: {padding}\r\nConnection: close\r\n\r\n");
    assert!(fixture.ask(&request).await.0.starts_with("http/1.1 200 "));
    let padding = "a".repeat(20_000);
    let request = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Pad: {padding}\r\nConnection: close\r\n\r\n");
    let mut stream = fixture.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let text = until_closed(&mut stream).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431 "), "{text}");
}

#[tokio::test]
async fn garbage_ends_its_connection_only() {
    let fixture = start(HealthHttpStatus::Strict).await;
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01"[..], b"\r\n\r\n\r\n", b"GET", b"GET /health HTTP/9.9\r\n\r\n", b"\0\0\0\x20"]
    {
        let mut stream = fixture.connect().await;
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let text = until_closed(&mut stream).await;
        assert!(!text.contains(" 200 "), "{text}");
    }
    assert!(fixture.get("/health").await.0.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn a_slow_client_has_two_seconds() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let slow = async |sent: &str| {
        let mut stream = fixture.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let text = until_closed(&mut stream).await;
        assert!(!text.contains(" 200 "), "{text}");
        let waited = begun.elapsed();
        assert!(waited > Duration::from_millis(1500) && waited < Duration::from_secs(12), "{waited:?}");
    };
    tokio::join!(slow(""), slow("GET /health HTTP/1.1\r\nHost: "));
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_its_peers_oldest_connection() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let share = descriptors::connections() / 2;
    let mut first = Vec::new();
    for _ in 0..share {
        let mut stream = fixture.connect().await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHo").await.unwrap();
        first.push(stream);
    }
    // Accepted in order, so all of them are when this one is answered.
    assert!(fixture.get("/livez").await.0.starts_with("http/1.1 200 "));
    assert_eq!(until_closed(&mut first.remove(0)).await, "");
    for stream in &mut first {
        stream.write_all(b"st: x\r\n\r\n").await.unwrap();
        assert!(one_answer(stream, "ok\n").await.starts_with("HTTP/1.1 200 "), "they keep their places");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_by_one_at_a_bounded_rate() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let mut stream = fixture.connect().await;
    let begun = Instant::now();
    stream.write_all("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20).as_bytes()).await.unwrap();
    for _ in 0..20 {
        let mut line = [0; 15];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        while !rest.ends_with(b"ok\n") {
            rest.push(stream.read_u8().await.unwrap());
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&fixture.address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(socket.into()).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64);
    let begun = Instant::now();
    let cut = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(Duration::from_secs(30), cut).await.expect("the server keeps it open");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(fixture.get("/health").await.0.starts_with("http/1.1 200 "), "the server lives on");
}

#[test]
fn what_is_folded_is_counted() {
    let mut folded = Folded::default();
    assert_eq!(folded.count(), Some(1));
    assert_eq!((folded.count(), folded.count()), (None, None));
    folded.logged = Instant::now().checked_sub(LOG_EVERY);
    assert_eq!(folded.count(), Some(3));
}

#[tokio::test]
async fn stopping_closes_what_idles_and_the_port() {
    let fixture = start(HealthHttpStatus::Strict).await;
    let mut idle = fixture.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    one_answer(&mut idle, "ok\n").await;
    let mut half = fixture.connect().await;
    half.write_all(b"GET /livez HT").await.unwrap();
    fixture.stop.send_replace(true);
    timeout(Duration::from_secs(5), fixture.server).await.expect("the server does not stop").unwrap();
    assert_eq!(until_closed(&mut idle).await, "");
    assert_eq!(until_closed(&mut half).await, "");
    TcpStream::connect(fixture.address).await.expect_err("the port is closed");
}

#[tokio::test]
async fn without_anybody_to_stop_it_the_server_stops() {
    let fixture = start(HealthHttpStatus::Strict).await;
    drop(fixture.stop);
    timeout(Duration::from_secs(5), fixture.server).await.expect("the server does not stop").unwrap();
}

#[tokio::test]
async fn a_bound_port_answers_on_ipv4_and_a_second_bind_names_the_cure() {
    let listener = bind(0).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    listener.accept().await.unwrap();
    let text = bind(port).await.unwrap_err().to_string();
    assert!(text.starts_with(&format!("cannot listen on port {port} for /health: ")), "{text}");
    assert!(text.contains("in use") && text.ends_with("set HEALTH_PORT to a free port"), "{text}");
    drop(stream);
}
