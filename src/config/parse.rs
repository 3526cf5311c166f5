//! The parsers of single values. Each takes the trimmed text and answers with what is wrong with it; what would be
//! right stands in the table.

use std::net::Ipv6Addr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    AssignorName, ClickHouseAddress, Compression, HealthHttpStatus, HostPort, Isolation, LogLevel, OffsetReset,
    SaslMechanism,
};

/// `KAFKA_SECURITY_PROTOCOL`, before the rest of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

pub(super) type Parsed<T> = Result<T, String>;

fn whole<const MIN: u64, const MAX: u64>(text: &str) -> Parsed<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a whole number".to_owned());
    }
    match text.parse() {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err("is out of range".to_owned()),
    }
}

fn narrowed<T: TryFrom<u64>>(number: u64) -> Parsed<T> {
    T::try_from(number).map_err(|_| "is out of range".to_owned())
}

pub(super) fn millis<const MIN: u64, const MAX: u64>(text: &str) -> Parsed<Duration> {
    whole::<MIN, MAX>(text).map(Duration::from_millis)
}

pub(super) fn size<const MIN: u64, const MAX: u64>(text: &str) -> Parsed<usize> {
    whole::<MIN, MAX>(text).and_then(narrowed)
}

pub(super) fn count<const MAX: u64>(text: &str) -> Parsed<NonZeroUsize> {
    let number = size::<1, MAX>(text)?;
    NonZeroUsize::new(number).ok_or_else(|| "is out of range".to_owned())
}

pub(super) fn fetch_bytes(text: &str) -> Parsed<i32> {
    whole::<1, 0x7fff_ffff>(text).and_then(narrowed)
}

pub(super) fn port(text: &str) -> Parsed<u16> {
    whole::<0, 65_535>(text).and_then(narrowed)
}

