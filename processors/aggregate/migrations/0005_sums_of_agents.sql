-- Sums of an agent: one row for each agent and hour (or day), without the models, tools and workflows that make twenty rows of
-- one in the sums above. events, finished and failed are of every kind of event; runs_… of runs, calls_… and call_… of model
-- calls; entries and what follows them of the ledger, charges and tokens of its charges alone. The latencies are sketches, as
-- above. And one row for each agent ever seen, with the latest name and version it gave.
CREATE TABLE agents_hour (
    "at" TIMESTAMP NOT NULL,
    "tenant_id" VARCHAR NOT NULL,
    "agent_id" VARCHAR NOT NULL,
    "events" BIGINT NOT NULL,
    "finished" BIGINT NOT NULL,
    "failed" BIGINT NOT NULL,
    "runs_started" BIGINT NOT NULL,
    "runs_finished" BIGINT NOT NULL,
    "runs_failed" BIGINT NOT NULL,
    "calls_finished" BIGINT NOT NULL,
    "call_tokens" BIGINT NOT NULL,
    "entries" BIGINT NOT NULL,
    "charges" BIGINT NOT NULL,
    "unpriced" BIGINT NOT NULL,
    "cost_usd" DECIMAL(38,9) NOT NULL USING COMPRESSION uncompressed,
    "input_tokens" BIGINT NOT NULL,
    "output_tokens" BIGINT NOT NULL,
    "cache_read_tokens" BIGINT NOT NULL,
    "cache_write_tokens" BIGINT NOT NULL,
    "run_latencies" STRUCT("bucket" SMALLINT, "count" BIGINT)[],
    "call_latencies" STRUCT("bucket" SMALLINT, "count" BIGINT)[]
);
CREATE TABLE agents_day (
    "at" TIMESTAMP NOT NULL,
    "tenant_id" VARCHAR NOT NULL,
    "agent_id" VARCHAR NOT NULL,
    "events" BIGINT NOT NULL,
    "finished" BIGINT NOT NULL,
    "failed" BIGINT NOT NULL,
    "runs_started" BIGINT NOT NULL,
    "runs_finished" BIGINT NOT NULL,
    "runs_failed" BIGINT NOT NULL,
    "calls_finished" BIGINT NOT NULL,
    "call_tokens" BIGINT NOT NULL,
    "entries" BIGINT NOT NULL,
    "charges" BIGINT NOT NULL,
    "unpriced" BIGINT NOT NULL,
    "cost_usd" DECIMAL(38,9) NOT NULL USING COMPRESSION uncompressed,
    "input_tokens" BIGINT NOT NULL,
    "output_tokens" BIGINT NOT NULL,
    "cache_read_tokens" BIGINT NOT NULL,
    "cache_write_tokens" BIGINT NOT NULL,
    "run_latencies" STRUCT("bucket" SMALLINT, "count" BIGINT)[],
    "call_latencies" STRUCT("bucket" SMALLINT, "count" BIGINT)[]
);
CREATE TABLE agents_seen (
    "tenant_id" VARCHAR NOT NULL,
    "agent_id" VARCHAR NOT NULL,
    "last_at" TIMESTAMP NOT NULL,
    "name_at" TIMESTAMP,
    "name" VARCHAR,
    "version_at" TIMESTAMP,
    "version" VARCHAR
);

