//! /metrics: what /status says, and a little more, in Prometheus' text format 0.0.4. One table holds all families.
//!
//! Numbers are integers or microseconds: nothing here needs floating point.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{Arguments, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::progress::LATENCY_BOUNDS;
use crate::reasons::{Class, Reason, Snapshot};

/// The content type that goes with the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that the families read from.
struct View<'a> {
    snapshot: &'a Snapshot,
    reasons: Vec<Reason>,
    kafka_connected: bool,
    now: Instant,
    started_at: SystemTime,
    process: Process,
}

/// One family: name, type, help, and what writes its samples.
type Family = (&'static str, Kind, &'static str, fn(&View<'_>, &mut Samples<'_>));

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const FAMILIES: &[Family] = &[
    ("sandarb_consumer_build_info", Kind::Gauge, "1, with the version.", |_, out| {
        out.put(format_args!("{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    }),
    ("sandarb_consumer_healthy", Kind::Gauge, "1 when /health says healthy.", |view, out| {
        out.number(u64::from(view.reasons.is_empty()));
    }),
    (
        "sandarb_consumer_kafka_connected",
        Kind::Gauge,
        "1 when the group coordinator has answered lately.",
        |view, out| out.number(u64::from(view.kafka_connected)),
    ),
    ("sandarb_consumer_clickhouse_connected", Kind::Gauge, "1 when the last contact was good.", |view, out| {
        out.number(u64::from(view.snapshot.insert.connected));
    }),
    (
        "sandarb_consumer_events_consumed_total",
        Kind::Counter,
        "Events settled: inserted or rejected, whatever was read again on the way.",
        |view, out| out.number(view.snapshot.pipeline.settled.events()),
    ),
    ("sandarb_consumer_events_inserted_total", Kind::Counter, "Events settled as rows of the table.", |view, out| {
        out.number(view.snapshot.pipeline.settled.rows);
    }),
    (
        "sandarb_consumer_events_rejected_total",
        Kind::Counter,
        "Events settled as dead-letter records, or skipped where there is no topic for them.",
        |view, out| {
            for (class, count) in &view.snapshot.pipeline.settled.rejected.0 {
                out.put(format_args!("{{class=\"{class}\"}} {count}"));
            }
        },
    ),
    ("sandarb_consumer_events_open", Kind::Gauge, "Events read and not settled yet.", |view, out| {
        out.number(view.snapshot.pipeline.open);
    }),
    ("sandarb_consumer_records_read_total", Kind::Counter, "Records read, each time that one was.", |view, out| {
        out.number(view.snapshot.pipeline.read);
    }),
    (
        "sandarb_consumer_records_read_again_total",
        Kind::Counter,
        "Records read that this process had read before, as after a refusal or a rebalance.",
        |view, out| out.number(view.snapshot.pipeline.read_again),
    ),
    (
        "sandarb_consumer_insert_rows_total",
        Kind::Counter,
        "Rows of all inserts that ClickHouse confirmed, among them those that another replica has to send again.",
        |view, out| out.number(view.snapshot.insert.rows),
    ),
    ("sandarb_consumer_dead_letters_total", Kind::Counter, "Letters that the dead-letter topic has.", |view, out| {
        out.number(view.snapshot.pipeline.dead_lettered);
    }),
    (
        "sandarb_consumer_tombstones_total",
        Kind::Counter,
        "Records without a value, settled by skipping them.",
        |view, out| {
            out.number(view.snapshot.pipeline.settled.tombstones);
        },
    ),
    ("sandarb_consumer_unknown_keys_total", Kind::Counter, "Keys of events that no column has.", |view, out| {
        out.number(view.snapshot.pipeline.settled.unknown_keys);
    }),
    (
        "sandarb_consumer_decimals_rounded_total",
        Kind::Counter,
        "Values stored with a JSON number rounded to its Decimal's scale.",
        |view, out| out.number(view.snapshot.insert.rounded),
    ),
    ("sandarb_consumer_batches_flushed_total", Kind::Counter, "Inserts stored.", |view, out| {
        out.number(view.snapshot.insert.batches);
    }),
    (
        "sandarb_consumer_batches_uncommitted",
        Kind::Gauge,
        "Batches stored whose commit is not acknowledged yet; at 2 nothing more is inserted.",
        |view, out| out.number(view.snapshot.pipeline.uncommitted_batches as u64),
    ),
    ("sandarb_consumer_insert_failures_total", Kind::Counter, "Insert attempts that failed.", |view, out| {
        out.number(view.snapshot.insert.failed_attempts);
    }),
    ("sandarb_consumer_kafka_errors_total", Kind::Counter, "Failed requests and error codes of Kafka.", |view, out| {
        out.number(view.snapshot.kafka.errors);
    }),
    (
        "sandarb_consumer_log_cuts_total",
        Kind::Counter,
        "Logs found cut below what was read of them already: Kafka lost records that are stored.",
        |view, out| out.number(view.snapshot.kafka.log_cuts),
    ),
    (
        "sandarb_consumer_errors_total",
        Kind::Counter,
        "Rejected events, failed insert attempts and Kafka errors together, as /health has them.",
        |view, out| out.number(view.snapshot.errors()),
    ),
    (
        "sandarb_consumer_insert_duration_seconds",
        Kind::Histogram,
        "How long the attempts took that stored something.",
        insert_durations,
    ),
    (
        "sandarb_consumer_last_flush_timestamp_seconds",
        Kind::Gauge,
        "When the last insert was stored; absent before the first.",
        |view, out| {
            if let Some(at) = view.snapshot.insert.last_stored_at {
                out.time(at);
            }
        },
    ),
    ("sandarb_consumer_rebalances_total", Kind::Counter, "Generations of the group joined.", |view, out| {
        out.number(view.snapshot.kafka.rebalances);
    }),
    ("sandarb_consumer_group_generation", Kind::Gauge, "The group's generation, -1 outside of it.", |view, out| {
        out.put(format_args!(" {}", view.snapshot.kafka.generation));
    }),
    ("sandarb_consumer_partitions", Kind::Gauge, "Partitions held.", |view, out| {
        out.number(view.snapshot.kafka.partitions.len() as u64);
    }),
    (
        "sandarb_consumer_partition_lag",
        Kind::Gauge,
        "Offsets between the committed one and the end of the log, asked for every few seconds.",
        |view, out| by_partition(view.snapshot.kafka.lags(), out),
    ),
    (
        "sandarb_consumer_lag_age_seconds",
        Kind::Gauge,
        "Since the ends of the logs of all partitions held were last known; absent before.",
        |view, out| {
            if let Some(at) = view.snapshot.kafka.log_ends_at {
                out.seconds("", view.now.saturating_duration_since(at));
            }
        },
    ),
    (
        "sandarb_consumer_partition_held_by_transactions",
        Kind::Gauge,
        "Offsets that cannot be read before open transactions end, as of the last fetch; none where there are none.",
        |view, out| by_partition(view.snapshot.kafka.held_by_transactions(), out),
    ),
    (
        "sandarb_consumer_blocked",
        Kind::Gauge,
        "Reasons why events wait, by class; /readyz and /status name them.",
        |view, out| {
            for class in Class::ALL {
                let count = view.reasons.iter().filter(|reason| reason.class == class).count();
                out.put(format_args!("{{what=\"{}\"}} {count}", class.name()));
            }
        },
    ),
    (
        "sandarb_consumer_loop_stall_seconds",
        Kind::Gauge,
        "The latest that a timer of the one thread fired in the last 30 to 60 s.",
        |view, out| out.seconds("", view.snapshot.stall),
    ),
    ("sandarb_consumer_memory_bytes", Kind::Gauge, "Parts of the memory budget in use.", |view, out| {
        let memory = view.snapshot.pipeline.memory;
        let parts = [
            ("answer", memory.answer),
            ("decompressed", memory.decompressed),
            ("columns", memory.columns),
            ("bodies", memory.bodies),
            ("letters", memory.letters),
        ];
        for (what, bytes) in parts {
            out.put(format_args!("{{what=\"{what}\"}} {bytes}"));
        }
    }),
    ("sandarb_consumer_memory_budget_bytes", Kind::Gauge, "MEMORY_BUDGET_BYTES.", |view, out| {
        out.number(view.snapshot.pipeline.memory.budget as u64);
    }),
    ("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", |view, out| {
        if let Some(bytes) = view.process.resident {
            out.number(bytes);
        }
    }),
    ("process_cpu_seconds_total", Kind::Counter, "CPU time, user and system.", |view, out| {
        if let Some(cpu) = view.process.cpu {
            out.seconds("", cpu);
        }
    }),
    ("process_start_time_seconds", Kind::Gauge, "When the process started.", |view, out| out.time(view.started_at)),
];

fn by_partition(offsets: impl Iterator<Item = (i32, i64)>, out: &mut Samples<'_>) {
    for (partition, offsets) in offsets {
        out.put(format_args!("{{partition=\"{partition}\"}} {offsets}"));
    }
}

fn insert_durations(view: &View<'_>, out: &mut Samples<'_>) {
    let took = &view.snapshot.insert.took;
    let mut within = 0;
    for (count, bound) in took.counts.iter().zip(LATENCY_BOUNDS) {
        within += count;
        let (seconds, millis) = (bound.as_secs(), bound.subsec_millis());
        out.put(format_args!("_bucket{{le=\"{seconds}.{millis:03}\"}} {within}"));
    }
    out.put(format_args!("_bucket{{le=\"+Inf\"}} {}", took.count));
    out.seconds("_sum", took.sum);
    out.put(format_args!("_count {}", took.count));
}

/// The text.
pub(super) fn text(snapshot: &Snapshot, started_at: SystemTime, now: Instant) -> String {
    let view = View {
        snapshot,
        reasons: snapshot.reasons(now),
        kafka_connected: snapshot.kafka_connected(now),
        now,
        started_at,
        process: Process::read(),
    };
    let mut text = String::new();
    for (name, kind, help, read) in FAMILIES {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let mut out = Samples { text: &mut text, name };
        out.line(format_args!("# HELP {name} {help}"));
        out.line(format_args!("# TYPE {name} {kind}"));
        read(&view, &mut out);
    }
    text
}

/// Writes the samples of one family.
struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Samples<'_> {
    /// What follows the family's name: suffix, labels, value.
    fn put(&mut self, rest: Arguments<'_>) {
        let name = self.name;
        self.line(format_args!("{name}{rest}"));
    }

    fn number(&mut self, number: u64) {
        self.put(format_args!(" {number}"));
    }

    fn seconds(&mut self, suffix: &str, duration: Duration) {
        self.put(format_args!("{suffix} {}.{:06}", duration.as_secs(), duration.subsec_micros()));
    }

    fn time(&mut self, time: SystemTime) {
        // Before 1970 there was no such process.
        self.seconds("", time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO));
    }

    fn line(&mut self, line: Arguments<'_>) {
        // Writing to a String cannot fail.
        let written = self.text.write_fmt(line);
        debug_assert!(written.is_ok());
        self.text.push('\n');
    }
}

/// What the system says of this process; nothing where there is no /proc.
#[derive(Debug, Default)]
struct Process {
    resident: Option<u64>,
    cpu: Option<Duration>,
}

impl Process {
    fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self {
            resident: read("/proc/self/status").and_then(|status| resident(&status)),
            cpu: read("/proc/self/stat").and_then(|stat| cpu(&stat)),
        }
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Fields 14 and 15, in ticks of 10 ms (USER_HZ is 100 wherever Linux runs); the second field may hold anything but ends
/// with the last bracket. Source: proc(5).
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::End;

    #[test]
    fn the_system_s_figures() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    8192 kB\nThreads:\t1\n"), Some(8 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
        let stat = "12 (a b) c) S 1 12 12 0 -1 4194560 99 0 0 0 150 25 0 0 20 0 1 0 5";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1750)));
        assert_eq!(cpu("12 (x S"), None);
        let here = Process::read();
        assert!(here.resident.is_some_and(|bytes| bytes > 1 << 20) && here.cpu.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn samples_in_their_forms() {
        let mut snapshot = Snapshot { stall: Duration::from_micros(1_500), ..Snapshot::default() };
        snapshot.insert.took.add(Duration::from_millis(30));
        snapshot.insert.took.add(Duration::from_secs(60));
        snapshot.pipeline.settled.rejected.add("invalid_json", 3);
        snapshot.kafka.ends.insert(7, End { readable: 10, log: 12 });
        snapshot.kafka.partitions = vec![7];
        snapshot.kafka.committed.insert(7, 6);
        let started = UNIX_EPOCH + Duration::from_micros(1_770_458_400_000_007);
        let text = text(&snapshot, started, Instant::now());
        for line in [
            "# HELP sandarb_consumer_loop_stall_seconds The latest that a timer of the one thread fired in the last 30 to 60 s.",
            "# TYPE sandarb_consumer_loop_stall_seconds gauge",
            "sandarb_consumer_loop_stall_seconds 0.001500",
            "sandarb_consumer_group_generation -1",
            "sandarb_consumer_events_rejected_total{class=\"invalid_json\"} 3",
            "sandarb_consumer_partition_lag{partition=\"7\"} 6",
            "sandarb_consumer_partition_held_by_transactions{partition=\"7\"} 2",
            "sandarb_consumer_insert_duration_seconds_bucket{le=\"0.025\"} 0",
            "sandarb_consumer_insert_duration_seconds_bucket{le=\"0.050\"} 1",
            "sandarb_consumer_insert_duration_seconds_bucket{le=\"20.000\"} 1",
            "sandarb_consumer_insert_duration_seconds_bucket{le=\"+Inf\"} 2",
            "sandarb_consumer_insert_duration_seconds_sum 60.030000",
            "sandarb_consumer_insert_duration_seconds_count 2",
            "process_start_time_seconds 1770458400.000007",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("\nsandarb_consumer_last_flush_timestamp_seconds"), "56 years since the last flush");
        for class in Class::ALL {
            let count = u8::from(matches!(class, Class::Kafka | Class::ClickHouse));
            let line = format!("sandarb_consumer_blocked{{what=\"{}\"}} {count}", class.name());
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
