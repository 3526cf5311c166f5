-- The table of events. Statements end with a semicolon at the end of a line.

CREATE DATABASE IF NOT EXISTS sandarb;

-- non_replicated_deduplication_window: an insert that is repeated because its outcome was unknown is recognised by its
-- token and dropped. It counts parts (one an insert and month), so it spans 10000 inserts of one month. On a cluster
-- use ReplicatedMergeTree, which has a window of its own, and leave the setting out.
CREATE TABLE IF NOT EXISTS sandarb.events
(
    event_id            UUID                   DEFAULT generateUUIDv4(),
    event_type          LowCardinality(String),
    event_category      LowCardinality(String),
    agent_id            String,
    agent_name          LowCardinality(String),
    org_id              String,
    org_name            LowCardinality(String),
    context_id          String,
    context_name        LowCardinality(String),
    version_id          String,
    version_number      UInt32,
    prompt_id           String,
    prompt_name         LowCardinality(String),
    data_classification LowCardinality(String),
    governance_hash     String,
    hash_type           LowCardinality(String) DEFAULT 'sha256',
    template_rendered   Bool,
    denial_reason       String,
    violation_type      LowCardinality(String),
    severity            LowCardinality(String),
    trace_id            String,
    source_ip           String,
    request_method      LowCardinality(String),
    request_path        String,
    event_time          DateTime64(3, 'UTC')   DEFAULT now64(3),
    ingested_at         DateTime64(3, 'UTC')   DEFAULT now64(3),
    metadata            String                 DEFAULT '{}'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (org_id, event_type, event_time, event_id)
TTL toDateTime(event_time) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000;