INSERT INTO agents_hour BY NAME
WITH heights AS (
    SELECT "at", tenant_id, agent_id, kind, entry.bucket AS bucket, sum(entry.count)::BIGINT AS number
    FROM (
        SELECT "at", tenant_id, agent_id, kind, unnest(latency_buckets) AS entry FROM rollups_hour
        WHERE kind IN ('run', 'model_call')
    ) GROUP BY ALL
),
sketches AS (
    SELECT "at", tenant_id, agent_id,
        list_sort(list({'bucket': bucket, 'count': number}) FILTER (kind = 'run')) AS run_latencies,
        list_sort(list({'bucket': bucket, 'count': number}) FILTER (kind = 'model_call')) AS call_latencies
    FROM heights GROUP BY ALL
),
sums AS (
    SELECT "at", tenant_id, agent_id,
        coalesce(sum(events) FILTER (kind <> 'ledger'), 0)::BIGINT AS events,
        sum(finished)::BIGINT AS finished, sum(failed)::BIGINT AS failed,
        coalesce(sum(started) FILTER (kind = 'run'), 0)::BIGINT AS runs_started,
        coalesce(sum(finished) FILTER (kind = 'run'), 0)::BIGINT AS runs_finished,
        coalesce(sum(failed) FILTER (kind = 'run'), 0)::BIGINT AS runs_failed,
        coalesce(sum(finished) FILTER (kind = 'model_call'), 0)::BIGINT AS calls_finished,
        least(coalesce(sum(input_tokens::HUGEINT + output_tokens) FILTER (kind = 'model_call'), 0), 9223372036854775807)::BIGINT
            AS call_tokens,
        coalesce(sum(events) FILTER (kind = 'ledger'), 0)::BIGINT AS entries,
        sum(charges)::BIGINT AS charges, sum(unpriced)::BIGINT AS unpriced, sum(cost_usd) AS cost_usd,
        least(coalesce(sum(input_tokens) FILTER (kind = 'ledger'), 0), 9223372036854775807)::BIGINT AS input_tokens,
        least(coalesce(sum(output_tokens) FILTER (kind = 'ledger'), 0), 9223372036854775807)::BIGINT AS output_tokens,
        least(coalesce(sum(cache_read_tokens) FILTER (kind = 'ledger'), 0), 9223372036854775807)::BIGINT AS cache_read_tokens,
        least(coalesce(sum(cache_write_tokens) FILTER (kind = 'ledger'), 0), 9223372036854775807)::BIGINT AS cache_write_tokens
    FROM rollups_hour GROUP BY ALL
)
SELECT sums.*, run_latencies, call_latencies FROM sums LEFT JOIN sketches USING ("at", tenant_id, agent_id) ORDER BY "at";

INSERT INTO agents_day BY NAME
WITH heights AS (
    SELECT date_trunc('day', "at") AS "at", tenant_id, agent_id, kind, entry.bucket AS bucket, sum(entry.count)::BIGINT AS number
    FROM (
        SELECT "at", tenant_id, agent_id, 'run' AS kind, unnest(run_latencies) AS entry FROM agents_hour
        UNION ALL
        SELECT "at", tenant_id, agent_id, 'model_call' AS kind, unnest(call_latencies) AS entry FROM agents_hour
    ) GROUP BY ALL
),
sketches AS (
    SELECT "at", tenant_id, agent_id,
        list_sort(list({'bucket': bucket, 'count': number}) FILTER (kind = 'run')) AS run_latencies,
        list_sort(list({'bucket': bucket, 'count': number}) FILTER (kind = 'model_call')) AS call_latencies
    FROM heights GROUP BY ALL
),
sums AS (
    SELECT date_trunc('day', "at") AS "at", tenant_id, agent_id, sum(events)::BIGINT AS events, sum(finished)::BIGINT AS finished,
        sum(failed)::BIGINT AS failed, sum(runs_started)::BIGINT AS runs_started, sum(runs_finished)::BIGINT AS runs_finished,
        sum(runs_failed)::BIGINT AS runs_failed, sum(calls_finished)::BIGINT AS calls_finished,
        least(sum(call_tokens), 9223372036854775807)::BIGINT AS call_tokens, sum(entries)::BIGINT AS entries,
        sum(charges)::BIGINT AS charges, sum(unpriced)::BIGINT AS unpriced, sum(cost_usd) AS cost_usd,
        least(sum(input_tokens), 9223372036854775807)::BIGINT AS input_tokens,
        least(sum(output_tokens), 9223372036854775807)::BIGINT AS output_tokens,
        least(sum(cache_read_tokens), 9223372036854775807)::BIGINT AS cache_read_tokens,
        least(sum(cache_write_tokens), 9223372036854775807)::BIGINT AS cache_write_tokens
    FROM agents_hour GROUP BY ALL
)
SELECT sums.*, run_latencies, call_latencies FROM sums LEFT JOIN sketches USING ("at", tenant_id, agent_id) ORDER BY "at";

INSERT INTO agents_seen BY NAME
SELECT tenant_id, agent_id, last_at, named."at" AS name_at, named."text" AS name, versioned."at" AS version_at,
    versioned."text" AS version
FROM (
    SELECT tenant_id, agent_id, max(last_at) AS last_at,
        max({'at': last_at, 'text': name}) FILTER (kind IN ('heartbeat', 'agent') AND name IS NOT NULL) AS named,
        max({'at': last_at, 'text': provider}) FILTER (kind IN ('heartbeat', 'agent') AND provider IS NOT NULL) AS versioned
    FROM rollups_day GROUP BY tenant_id, agent_id
);
