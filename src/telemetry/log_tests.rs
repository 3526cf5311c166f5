use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::telemetry::capture::Captured;

/// 2026-02-07T10:30:00.000042 UTC.
fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(1_770_460_200_000_042)
}

fn logged(level: LogLevel, events: impl FnOnce()) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    tracing::subscriber::with_default(subscriber(level, clock, move || writer.clone()), events);
    captured.text()
}

/// The line of one INFO event without its head and tail.
fn fields(events: impl FnOnce()) -> String {
    let line = logged(LogLevel::Debug, events);
    serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let head = r#"{"ts":"2026-02-07T10:30:00.000042Z","level":"INFO","msg":"m","logger":"t""#;
    let rest = line.strip_prefix(head).unwrap_or_else(|| panic!("{line}"));
    rest.strip_suffix("}\n").unwrap_or_else(|| panic!("{line}")).to_owned()
}

#[test]
fn a_line_byte_for_byte() {
    let text = logged(LogLevel::Info, || {
        tracing::warn!(topic = "sandarb_events", partition = 3, lost = true, "offset {} is gone", 17);
    });
    assert_eq!(
        text,
        "{\"ts\":\"2026-02-07T10:30:00.000042Z\",\"level\":\"WARNING\",\"msg\":\"offset 17 is gone\",\
         \"logger\":\"sandarb_consumer::telemetry::log::tests\",\
         \"topic\":\"sandarb_events\",\"partition\":3,\"lost\":true}\n"
    );
}

#[test]
fn levels_have_the_names_of_the_original() {
    let text = logged(LogLevel::Debug, || {
        tracing::error!(target: "t", "m");
        tracing::warn!(target: "t", "m");
        tracing::info!(target: "t", "m");
        tracing::debug!(target: "t", "m");
        tracing::trace!(target: "t", "never at any of our levels");
    });
    let levels: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["level"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(levels, ["ERROR", "WARNING", "INFO", "DEBUG"]);
}

#[test]
fn each_level_lets_through_itself_and_what_is_above() {
    for (level, lines) in [(LogLevel::Error, 1), (LogLevel::Warning, 2), (LogLevel::Info, 3), (LogLevel::Debug, 4)] {
        let text = logged(level, || {
            tracing::error!("m");
            tracing::warn!("m");
            tracing::info!("m");
            tracing::debug!("m");
        });
        assert_eq!(text.lines().count(), lines, "{level:?}");
    }
}

#[test]
fn libraries_are_silent_below_warning() {
    let events = || {
        tracing::debug!(target: "rskafka::connection", "m");
        tracing::info!(target: "hyper::proto", "m");
        tracing::info!(target: "hyper_util::client", "m");
        tracing::info!(target: "rustls::client", "m");
        tracing::warn!(target: "rskafka::messenger", "kept");
        tracing::error!(target: "rustls", "kept too");
    };
    let text = logged(LogLevel::Debug, events);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.contains("\"msg\":\"kept")), "{text}");
    let text = logged(LogLevel::Error, events);
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn numbers_stay_numbers() {
    assert_eq!(
        fields(|| tracing::info!(target: "t", a = -1, b = u64::MAX, c = 1.5, d = false, e = i64::MIN, "m")),
        r#","a":-1,"b":18446744073709551615,"c":1.5,"d":false,"e":-9223372036854775808"#
    );
    assert_eq!(
        fields(|| tracing::info!(target: "t", a = i128::MIN, b = u128::MAX, "m")),
        r#","a":-170141183460469231731687303715884105728,"b":340282366920938463463374607431768211455"#
    );
    assert_eq!(
        fields(|| tracing::info!(target: "t", a = f64::NAN, b = f64::NEG_INFINITY, c = 1e300, d = 2.0, "m")),
        format!(r#","a":"NaN","b":"-inf","c":1{},"d":2"#, "0".repeat(300))
    );
}

#[test]
fn strings_are_escaped() {
    let text = "\" \\ / \n \r \t \u{0} \u{8} \u{1b}[31m \u{7f} \u{85} \u{2028} \u{2029} é 😀";
    let escaped = r#"\" \\ / \n \r \t \u0000 \u0008 \u001b[31m \u007f \u0085 \u2028 \u2029 é 😀"#;
    assert_eq!(fields(|| tracing::info!(target: "t", text, "m")), format!(",\"text\":\"{escaped}\""));
    assert_eq!(fields(|| tracing::info!(target: "t", text = %text, "m")), format!(",\"text\":\"{escaped}\""));
    let line = logged(LogLevel::Info, || tracing::info!("{text}"));
    assert!(line.contains(&format!("\"msg\":\"{escaped}\",")), "{line}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["msg"], text);
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn every_character_survives() {
    let all: String = (0..0x3000).filter_map(char::from_u32).collect();
    let line = logged(LogLevel::Info, || tracing::info!(all));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["all"], all);
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn other_values_are_strings_and_errors_say_what_they_say() {
    let error = std::io::Error::other("broken \"pipe\"");
    let source: &(dyn std::error::Error + 'static) = &error;
    assert_eq!(
        fields(|| tracing::info!(target: "t", list = ?[1, 2], name = ?"x", error = source, none = ?None::<u8>, "m")),
        r#","list":"[1, 2]","name":"\"x\"","error":"broken \"pipe\"","none":"None""#
    );
}

#[test]
fn fields_never_take_the_place_of_the_four() {
    assert_eq!(
        fields(|| tracing::info!(target: "t", ts = 1, level = "x", msg = "y", logger = true, r#type = 2, "m")),
        r#","ts_":1,"level_":"x","msg_":"y","logger_":true,"type":2"#
    );
}

#[test]
fn a_field_that_is_absent_and_an_event_without_a_message() {
    assert_eq!(fields(|| tracing::info!(target: "t", gone = None::<i64>, here = Some(1), "m")), r#","here":1"#);
    let line = logged(LogLevel::Info, || tracing::info!(target: "t", a = 1));
    assert!(line.ends_with("\"msg\":\"\",\"logger\":\"t\",\"a\":1}\n"), "{line}");
}

#[test]
fn spans_add_nothing() {
    let text = fields(|| tracing::info_span!("batch", rows = 3).in_scope(|| tracing::info!(target: "t", a = 1, "m")));
    assert_eq!(text, r#","a":1"#);
}
