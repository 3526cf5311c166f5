-- The five pre-aggregated tables that the original installation's dashboards read, with its names, columns and filters,
-- each fed from sandarb.events by a materialized view. Statements end with a semicolon at the end of a line. Apply after
-- events.sql.
--
-- Two things differ from the original: the counters of daily_kpis are SimpleAggregateFunction(sum, UInt64), because an
-- AggregatingMergeTree keeps just one value of a plain number when parts merge; and each target has a deduplication
-- window: when an insert is repeated the views are fed again, and only the window of the target keeps it from counting
-- twice. Read with sum(...), uniqExactMerge(...) and GROUP BY: rows merge in the background.

CREATE TABLE IF NOT EXISTS sandarb.daily_kpis
(
    day                 Date,
    org_id              String,
    event_type          LowCardinality(String),
    data_classification LowCardinality(String),
    event_count         SimpleAggregateFunction(sum, UInt64),
    rendered_count      SimpleAggregateFunction(sum, UInt64),
    unique_agents       AggregateFunction(uniqExact, String),
    unique_contexts     AggregateFunction(uniqExact, String)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (org_id, event_type, day, data_classification)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.daily_kpis_mv TO sandarb.daily_kpis AS
SELECT
    toDate(event_time)           AS day,
    org_id,
    event_type,
    data_classification,
    count()                      AS event_count,
    countIf(template_rendered)   AS rendered_count,
    uniqExactState(agent_id)     AS unique_agents,
    uniqExactState(context_name) AS unique_contexts
FROM sandarb.events
GROUP BY day, org_id, event_type, data_classification;

CREATE TABLE IF NOT EXISTS sandarb.agent_activity
(
    agent_id    String,
    agent_name  LowCardinality(String),
    hour        DateTime,
    event_type  LowCardinality(String),
    event_count UInt64
)
ENGINE = SummingMergeTree
ORDER BY (agent_id, hour, event_type)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.agent_activity_mv TO sandarb.agent_activity AS
SELECT
    agent_id,
    agent_name,
    toStartOfHour(event_time) AS hour,
    event_type,
    count()                   AS event_count
FROM sandarb.events
GROUP BY agent_id, agent_name, hour, event_type;

CREATE TABLE IF NOT EXISTS sandarb.top_contexts
(
    context_name LowCardinality(String),
    day          Date,
    inject_count UInt64
)
ENGINE = SummingMergeTree
ORDER BY (context_name, day)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.top_contexts_mv TO sandarb.top_contexts AS
SELECT
    context_name,
    toDate(event_time) AS day,
    count()            AS inject_count
FROM sandarb.events
WHERE event_type IN ('INJECT_SUCCESS', 'INJECT_DENIED')
GROUP BY context_name, day;

CREATE TABLE IF NOT EXISTS sandarb.governance_proofs
(
    context_name    LowCardinality(String),
    governance_hash String,
    agent_id        String,
    day             Date,
    delivery_count  UInt64
)
ENGINE = SummingMergeTree
ORDER BY (context_name, governance_hash, day, agent_id)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.governance_proofs_mv TO sandarb.governance_proofs AS
SELECT
    context_name,
    governance_hash,
    agent_id,
    toDate(event_time) AS day,
    count()            AS delivery_count
FROM sandarb.events
WHERE event_type = 'INJECT_SUCCESS' AND governance_hash != ''
GROUP BY context_name, governance_hash, agent_id, day;

CREATE TABLE IF NOT EXISTS sandarb.denial_reasons
(
    denial_reason String,
    event_type    LowCardinality(String),
    day           Date,
    denial_count  UInt64
)
ENGINE = SummingMergeTree
ORDER BY (denial_reason, event_type, day)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.denial_reasons_mv TO sandarb.denial_reasons AS
SELECT
    denial_reason,
    event_type,
    toDate(event_time) AS day,
    count()            AS denial_count
FROM sandarb.events
WHERE event_type IN ('INJECT_DENIED', 'PROMPT_DENIED', 'POLICY_VIOLATION')
GROUP BY denial_reason, event_type, day;
