//! Kafka's own Java producer (tests/it/Produce.java), run from its source out of the broker's jars.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::kafka::{kafka_version_text, to_hex};
use super::process::{spawn, tethered};
use super::{Kafka, cache, project, scratch};

/// A record: key, value, headers.
pub(crate) type Made = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(&'static str, Option<Vec<u8>>)>);

/// What producers are to do, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    text: String,
    records: u64,
}

impl Orders {
    /// What comes is for another producer, with these settings; what the last one holds is sent before.
    pub(crate) fn producer(&mut self, kafka: &Kafka, settings: &[(&str, &str)]) {
        write!(self.text, "producer bootstrap.servers={}", kafka.bootstrap()).unwrap();
        for (name, value) in settings {
            write!(self.text, " {name}={value}").unwrap();
        }
        self.text.push('\n');
    }

    /// A record for it.
    pub(crate) fn record(&mut self, topic: &str, partition: i32, timestamp: i64, (key, value, headers): &Made) {
        let word = |bytes: &Option<Vec<u8>>| {
            bytes.as_deref().map_or_else(|| "-".to_owned(), |bytes| format!("x{}", to_hex(bytes)))
        };
        write!(self.text, "record {topic} {partition} {timestamp} {} {}", word(key), word(value)).unwrap();
        for (name, value) in headers {
            write!(self.text, " {}={}", to_hex(name.as_bytes()), word(value)).unwrap();
        }
        self.text.push('\n');
        self.records += 1;
    }

    /// Has it done. Panics unless every record is confirmed.
    pub(crate) fn carry_out(self) {
        let dir = scratch("java");
        let orders = dir.join("orders.txt");
        File::create(&orders).unwrap().write_all(self.text.as_bytes()).unwrap();
        let libs = cache().join(format!("kafka-{}/libs/*", kafka_version_text()));
        let java = std::env::var("JAVA_HOME").map_or_else(|_| "java".to_owned(), |home| format!("{home}/bin/java"));
        let mut command = Command::new(java);
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(libs);
        command.arg(project("tests/it/Produce.java"));
        let mut command = tethered(&command);
        command.stdin(File::open(&orders).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let done = spawn(&mut command).unwrap().wait_with_output().unwrap();
        let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let sent = format!("sent {}", self.records);
        let told = said.lines().any(|line| line == sent);
        assert!(
            done.status.success() && told,
            "Produce.java ended with {}: {said:.2000}{complained:.2000}",
            done.status
        );
    }
}
