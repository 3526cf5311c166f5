//! The scripted peer, and an inserter that sends to it.

use sandarb_consumer::clickhouse::inserter::{Ended, Insert, Inserter};
use sandarb_consumer::clickhouse::schema::{Dedup, Schema, SchemaColumn};
use sandarb_consumer::clickhouse::types::DataType;
use sandarb_consumer::columns::Missing;
use sandarb_consumer::config::{ClickHouseAddress, ClickHouseConfig, HostPort, Secret};
use sandarb_consumer::decode::{Origin, Place, Rows};
use sandarb_consumer::fence::{Fence, Tenure, boot_clock};
use sandarb_consumer::progress::InsertProgress;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What the peer does with one request.
pub(crate) enum Act {
    /// Sends these bytes and waits for the next request on the same connection.
    Answer(String),
    /// Sends these bytes and closes.
    AnswerAndClose(String),
    /// Says nothing until the other side gives up.
    Silence,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn parameter(&self, name: &str) -> &str {
        let query = self.target.split_once('?').unwrap().1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("")
    }
}

pub(crate) struct Peer {
    pub(crate) port: u16,
    pub(crate) seen: mpsc::Receiver<Seen>,
}

impl Peer {
    /// Plays the acts in order, then refuses connections.
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, seen) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut acts = acts.into_iter().peekable();
            while acts.peek().is_some() {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                while acts.peek().is_some() {
                    let Some(request) = read(&mut stream).await else { break };
                    sender.send(request).await.unwrap();
                    match acts.next().unwrap() {
                        Act::Answer(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                        Act::AnswerAndClose(text) => {
                            stream.write_all(text.as_bytes()).await.unwrap();
                            break;
                        }
                        Act::Silence => {
                            assert!(read(&mut stream).await.is_none(), "nothing more may come on this connection");
                            break;
                        }
                    }
                }
            }
        });
        Self { port, seen }
    }

    pub(crate) async fn requests(&mut self, number: usize) -> Vec<Seen> {
        let mut requests = Vec::new();
        while requests.len() < number {
            requests.push(self.seen.recv().await.expect("a request"));
        }
        assert!(self.seen.try_recv().is_err(), "no further request");
        requests
    }
}

pub(crate) async fn read(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_ascii_lowercase()),
        }
        if lines.len() == 1 {
            lines = vec![line.split(' ').nth(1).unwrap().to_owned()];
        }
    }
    let target = lines.remove(0);
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { target, headers: lines, body })
}

pub(crate) fn stored() -> String {
    answer("200 OK", "X-ClickHouse-Summary: {\"written_rows\":\"3\"}\r\nKeep-Alive: timeout=30, max=9\r\n", "")
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn config(ports: &[u16]) -> ClickHouseConfig {
    let address =
        |port: &u16| ClickHouseAddress { tls: false, host: HostPort { host: "127.0.0.1".to_owned(), port: *port } };
    ClickHouseConfig {
        addresses: ports.iter().map(address).collect(),
        database: "d".to_owned(),
        table: "t".to_owned(),
        user: "u".to_owned(),
        password: Secret::Value(String::new()),
        timeout: Duration::from_millis(500),
        ca_file: None,
        compression: sandarb_consumer::config::Compression::Lz4,
    }
}

pub(crate) struct Bench {
    pub(crate) inserter: Inserter,
    pub(crate) progress: watch::Receiver<InsertProgress>,
    pub(crate) tenure: watch::Sender<Tenure>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) insert: Insert,
}

impl Bench {
    pub(crate) fn new(ports: &[u16]) -> Self {
        let (sender, progress) = watch::channel(InsertProgress::default());
        let session = Duration::from_secs(600);
        let until = Instant::now() + session;
        let tenure = Tenure { epoch: 1, until, silent_from: until, until_boot: boot_clock() + session };
        let column = SchemaColumn {
            name: "a".to_owned(),
            type_name: "String".to_owned(),
            wire_type: "String".to_owned(),
            data_type: DataType::String,
            missing: Missing::Zero,
        };
        let schema = Arc::new(Schema {
            database: "d".to_owned(),
            table: "t".to_owned(),
            columns: vec![column],
            left_out: Vec::new(),
            engine: "MergeTree".to_owned(),
            sorting_key: String::new(),
            dedup: Dedup::Window(100),
            settings: vec![("async_insert".to_owned(), "0".to_owned())],
            takes_token: true,
        });
        let mut rows = Rows::new(&schema, Origin { cluster_id: "c".to_owned(), topic: "t".to_owned() });
        for offset in 0..3 {
            rows.push(&Place { partition: 0, offset, timestamp_ms: -1 }, br#"{"a": "x"}"#).unwrap();
        }
        let insert = Insert { block: rows.encode(SystemTime::now()), token: "token".to_owned() };
        Self {
            inserter: Inserter::new(config(ports), sender).unwrap(),
            progress,
            tenure: watch::channel(tenure).0,
            stop: watch::channel(false).0,
            insert,
        }
    }

    pub(crate) async fn insert(&mut self) -> Ended {
        let mut fence = Fence::new(self.tenure.subscribe(), 1);
        let mut stop = self.stop.subscribe();
        let insert = self.inserter.insert(&self.insert, &mut fence, &mut stop);
        tokio::time::timeout(Duration::from_secs(60), insert).await.expect("an end")
    }

    pub(crate) async fn stored_after(&mut self) -> u32 {
        match self.insert().await {
            Ended::Stored { rows: 3, attempts, .. } => attempts,
            other => panic!("{other:?}"),
        }
    }
}
