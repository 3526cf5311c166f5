//! The program under test, as a process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::ledger::{Books, Ledger};
use super::process::Process;
use super::{free_port, http, scratch, wait_until};

/// One running (or ended) program. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// The port of /health.
    pub(crate) port: u16,
    process: Mutex<Process>,
    /// Where its numbers go when it ends, and its place there.
    books: Option<(Books, usize)>,
}

impl Consumer {
    /// Starts the program with these variables and no others. HEALTH_PORT is a free one unless it is among them.
    pub(crate) fn start(env: &BTreeMap<String, String>) -> Self {
        Self::start_under(&[], env)
    }

    /// The same with at most this many file descriptors.
    pub(crate) fn start_with_descriptors(limit: u32, env: &BTreeMap<String, String>) -> Self {
        Self::start_under(&["sh", "-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh"], env)
    }

    /// `before` are the words of a command that runs what follows them.
    fn start_under(before: &[&str], env: &BTreeMap<String, String>) -> Self {
        let mut env = env.clone();
        let port = env.entry("HEALTH_PORT".to_owned()).or_insert_with(|| free_port().to_string()).parse().unwrap_or(0);
        let mut command = Command::new("env");
        command.arg("-i").args(env.iter().map(|(name, value)| format!("{name}={value}"))).args(before).arg(binary());
        let process = Process::spawn("sandarb-consumer", &mut command, &scratch("consumer").join("consumer.log"));
        Self { port, process: Mutex::new(process), books: None }
    }

    /// The same; what it says became of the events is kept when it ends.
    pub(crate) fn start_booked(env: &BTreeMap<String, String>, books: &Books) -> Self {
        Self { books: Some((books.clone(), books.open())), ..Self::start(env) }
    }

    /// Status code and body of /health; an error when it does not answer.
    pub(crate) fn health(&self) -> Result<(u16, Value), String> {
        let answer = http::request(self.port, "GET", "/health", &[], b"")?;
        let status = answer.status;
        let text = answer.text()?;
        Ok((status, serde_json::from_str(&text).map_err(|error| format!("/health says {text:?}: {error}"))?))
    }

