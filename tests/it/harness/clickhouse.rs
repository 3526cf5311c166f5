//! A real ClickHouse server.

use std::io::BufRead;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::process::Process;
use super::{free_port, http, project, scratch, wait_until};

/// One server with a data directory of its own.
#[derive(Debug)]
pub(crate) struct ClickHouse {
    /// Its HTTP port; the same after a restart.
    pub(crate) port: u16,
    /// The user that tests and program log in as.
    pub(crate) user: String,
    /// That user's password.
    pub(crate) password: String,
    dir: PathBuf,
    process: Mutex<Process>,
}

impl ClickHouse {
    /// The server that tests share which do not stop theirs.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<ClickHouse> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("ingest", "sandarb"))
    }

    /// Starts a server and waits until it answers.
    pub(crate) fn start(user: &str, password: &str) -> Self {
        Self::start_with(user, password, &[])
    }

    /// The same with more arguments for dev/clickhouse_server.py.
    pub(crate) fn start_with(user: &str, password: &str, more: &[&str]) -> Self {
        let (port, dir) = (free_port(), scratch("clickhouse"));
        let process = Mutex::new(launch(port, &dir, user, password, more));
        let server = Self { port, user: user.to_owned(), password: password.to_owned(), dir, process };
        server.wait_ready();
        server
    }

    /// For `CLICKHOUSE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill9(&self) {
        self.process().kill9();
    }

    /// Stops and continues the server (SIGSTOP, SIGCONT): it accepts connections and answers nothing.
    pub(crate) fn signal(&self, signal: &str) {
        self.process().signal(signal);
    }

    /// Starts it again on the same port and data.
    pub(crate) fn restart(&self) {
        self.restart_with(&[]);
    }

    /// The same with more arguments for dev/clickhouse_server.py.
    pub(crate) fn restart_with(&self, more: &[&str]) {
        *self.process() = launch(self.port, &self.dir, &self.user, &self.password, more);
        self.wait_ready();
    }

    /// Panics with the log when it has ended.
    pub(crate) fn assert_runs(&self) {
        self.process().assert_runs();
    }

    /// The answer to a query as text (TSV unless the query says FORMAT). Panics when the server refuses.
    pub(crate) fn query(&self, sql: &str) -> String {
        self.try_query(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// The same, with the server's error as text.
    pub(crate) fn try_query(&self, sql: &str) -> Result<String, String> {
        self.answer(sql)?.text()
    }

    /// The rows of a TSV answer.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.query(sql).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// One number.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        let text = self.query(sql);
        text.trim().parse().unwrap_or_else(|error| panic!("{sql}\n{text:?}: {error}"))
    }

    /// Hands over a long answer line by line.
    pub(crate) fn each_line(&self, sql: &str, mut take: impl FnMut(&str)) {
        let mut answer = self.answer(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
        let mut line = String::new();
        while answer.body.read_line(&mut line).unwrap() > 0 {
            take(line.trim_end_matches('\n'));
            line.clear();
        }
    }

    fn answer(&self, sql: &str) -> Result<http::Answer, String> {
        let headers = [("X-ClickHouse-User", self.user.as_str()), ("X-ClickHouse-Key", self.password.as_str())];
        // Waiting for the end of the query makes an error that comes late an error status, not a broken body.
        let path = "/?wait_end_of_query=1";
        let answer = http::request(self.port, "POST", path, &headers, sql.as_bytes())?;
        match (answer.status, answer.header("x-clickhouse-exception-code")) {
            (200, None) => Ok(answer),
            (status, _) => Err(format!("{status}: {}", answer.text()?)),
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_ready(&self) {
        wait_until(Duration::from_secs(90), "ClickHouse answers", || {
            self.assert_runs();
            self.try_query("SELECT 1")
        });
    }
}

fn launch(port: u16, dir: &std::path::Path, user: &str, password: &str, more: &[&str]) -> Process {
    let mut command = Command::new(super::cache().join("venv/bin/python"));
    command.arg(project("dev/clickhouse_server.py")).arg(port.to_string()).arg(dir.join("data"));
    // Each time its logs are written costs the machine as much as an insert; a test that reads them has them flushed.
    command.args(["--user", user, "--password", password, "--log-flush-ms", "10000"]).args(more);
    Process::spawn("clickhouse", &mut command, &dir.join("clickhouse.log"))
}
