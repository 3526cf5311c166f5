//! A group member on librdkafka, as a process (tests/it/member.py).

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Process;
use super::{Bench, cache, project, scratch, wait_until};

/// One running (or ended) member. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Member {
    process: Mutex<Process>,
}

impl Member {
    /// One that only holds partitions of the bench's topic.
    pub(crate) fn hold(bench: &Bench<'_>, more: &Value) -> Self {
        Self::start(bench, more, &Value::Null)
    }

    /// One that inserts what it reads, as the Python bridge does that this program replaces.
    pub(crate) fn bridge(bench: &Bench<'_>, more: &Value) -> Self {
        bench.books.set_apart("another program inserts, too");
        let table = json!({
            "url": bench.clickhouse.url(), "name": format!("{}.events", bench.database),
            "user": bench.clickhouse.user, "password": bench.clickhouse.password,
        });
        Self::start(bench, more, &table)
    }

    fn start(bench: &Bench<'_>, more: &Value, table: &Value) -> Self {
        let mut settings = json!({
            "bootstrap.servers": bench.kafka.bootstrap(),
            "group.id": bench.group,
            "auto.offset.reset": "earliest",
        });
        let object = settings.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        let order = json!({"settings": settings, "topics": [bench.topic], "table": table});
        let mut command = Command::new(cache().join("venv/bin/python"));
        command.arg(project("tests/it/member.py")).arg(order.to_string());
        let process = Process::spawn("member.py", &mut command, &scratch("member").join("member.log"));
        Self { process: Mutex::new(process) }
    }

    /// What it has told.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.process().log().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
    }

    /// Waits until it has told this.
    pub(crate) fn wait_told(&self, limit: Duration, what: &str) {
        wait_until(limit, &format!("member.py tells {what:?}"), || {
            if self.events().iter().any(|event| event["msg"] == what) {
                return Ok(());
            }
            self.process().assert_runs();
            Err("not yet".to_owned())
        });
    }

    /// SIGTERM: it stores what it holds and leaves.
    pub(crate) fn stop(&self) {
        self.process().signal("TERM");
        let status = self.process().wait_exit(Duration::from_secs(60));
        assert!(status.success(), "{status}: {}", self.process().log_tail(20));
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