    /// The body of /status.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let text = http::request(self.port, "GET", "/status", &[], b"")?.text()?;
        serde_json::from_str(&text).map_err(|error| format!("/status says {text:?}: {error}"))
    }

    /// The body of /metrics.
    pub(crate) fn metrics(&self) -> Result<String, String> {
        http::request(self.port, "GET", "/metrics", &[], b"")?.text()
    }

    /// The partitions it works on, while its membership is settled.
    pub(crate) fn partitions(&self) -> Result<Vec<i32>, String> {
        let kafka = &self.status()?["kafka"];
        let partitions = kafka["partitions"].as_array().ok_or_else(|| format!("/status says {kafka}"))?;
        match kafka["state"].as_str() {
            Some("stable") => {
                Ok(partitions.iter().filter_map(|index| index.as_i64()).map(|index| index as i32).collect())
            }
            state => Err(format!("{} is {state:?}", kafka["member_id"])),
        }
    }

    /// Looks until the closure says `Ok`; fails at once, with the log, when the program has ended.
    pub(crate) fn wait<T>(&self, limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
        wait_until(limit, what, || {
            let seen = look();
            if seen.is_err() {
                self.process().assert_runs();
            }
            seen
        })
    }

    /// Waits for /health to answer with this status code; returns its body.
    pub(crate) fn wait_health(&self, status: u16, limit: Duration) -> Value {
        self.wait(limit, &format!("/health answers {status}"), || match self.health()? {
            (code, body) if code == status => Ok(body),
            (code, body) => Err(format!("{code} {body}")),
        })
    }

    /// Waits for 200.
    pub(crate) fn wait_healthy(&self) -> Value {
        self.wait_health(200, Duration::from_secs(30))
    }

    /// Waits for a log line whose text holds all of the words; returns it.
    pub(crate) fn wait_log(&self, limit: Duration, words: &[&str]) -> Value {
        self.wait(limit, &format!("a log line with {words:?}"), || {
            self.find_log(words).ok_or_else(|| "no such line".to_owned())
        })
    }

    /// A line among those that an ended program has logged.
    pub(crate) fn wait_log_of_the_ended(&self, words: &[&str]) {
        wait_until(Duration::from_secs(5), &format!("a log line with {words:?}"), || {
            self.find_log(words).ok_or_else(|| self.process().log_tail(10))
        });
    }

    /// The first log line whose text holds all of the words, in any case.
    pub(crate) fn find_log(&self, words: &[&str]) -> Option<Value> {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let log = self.process().log();
        let found = log.lines().find(|line| {
            let text = line.to_lowercase();
            words.iter().all(|word| text.contains(word))
        });
        found.map(parsed)
    }

    /// What it has logged; a line that is not JSON as a string.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        let log = self.process().log();
        log.lines().map(parsed).collect()
    }

    /// Sends a signal, named as kill(1) names it.
    pub(crate) fn signal(&self, signal: &str) {
        self.process().signal(signal);
    }

    /// Waits for the end; the exit code, `None` when a signal ended it. What it said last about the events adds up.
    pub(crate) fn wait_exit(&self, limit: Duration) -> Option<i32> {
        let code = self.process().wait_exit(limit).code();
        let lines = self.log_lines();
        let Some(ledger) = Ledger::of_log(&lines) else { return code };
        ledger.assert_adds_up("at the end");
        if let Some((books, place)) = &self.books {
            let lost = lines.iter().filter(|line| line["msg"] == "lost the partitions; joining again").count() as u64;
            // One that could not stop in time says no more than one that was killed.
            books.ended(*place, ledger, lost + u64::from(code != Some(0)));
        }
        code
    }

    /// What it says became of the events; nothing where /metrics does not answer.
    fn ledger(&self) -> Option<Ledger> {
        let ledger = Ledger::of_metrics(&self.metrics().ok()?).unwrap();
        ledger.assert_adds_up("in a scrape");
        Some(ledger)
    }

    /// SIGTERM, then the exit code 0 within the default time limit of a clean stop and a little more.
    pub(crate) fn stop(&self) {
        let before = self.ledger();
        self.signal("TERM");
        let code = self.wait_exit(Duration::from_secs(30));
        assert_eq!(code, Some(0), "{}", self.process().log_tail(30));
        if let (Some(before), Some(end)) = (before, Ledger::of_log(&self.log_lines())) {
            end.assert_not_below(before);
        }
    }

    /// kill -9.
    pub(crate) fn kill9(&self) {
        let last = self.ledger().unwrap_or_default();
        self.process().kill9();
        if let Some((books, place)) = &self.books {
            books.killed(*place, last);
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most that was ever resident, in KiB.
    pub(crate) fn peak_rss_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// The file descriptors it has open.
    pub(crate) fn descriptors(&self) -> BTreeSet<u32> {
        let path = format!("/proc/{}/fd", self.process().pid());
        let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// Lets it have this many descriptors from now on.
    pub(crate) fn limit_descriptors(&self, limit: u32) {
        let (pid, limit) = (self.process().pid().to_string(), format!("--nofile={limit}:"));
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(status.as_ref().is_ok_and(|status| status.success()), "prlimit: {status:?}");
    }

    /// The command `healthcheck` against this program: its exit code and what it prints.
    pub(crate) fn healthcheck(&self) -> (Option<i32>, String) {
        let mut command = Command::new(binary());
        let output = command.arg("healthcheck").env_clear().env("HEALTH_PORT", self.port.to_string()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process().pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of memory");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| Value::from(line))
}

/// The binary that ships, when SANDARB_CONSUMER_BIN names it; else the one cargo has just built.
pub(crate) fn binary() -> PathBuf {
    shipped().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_sandarb-consumer")))
}

/// The binary that ships; memory is only measured on it.
pub(crate) fn shipped() -> Option<PathBuf> {
    std::env::var_os("SANDARB_CONSUMER_BIN").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether a limit that only the binary that ships has to keep is to be asserted. Where it is not, that is said.
pub(crate) fn asserts(limit: &str) -> bool {
    if shipped().is_none() {
        let said =
            format!("NOT asserted: {limit} (SANDARB_CONSUMER_BIN is not set, so what runs is the debug binary)\n");
        // What println! prints is kept back when the test passes.
        std::io::stderr().write_all(said.as_bytes()).unwrap();
    }
    shipped().is_some()
}
