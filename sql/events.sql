-- The database and the table of governance events.
--
-- non_replicated_deduplication_window: a batch that is sent again because its outcome was unknown is recognised by its
-- token and not stored twice. It counts parts (an insert makes one a month that its events fall into).
CREATE DATABASE IF NOT EXISTS sandarb;

CREATE TABLE IF NOT EXISTS sandarb.events
(
    event_id            UUID DEFAULT generateUUIDv4(),
    event_type          LowCardinality(String),
    event_category      LowCardinality(String),
    agent_id            String DEFAULT '',
    agent_name          LowCardinality(String) DEFAULT '',
    org_id              String DEFAULT '',
    org_name            LowCardinality(String) DEFAULT '',
    context_id          String DEFAULT '',
    context_name        LowCardinality(String) DEFAULT '',
    version_id          String DEFAULT '',
    version_number      UInt32 DEFAULT 0,
    prompt_id           String DEFAULT '',
    prompt_name         LowCardinality(String) DEFAULT '',
    data_classification LowCardinality(String) DEFAULT '',
    governance_hash     String DEFAULT '',
    hash_type           LowCardinality(String) DEFAULT 'sha256',
    template_rendered   Bool DEFAULT false,
    denial_reason       String DEFAULT '',
    violation_type      LowCardinality(String) DEFAULT '',
    severity            LowCardinality(String) DEFAULT '',
    trace_id            String DEFAULT '',
    source_ip           String DEFAULT '',
    request_method      LowCardinality(String) DEFAULT '',
    request_path        String DEFAULT '',
    event_time          DateTime64(3, 'UTC') DEFAULT now64(3),
    ingested_at         DateTime64(3, 'UTC') DEFAULT now64(3),
    metadata            String DEFAULT '{}'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (org_id, event_type, event_time, event_id)
TTL toDateTime(event_time) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000;
