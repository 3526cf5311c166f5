//! The log: one JSON object a line on stdout.
//!
//! `{"ts":"2026-02-07T10:30:00.000000Z","level":"INFO","msg":"…","logger":"sandarb_consumer::run","partition":3}`
//!
//! `ts` is RFC 3339 in UTC with microseconds, `level` one of DEBUG, INFO, WARNING, ERROR, `logger` the target. The
//! fields of the event follow, numbers and booleans as such, everything else as a string. A field whose name is one of
//! the four gets an underscore behind it. Levels: WARNING means that nothing is lost, ERROR that a person must act.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogLevel;
use crate::telemetry::timestamp;

/// Opens the log on stdout. Once a process.
///
/// # Errors
/// When a log is open already.
pub fn open(level: LogLevel) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(subscriber(level, SystemTime::now, std::io::stdout))
}

pub(crate) fn subscriber<W>(level: LogLevel, clock: fn() -> SystemTime, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).event_format(JsonLines { clock });
    tracing_subscriber::registry().with(lines.with_filter(targets(level)))
}

/// Our own events from `level` on; those of the libraries that tell each frame only from WARNING on.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let library = level.min(LevelFilter::WARN);
    Targets::new().with_default(level).with_targets(CHATTY.iter().map(|target| (*target, library)))
}

/// One JSON object a line.
#[derive(Debug)]
struct JsonLines {
    clock: fn() -> SystemTime,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields { message: String::new(), rest: String::new() };
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let mut line = format!("{{\"ts\":\"{}\",\"level\":\"{level}\",\"msg\":", timestamp((self.clock)()));
        push_string(&mut line, &fields.message);
        line.push_str(",\"logger\":");
        push_string(&mut line, event.metadata().target());
        line.push_str(&fields.rest);
        line.push('}');
        writeln!(writer, "{line}")
    }
}

/// Collects an event's message and its other fields, these as `,"name":value`.
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            text.clone_into(&mut self.message);
        } else {
            self.name(field);
            push_string(&mut self.rest, text);
        }
    }

    /// A value that JSON writes as Rust does.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        if field.name() == "message" {
            self.message = value.to_string();
        } else {
            self.name(field);
            self.rest.push_str(&value.to_string());
        }
    }

    fn name(&mut self, field: &Field) {
        // `r#type = …` is meant as `type`.
        let name = field.name().strip_prefix("r#").unwrap_or_else(|| field.name());
        self.rest.push(',');
        if RESERVED.contains(&name) {
            push_string(&mut self.rest, &format!("{name}_"));
        } else {
            push_string(&mut self.rest, name);
        }
        self.rest.push(':');
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            // JSON has no such numbers.
            self.text(field, &value.to_string());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

/// A JSON string (RFC 8259, section 7). U+007F and the C1 controls are escaped too, and so are the two line breaks that
/// JavaScript knows beyond ours: a line must stay one line in every viewer.
fn push_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                line.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

const RESERVED: [&str; 4] = ["ts", "level", "msg", "logger"];
const CHATTY: [&str; 5] = ["hyper", "hyper_util", "rskafka", "rustls", "tokio_rustls"];

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
