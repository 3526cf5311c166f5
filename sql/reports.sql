-- Reports: richer aggregates over sandarb.events than those of views.sql, each in a table of its own, fed by a
-- materialized view. Statements end with a semicolon at the end of a line. Apply after events.sql.
--
-- Each target has a deduplication window: when an insert is repeated the views are fed again, and only the window of
-- the target keeps it from counting twice. Sums are SimpleAggregateFunction(sum, ...): an AggregatingMergeTree keeps
-- just one value of a plain number when parts merge. Read with sum(...) and GROUP BY: rows merge in the background.

CREATE TABLE IF NOT EXISTS sandarb.kpis_by_day
(
    day        Date,
    org_id     String,
    event_type LowCardinality(String),
    severity   LowCardinality(String),
    events     SimpleAggregateFunction(sum, UInt64),
    rendered   SimpleAggregateFunction(sum, UInt64),
    denied     SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (org_id, day, event_type, severity)
TTL day + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.kpis_by_day_view TO sandarb.kpis_by_day AS
SELECT
    toDate(event_time)         AS day,
    org_id,
    event_type,
    severity,
    count()                    AS events,
    countIf(template_rendered) AS rendered,
    countIf(denial_reason != '') AS denied
FROM sandarb.events
GROUP BY day, org_id, event_type, severity;

CREATE TABLE IF NOT EXISTS sandarb.agents_by_day
(
    day        Date,
    org_id     String,
    agent_id   String,
    agent_name SimpleAggregateFunction(anyLast, String),
    events     SimpleAggregateFunction(sum, UInt64),
    denied     SimpleAggregateFunction(sum, UInt64),
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_seen  SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (org_id, agent_id, day)
TTL day + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.agents_by_day_view TO sandarb.agents_by_day AS
SELECT
    toDate(event_time)              AS day,
    org_id,
    agent_id,
    anyLast(toString(e.agent_name)) AS agent_name,
    count()                         AS events,
    countIf(denial_reason != '')    AS denied,
    min(event_time)                 AS first_seen,
    max(event_time)                 AS last_seen
FROM sandarb.events AS e
WHERE agent_id != ''
GROUP BY day, org_id, agent_id;

CREATE TABLE IF NOT EXISTS sandarb.contexts_by_day
(
    day          Date,
    org_id       String,
    context_id   String,
    context_name SimpleAggregateFunction(anyLast, String),
    events       SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (org_id, day, context_id)
TTL day + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.contexts_by_day_view TO sandarb.contexts_by_day AS
SELECT
    toDate(event_time)                AS day,
    org_id,
    context_id,
    anyLast(toString(e.context_name)) AS context_name,
    count()                           AS events
FROM sandarb.events AS e
WHERE context_id != ''
GROUP BY day, org_id, context_id;

CREATE TABLE IF NOT EXISTS sandarb.proofs
(
    event_time      DateTime64(3, 'UTC'),
    event_id        UUID,
    org_id          String,
    agent_id        String,
    context_id      String,
    version_id      String,
    governance_hash String,
    hash_type       LowCardinality(String),
    trace_id        String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (org_id, governance_hash, event_time, event_id)
TTL toDateTime(event_time) + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.proofs_view TO sandarb.proofs AS
SELECT event_time, event_id, org_id, agent_id, context_id, version_id, governance_hash, hash_type, trace_id
FROM sandarb.events
WHERE governance_hash != '';

CREATE TABLE IF NOT EXISTS sandarb.denials_by_day
(
    day            Date,
    org_id         String,
    violation_type LowCardinality(String),
    severity       LowCardinality(String),
    denial_reason  String,
    events         UInt64
)
ENGINE = SummingMergeTree(events)
PARTITION BY toYYYYMM(day)
ORDER BY (org_id, day, violation_type, severity, denial_reason)
TTL day + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS sandarb.denials_by_day_view TO sandarb.denials_by_day AS
SELECT
    toDate(event_time) AS day,
    org_id,
    violation_type,
    severity,
    denial_reason,
    count()            AS events
FROM sandarb.events
WHERE denial_reason != ''
GROUP BY day, org_id, violation_type, severity, denial_reason;
