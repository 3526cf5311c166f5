//! Governance events as the producer sends them: 26 fields, about 900 bytes of JSON, plausible and varied.
//!
//! An event is a pure function of seed, index and base time, so that a test knows what was produced without having
//! consumed it.

mod names;
pub mod produce;
mod random;
mod time;

use serde::Serialize;
use serde::ser::Serializer;
use serde_json::value::RawValue;

use names::{
    ACTIVITIES, AGENTS, Activity, CLASSIFICATIONS, CONTEXTS, DENIALS, Denial, METHODS, ORG_KINDS, ORG_NAMES, PROMPTS,
    REGIONS,
};
use random::Random;

/// One event. The fields are in the order in which they are sent, and have the names of the table's columns.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// A UUID of its own for each (seed, index).
    pub event_id: String,
    /// What happened.
    pub event_type: &'static str,
    /// The kind of thing that happened.
    pub event_category: &'static str,
    /// The acting agent.
    pub agent_id: String,
    /// Its name.
    pub agent_name: &'static str,
    /// The organisation; also the record's key.
    pub org_id: String,
    /// Its name.
    pub org_name: String,
    /// The context concerned; empty where there is none.
    pub context_id: String,
    /// Its name.
    pub context_name: &'static str,
    /// The version of context or prompt.
    pub version_id: String,
    /// Its number.
    pub version_number: u32,
    /// The prompt concerned; empty where there is none.
    pub prompt_id: String,
    /// Its name.
    pub prompt_name: &'static str,
    /// How sensitive it is.
    pub data_classification: &'static str,
    /// 64 hexadecimal digits.
    pub governance_hash: String,
    /// How the hash was made.
    pub hash_type: &'static str,
    /// Whether a template was rendered.
    pub template_rendered: bool,
    /// Why it was denied; empty when it was not.
    pub denial_reason: &'static str,
    /// Which kind of rule it broke; empty when none.
    pub violation_type: &'static str,
    /// How grave that is; empty when nothing was denied.
    pub severity: &'static str,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// An IPv4 address of a documentation or private range.
    pub source_ip: String,
    /// The HTTP method.
    pub request_method: &'static str,
    /// The HTTP path.
    pub request_path: String,
    /// Milliseconds since 1970-01-01 UTC; sent like `2026-01-21T00:21:40.524Z`.
    #[serde(serialize_with = "as_rfc3339")]
    pub event_time: i64,
    /// Further facts.
    pub metadata: Metadata,
}

/// The last field: producers send JSON in a string, some the object itself. The table's String column gets the same
/// text from both.
#[derive(Debug, Clone)]
pub enum Metadata {
    /// A string that holds JSON.
    Text(String),
    /// A JSON object.
    Object(Box<RawValue>),
}

impl Metadata {
    /// What the String column is to hold.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Object(raw) => raw.get(),
        }
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Object(raw) => raw.serialize(serializer),
        }
    }
}

impl Event {
    /// The event as the producer sends it, on one line.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(1024);
        self.write_json(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Appends [`Event::to_json`]'s bytes.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let written = serde_json::to_writer(&mut *out, self);
        debug_assert!(written.is_ok(), "a Vec takes everything, and no field can fail: {written:?}");
    }

    /// `event_time` as sent.
    pub fn event_time_text(&self) -> String {
        time::rfc3339_millis(self.event_time)
    }
}

/// What the events are a function of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Another seed gives other events.
    pub seed: u64,
    /// The newest possible `event_time` in milliseconds; the oldest is 30 days before.
    pub base_ms: i64,
    /// Every seventh event or so carries its metadata as an object.
    pub variety: bool,
}

impl Source {
    /// The event with this index.
    pub fn event(&self, index: u64) -> Event {
        let mut event = event(self.seed, index, self.base_ms);
        if self.variety
            && Random::new(self.seed ^ VARIETY, index).one_in(7)
            && let Metadata::Text(text) = &event.metadata
            && let Ok(raw) = RawValue::from_string(text.clone())
        {
            event.metadata = Metadata::Object(raw);
        }
        event
    }
}

