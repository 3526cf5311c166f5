//! An inserter under test, and the events it gets.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sandarb_consumer::clickhouse::block::Block;
use sandarb_consumer::clickhouse::inserter::{Ended, Insert, Inserter};
use sandarb_consumer::clickhouse::schema::Schema;
use sandarb_consumer::config::ClickHouseConfig;
use sandarb_consumer::decode::{Origin, Place, Rows};
use sandarb_consumer::fence::{Fence, Tenure, boot_clock};
use sandarb_consumer::progress::InsertProgress;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::clickhouse::Server;

/// An inserter with everything around it.
pub(crate) struct Bench {
    pub(crate) inserter: Inserter,
    pub(crate) progress: watch::Receiver<InsertProgress>,
    pub(crate) tenure: watch::Sender<Tenure>,
    pub(crate) stop: watch::Sender<bool>,
}

impl Bench {
    pub(crate) fn new(config: ClickHouseConfig) -> Self {
        let (sender, progress) = watch::channel(InsertProgress::default());
        let session = Duration::from_secs(600);
        let until = Instant::now() + session;
        let tenure = Tenure { epoch: 1, until, silent_from: until, until_boot: boot_clock() + session };
        Self {
            inserter: Inserter::new(config, sender).unwrap(),
            progress,
            tenure: watch::channel(tenure).0,
            stop: watch::channel(false).0,
        }
    }

    pub(crate) async fn schema(&mut self) -> Arc<Schema> {
        self.inserter.describe().await.unwrap()
    }

    pub(crate) async fn insert(&mut self, block: &Block, token: &str) -> Ended {
        let insert = Insert { block: block.clone(), token: token.to_owned() };
        let mut fence = Fence::new(self.tenure.subscribe(), 1);
        self.inserter.insert(&insert, &mut fence, &mut self.stop.subscribe()).await
    }

    pub(crate) async fn stored(&mut self, block: &Block, token: &str) -> u32 {
        match self.insert(block, token).await {
            Ended::Stored { rows, attempts, .. } => {
                assert_eq!(rows, block.rows);
                attempts
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn rows_for(schema: &Arc<Schema>) -> Rows {
    Rows::new(schema, Origin { cluster_id: "4L6g3nShT-eMCtK--X86sw".to_owned(), topic: "sandarb_events".to_owned() })
}

pub(crate) fn place(offset: i64) -> Place {
    Place { partition: 3, offset, timestamp_ms: millis(now()) - 5000 }
}

/// The blocks of these tests lie days apart at most, so that nothing meets the table's TTL.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis(SystemTime::now())).unwrap())
}

pub(crate) fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub(crate) fn block_of(schema: &Arc<Schema>, events: &[Value]) -> Block {
    let mut rows = rows_for(schema);
    for (offset, event) in (0..).zip(events) {
        rows.push(&place(offset), event.to_string().as_bytes()).unwrap();
    }
    rows.encode(now())
}

/// What a producer sends: every column but ingested_at.
pub(crate) fn event(number: usize, time: &str) -> Value {
    json!({
        "event_id": format!("00000000-0000-4000-8000-{number:012x}"),
        "event_type": (["INJECT_SUCCESS", "INJECT_DENIED", "PROMPT_USED"][number % 3]),
        "event_category": "governance",
        "agent_id": format!("agent-{}", number % 50),
        "agent_name": format!("Agent „{}“", number % 50),
        "org_id": format!("org-{}", number % 7),
        "org_name": format!("Organisation\t{}\n", number % 7),
        "context_id": format!("{number}"),
        "context_name": format!("context \"{}\"", number % 300),
        "version_id": "",
        "version_number": number * 1_000_003 % 4_294_967_295,
        "prompt_id": "p\\1",
        "prompt_name": "",
        "data_classification": "internal",
        "governance_hash": format!("{:064x}", number * 7919),
        "hash_type": "sha512",
        "template_rendered": number.is_multiple_of(2),
        "denial_reason": if number % 3 == 1 { "no link" } else { "" },
        "violation_type": "",
        "severity": "low",
        "trace_id": format!("trace-{number:06}"),
        "source_ip": "10.0.0.1",
        "request_method": "GET",
        "request_path": "/api/inject?ü=😀",
        "event_time": time,
        "metadata": format!("{{\"n\": {number}, \"text\": \"{}\"}}", "x".repeat(number % 300)),
    })
}

pub(crate) async fn read_back(server: &Server, columns: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT {columns} FROM sandarb.events ORDER BY trace_id SETTINGS date_time_output_format = 'iso', \
         output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow"
    );
    server.query(&sql).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An ISO time of the server's clock, with a given number of milliseconds.
pub(crate) async fn iso(server: &Server, milliseconds: u32) -> String {
    let second = server.query("SELECT formatDateTime(now('UTC'), '%FT%T', 'UTC')").await;
    format!("{second}.{milliseconds:03}Z")
}
