//! A real ClickHouse of the test's own: dev/clickhouse_server.py in the virtual environment that dev/setup makes.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use sandarb_consumer::clickhouse::client::{Answer, Client};
use sandarb_consumer::config::{ClickHouseAddress, ClickHouseConfig, HostPort, Secret};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::port::free_port;
use super::scratch::scratch;

pub(crate) const USER: &str = "ingest";
pub(crate) const PASSWORD: &str = "sandarb";

/// Killed and removed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    dir: PathBuf,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = scratch("clickhouse");
        // The script checks that the socket that answers is its own.
        let port = free_port();
        let process = spawn(port, &dir).await;
        Self { process, port, dir }
    }

    /// SIGKILL: what was not acknowledged may be gone.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// SIGSTOP and SIGCONT, by name: requests then lie in its sockets.
    pub(crate) async fn signal(&self, name: &str) {
        let process = self.process.id().expect("the server runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Starts it again on the same data and port.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.dir).await;
    }

    pub(crate) fn config(&self, database: &str, table: &str) -> ClickHouseConfig {
        let host = HostPort { host: "127.0.0.1".to_owned(), port: self.port };
        ClickHouseConfig {
            addresses: vec![ClickHouseAddress { tls: false, host }],
            database: database.to_owned(),
            table: table.to_owned(),
            user: USER.to_owned(),
            password: Secret::Value(PASSWORD.to_owned()),
            timeout: Duration::from_secs(20),
            ca_file: None,
            compression: sandarb_consumer::config::Compression::Lz4,
        }
    }

    pub(crate) async fn answer(&self, sql: &str) -> Answer {
        Client::new(self.config("default", "none"), None).query(sql, &[]).await.unwrap()
    }

    /// The text of a good answer.
    pub(crate) async fn query(&self, sql: &str) -> String {
        let answer = self.answer(sql).await;
        assert!(answer.status == 200 && answer.code.is_none(), "{sql}: {answer:?}");
        answer.text.trim_end().to_owned()
    }

    /// The statements of a file under sql/.
    pub(crate) async fn apply(&self, file: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sql").join(file);
        for statement in std::fs::read_to_string(path).unwrap().split(";\n") {
            if statement.lines().any(|line| !line.is_empty() && !line.starts_with("--")) {
                self.query(statement).await;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(cause) = self.process.start_kill() {
            eprintln!("the server had ended: {cause}");
        }
        // Until it has ended it writes on, into what is being removed. At most ten seconds.
        for _ in 0..1000 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Err(cause) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {cause}", self.dir.display());
        }
    }
}

async fn spawn(port: u16, dir: &std::path::Path) -> Child {
    let python = super::cache::cache().join("venv/bin/python");
    assert!(python.exists(), "{} is missing: run dev/setup", python.display());
    let mut process = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/clickhouse_server.py"))
        .arg(port.to_string())
        .arg(dir)
        .args(["--user", USER, "--password", PASSWORD])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("cannot start Python: run dev/setup");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("ready ") {
                return true;
            }
        }
        false
    };
    let ready = tokio::time::timeout(Duration::from_secs(60), ready).await;
    assert_eq!(ready, Ok(true), "ClickHouse did not start (see {}/server.log); run dev/setup", dir.display());
    process
}