/// The event of this seed and index, its metadata as text; `base_ms` as in [`Source`].
pub fn event(seed: u64, index: u64, base_ms: i64) -> Event {
    let mut random = Random::new(seed, index);
    let event_id = random.uuid();
    let activity: Activity = random.pick(&ACTIVITIES);
    let denial: Option<Denial> = activity.denied.then(|| random.pick(&DENIALS));
    let org = random.below(ORGS);
    let agent = random.below(AGENTS.len() as u64);
    let org_place = org as usize;
    let context = activity.context.then(|| random.below(CONTEXTS.len() as u64));
    let prompt = activity.prompt.then(|| random.below(PROMPTS.len() as u64));
    let version_number = 1 + random.below(14) as u32;
    let subject = context.or(prompt).unwrap_or(agent);
    let context_name = context.map_or("", |place| CONTEXTS[place as usize]);
    let prompt_name = prompt.map_or("", |place| PROMPTS[place as usize]);
    let hosts = random.next();
    let latency = 3 + random.below(900);
    let tokens = random.below(4_000);
    let metadata = format!(
        r#"{{"model":"{}","latency_ms":{latency},"tokens":{tokens},"region":"{}","sdk":"sandarb-py/{}.{}","note":"{}"}}"#,
        random.pick(&names::MODELS),
        random.pick(&REGIONS),
        random.below(3),
        random.below(20),
        random.pick(&names::NOTES),
    );
    Event {
        event_id,
        event_type: activity.event_type,
        event_category: activity.category,
        agent_id: format!("agent-{}-{:04x}", AGENTS[agent as usize].0, org * 31 + agent),
        agent_name: AGENTS[agent as usize].1,
        org_id: org_id(org),
        org_name: format!(
            "{} {}",
            ORG_NAMES[org_place % ORG_NAMES.len()],
            ORG_KINDS[org_place / ORG_NAMES.len() % ORG_KINDS.len()]
        ),
        context_id: context.map_or_else(String::new, |place| format!("ctx-{:06x}", org * 0x400 + place)),
        context_name,
        version_id: format!("ver-{:06x}-{version_number}", org * 0x400 + subject),
        version_number,
        prompt_id: prompt.map_or_else(String::new, |place| format!("prm-{:06x}", org * 0x400 + place)),
        prompt_name,
        data_classification: random.pick(&CLASSIFICATIONS),
        governance_hash: random.hex(4),
        hash_type: if random.one_in(10) { "sha512-trunc" } else { "sha256" },
        template_rendered: activity.prompt && !random.one_in(4),
        denial_reason: denial.map_or("", |denial| denial.reason),
        violation_type: denial.map_or("", |denial| denial.violation),
        severity: denial.map_or("", |denial| denial.severity),
        trace_id: random.hex(2),
        source_ip: match hosts % 3 {
            0 => format!("203.0.113.{}", hosts >> 8 & 0xff),
            1 => format!("10.{}.{}.{}", hosts >> 8 & 0x3f, hosts >> 16 & 0xff, hosts >> 24 & 0xff),
            _ => format!("192.168.{}.{}", hosts >> 8 & 0xf, hosts >> 16 & 0xff),
        },
        request_method: random.pick(&METHODS),
        request_path: format!("{}/{:06x}", activity.path, org * 0x400 + subject),
        event_time: base_ms - random.below(DAYS_30_MS) as i64,
        metadata: Metadata::Text(metadata),
    }
}

/// The number of an event's organisation, by which the producer picks the partition; none for a foreign id.
pub fn org_number(org_id: &str) -> Option<u64> {
    org_id.strip_prefix("org-").and_then(|number| number.parse().ok())
}

fn org_id(number: u64) -> String {
    format!("org-{number:05}")
}

fn as_rfc3339<S: Serializer>(millis: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::rfc3339_millis(*millis))
}

pub use time::parse_base_time;

/// Divisible by the usual partition counts, so that each partition gets its even share.
const ORGS: u64 = 240;
const DAYS_30_MS: u64 = 30 * 24 * 3_600_000;
const VARIETY: u64 = 0x5eed_0000_0000_0007;

#[cfg(test)]
mod tests;