/// Any text a protocol can carry.
pub(super) fn name(text: &str) -> Parsed<String> {
    if text.contains(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    Ok(text.to_owned())
}

/// A topic name as the brokers check it (`org.apache.kafka.common.internals.Topic`).
pub(super) fn topic(text: &str) -> Parsed<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.len() > 249 || text == "." || text == ".." || !text.bytes().all(legal) {
        return Err("is not a topic name".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => Ok(path),
        Ok(_) => Err("is not a file".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Comma-separated `host:port`; as in librdkafka, empty elements do not count and a missing port is 9092.
pub(super) fn bootstrap(text: &str) -> Parsed<Vec<HostPort>> {
    let hosts = elements(text).map(|element| host_port(element, Some(9092))).collect::<Parsed<Vec<_>>>()?;
    if hosts.is_empty() { Err("names no address".to_owned()) } else { Ok(hosts) }
}

/// Comma-separated http(s) URLs of hosts; no path, no parameters, no user. A missing port is the scheme's own (80, 443).
pub(super) fn clickhouse_urls(text: &str) -> Parsed<Vec<ClickHouseAddress>> {
    if text.contains('@') {
        return Err("holds a user; set CLICKHOUSE_USER and CLICKHOUSE_PASSWORD instead".to_owned());
    }
    let addresses = elements(text).map(clickhouse_url).collect::<Parsed<Vec<_>>>()?;
    if addresses.is_empty() { Err("names no address".to_owned()) } else { Ok(addresses) }
}

fn clickhouse_url(text: &str) -> Parsed<ClickHouseAddress> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("does not begin with http:// or https://".to_owned());
    };
    let (tls, port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err("does not begin with http:// or https://".to_owned()),
    };
    if rest.contains(['?', '#']) {
        return Err("holds parameters; only the address is taken".to_owned());
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('/') {
        return Err("holds a path; only / is allowed".to_owned());
    }
    Ok(ClickHouseAddress { tls, host: host_port(authority, Some(port))? })
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_port(text: &str, default_port: Option<u16>) -> Parsed<HostPort> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let Some((literal, rest)) = bracketed.split_once(']') else {
            return Err("lacks the ] of an IPv6 address".to_owned());
        };
        // A zone (`fe80::1%eth0`) is for the resolver to judge.
        let address = literal.split('%').next().unwrap_or(literal);
        if address.parse::<Ipv6Addr>().is_err() {
            return Err("holds brackets around something that is no IPv6 address".to_owned());
        }
        match rest.strip_prefix(':') {
            Some(port) => (literal, Some(port)),
            None if rest.is_empty() => (literal, None),
            None => return Err("has text between the ] and the port".to_owned()),
        }
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("holds an IPv6 address without brackets, or more than one port".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/[]@\"'".contains(c)) {
        return Err("holds an address without a usable host".to_owned());
    }
    let port = match (port, default_port) {
        (Some(port), _) => {
            whole::<1, 65_535>(port).and_then(narrowed).map_err(|why| format!("holds a port that {why}"))?
        }
        (None, Some(port)) => port,
        (None, None) => return Err("holds an address without a port".to_owned()),
    };
    Ok(HostPort { host: host.to_owned(), port })
}

fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty())
}

/// `auto.offset.reset` in all of librdkafka's spellings.
pub(super) fn offset_reset(text: &str) -> Parsed<OffsetReset> {
    match text.to_ascii_lowercase().as_str() {
        "latest" | "largest" | "end" => Ok(OffsetReset::Latest),
        "earliest" | "smallest" | "beginning" => Ok(OffsetReset::Earliest),
        "none" | "error" => Ok(OffsetReset::None),
        _ => Err(UNKNOWN.to_owned()),
    }
}

pub(super) fn assignors(text: &str) -> Parsed<Vec<AssignorName>> {
    let mut names = Vec::new();
    for element in elements(text) {
        let name = match element.to_ascii_lowercase().as_str() {
            "range" => AssignorName::Range,
            "roundrobin" => AssignorName::RoundRobin,
            _ => return Err("holds an unknown strategy".to_owned()),
        };
        if names.contains(&name) {
            return Err("names a strategy twice".to_owned());
        }
        names.push(name);
    }
    if names.is_empty() { Err("names no strategy".to_owned()) } else { Ok(names) }
}

pub(super) fn isolation(text: &str) -> Parsed<Isolation> {
    match text.to_ascii_lowercase().as_str() {
        "read_committed" => Ok(Isolation::ReadCommitted),
        "read_uncommitted" => Ok(Isolation::ReadUncommitted),
        _ => Err(UNKNOWN.to_owned()),
    }
}

pub(super) fn security_protocol(text: &str) -> Parsed<SecurityProtocol> {
    match text.to_ascii_uppercase().as_str() {
        "PLAINTEXT" => Ok(SecurityProtocol::Plaintext),
        "SSL" => Ok(SecurityProtocol::Ssl),
        "SASL_PLAINTEXT" => Ok(SecurityProtocol::SaslPlaintext),
        "SASL_SSL" => Ok(SecurityProtocol::SaslSsl),
        _ => Err(UNKNOWN.to_owned()),
    }
}

pub(super) fn sasl_mechanism(text: &str) -> Parsed<SaslMechanism> {
    match text.to_ascii_uppercase().as_str() {
        "PLAIN" => Ok(SaslMechanism::Plain),
        "SCRAM-SHA-256" => Ok(SaslMechanism::ScramSha256),
        "SCRAM-SHA-512" => Ok(SaslMechanism::ScramSha512),
        _ => Err(UNKNOWN.to_owned()),
    }
}

pub(super) fn compression(text: &str) -> Parsed<Compression> {
    match text.to_ascii_lowercase().as_str() {
        "lz4" => Ok(Compression::Lz4),
        "none" => Ok(Compression::None),
        _ => Err(UNKNOWN.to_owned()),
    }
}

pub(super) fn health_http_status(text: &str) -> Parsed<HealthHttpStatus> {
    match text.to_ascii_lowercase().as_str() {
        "strict" => Ok(HealthHttpStatus::Strict),
        "always200" => Ok(HealthHttpStatus::Always200),
        _ => Err(UNKNOWN.to_owned()),
    }
}

pub(super) fn on_off(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(UNKNOWN.to_owned()),
    }
}

pub(super) fn log_level(text: &str) -> Parsed<LogLevel> {
    match text.to_ascii_uppercase().as_str() {
        "DEBUG" => Ok(LogLevel::Debug),
        "INFO" => Ok(LogLevel::Info),
        "WARNING" | "WARN" => Ok(LogLevel::Warning),
        "ERROR" | "CRITICAL" => Ok(LogLevel::Error),
        _ => Err(UNKNOWN.to_owned()),
    }
}

const UNKNOWN: &str = "is not known";
