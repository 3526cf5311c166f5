//! The vocabulary: plausible names, some with characters that JSON escapes or that need more than one byte.

/// A kind of event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activity {
    pub(crate) event_type: &'static str,
    pub(crate) category: &'static str,
    pub(crate) path: &'static str,
    pub(crate) context: bool,
    pub(crate) prompt: bool,
    pub(crate) denied: bool,
}

/// Why something was denied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Denial {
    pub(crate) reason: &'static str,
    pub(crate) violation: &'static str,
    pub(crate) severity: &'static str,
}

const fn activity(
    event_type: &'static str,
    category: &'static str,
    path: &'static str,
    about: (bool, bool, bool),
) -> Activity {
    Activity { event_type, category, path, context: about.0, prompt: about.1, denied: about.2 }
}

/// Frequent kinds stand here more than once.
pub(crate) const ACTIVITIES: [Activity; 20] = [
    activity("INJECT_SUCCESS", "inject", "/api/inject", (true, false, false)),
    activity("INJECT_SUCCESS", "inject", "/api/inject", (true, false, false)),
    activity("INJECT_SUCCESS", "inject", "/api/inject", (true, false, false)),
    activity("INJECT_SUCCESS", "inject", "/api/inject", (true, true, false)),
    activity("INJECT_SUCCESS", "inject", "/api/v1/inject", (true, true, false)),
    activity("INJECT_DENIED", "inject", "/api/inject", (true, false, true)),
    activity("INJECT_DENIED", "inject", "/api/inject", (true, true, true)),
    activity("PROMPT_USED", "prompt-usage", "/api/prompts/pull", (false, true, false)),
    activity("PROMPT_USED", "prompt-usage", "/api/prompts/pull", (false, true, false)),
    activity("PROMPT_USED", "prompt-usage", "/api/prompts/pull", (false, true, false)),
    activity("PROMPT_DENIED", "prompt-usage", "/api/prompts/pull", (false, true, true)),
    activity("A2A_CALL", "a2a", "/a2a", (false, false, false)),
    activity("A2A_CALL", "a2a", "/a2a", (false, false, false)),
    activity("A2A_CALL_DENIED", "a2a", "/a2a", (false, false, true)),
    activity("CONTEXT_VERSION_APPROVED", "audit", "/api/contexts", (true, false, false)),
    activity("CONTEXT_VERSION_PROPOSED", "audit", "/api/contexts", (true, false, false)),
    activity("PROMPT_VERSION_APPROVED", "audit", "/api/prompts", (false, true, false)),
    activity("AGENT_REGISTERED", "audit", "/api/agents", (false, false, false)),
    activity("AGENT_CARD_CHECKED", "audit", "/.well-known/agent.json", (false, false, false)),
    activity("GOVERNANCE_PROOF", "governance", "/api/governance/proofs", (true, true, false)),
];

const fn denial(reason: &'static str, violation: &'static str, severity: &'static str) -> Denial {
    Denial { reason, violation, severity }
}

pub(crate) const DENIALS: [Denial; 9] = [
    denial("Agent is not linked to this context", "unauthorized_context", "high"),
    denial("Context classification exceeds the agent's clearance", "classification", "critical"),
    denial("No approved version exists for \"current\"", "unapproved_version", "medium"),
    denial("Rate limit of 60 pulls/min exceeded", "rate_limit", "low"),
    denial("Prompt template failed: missing variable {{customer_name}}", "template", "medium"),
    denial("Policy eu-residency:\n  data must not leave the region", "residency", "critical"),
    denial("Agent registration is pending approval", "unregistered_agent", "high"),
    denial("Signature check failed (hash mismatch)", "integrity", "critical"),
    denial("Zugriff verweigert: Schlüssel abgelaufen", "expired_credentials", "medium"),
];

/// Short name and name.
pub(crate) const AGENTS: [(&str, &str); 16] = [
    ("support", "Customer Support Copilot"),
    ("trade", "Trade Surveillance Agent"),
    ("kyc", "KYC Onboarding Agent"),
    ("claims", "Claims Triage Agent"),
    ("code", "Code Review Assistant"),
    ("hr", "HR Policy Assistant"),
    ("legal", "Legal Clause Finder"),
    ("fraud", "Fraud Detection Agent"),
    ("summ", "Meeting Summarizer"),
    ("sql", "Analytics SQL Agent"),
    ("rx", "Clinical Notes Agent"),
    ("supply", "Supply Chain Planner"),
    ("mktg", "Campaign Writer"),
    ("sec", "Security Incident Responder"),
    ("fin", "Financial Close Assistant"),
    ("trans", "Übersetzungs-Agent"),
];

pub(crate) const ORG_NAMES: [&str; 24] = [
    "Northfield",
    "Alder & Pine",
    "Bluewater",
    "Cedar Ridge",
    "Delta Harbor",
    "Eastgate",
    "Fernhill",
    "Granite Peak",
    "Hollow Oak",
    "Iron Bridge",
    "Juniper",
    "Kestrel",
    "Larkspur",
    "Meridian",
    "Nimbus",
    "Orchard Lane",
    "Pebble Creek",
    "Quarry Park",
    "Río Claro",
    "Stonebrook",
    "Timberline",
    "Umbra",
    "Västra",
    "Willow Bend",
];

pub(crate) const ORG_KINDS: [&str; 10] =
    ["Bank", "Health", "Insurance", "Logistics", "Energy", "Retail", "Labs", "Holdings", "Mutual", "Foods"];

pub(crate) const CONTEXTS: [&str; 20] = [
    "trading-limits",
    "refund-policy",
    "kyc-checklist",
    "claims-guidelines",
    "style-guide",
    "hipaa-minimum-necessary",
    "suitability-rules",
    "incident-runbook",
    "data-retention-policy",
    "pricing-tiers",
    "escalation-matrix",
    "export-controls",
    "gdpr-lawful-basis",
    "vendor-risk-register",
    "brand-voice",
    "model-risk-policy",
    "sanctions-screening",
    "clinical-coding-rules",
    "sla-commitments",
    "travel-expenses",
];

pub(crate) const PROMPTS: [&str; 16] = [
    "support-triage",
    "summarize-call",
    "draft-refund-email",
    "classify-claim",
    "explain-denial",
    "sql-from-question",
    "risk-narrative",
    "contract-redline",
    "incident-postmortem",
    "kyc-adverse-media",
    "translate-de-en",
    "meeting-actions",
    "campaign-brief",
    "code-review",
    "close-checklist",
    "discharge-summary",
];

pub(crate) const CLASSIFICATIONS: [&str; 5] = ["public", "internal", "confidential", "restricted", "internal"];

pub(crate) const METHODS: [&str; 5] = ["GET", "POST", "GET", "POST", "PUT"];

pub(crate) const REGIONS: [&str; 6] =
    ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-south-1", "sa-east-1"];

pub(crate) const MODELS: [&str; 5] = ["small-1", "medium-2", "large-2", "large-3", "embed-1"];

/// Already escaped as the inside of a JSON string.
pub(crate) const NOTES: [&str; 6] =
    ["", "cache hit", r#"retry after \"timeout\""#, "première exécution", r"path C:\\agents\\run", r"two\nlines"];
