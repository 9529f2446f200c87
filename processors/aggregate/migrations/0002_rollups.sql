-- Sums per minute, hour and day of event time. kind is an event kind, or 'ledger'. name and provider are the model's for
-- model calls and the ledger, the tool's or step type's name, the workflow of a run; of heartbeats and agent events the
-- agent's own name and version. latency_buckets is a sketch: bucket b holds latencies in (1.04^(b-1), 1.04^b] ms.
CREATE TABLE rollups (
    "grain" VARCHAR NOT NULL,
    "at" TIMESTAMP NOT NULL,
    "tenant_id" VARCHAR NOT NULL,
    "agent_id" VARCHAR NOT NULL,
    "kind" VARCHAR NOT NULL,
    "name" VARCHAR,
    "provider" VARCHAR,
    "events" BIGINT NOT NULL,
    "started" BIGINT NOT NULL,
    "finished" BIGINT NOT NULL,
    "failed" BIGINT NOT NULL,
    "late" BIGINT NOT NULL,
    "input_tokens" HUGEINT NOT NULL,
    "output_tokens" HUGEINT NOT NULL,
    "cost_usd" DECIMAL(38,9) NOT NULL,
    "unpriced" BIGINT NOT NULL,
    "latency_count" BIGINT NOT NULL,
    "latency_sum_ms" DOUBLE NOT NULL,
    "latency_max_ms" DOUBLE,
    "latency_buckets" STRUCT("bucket" SMALLINT, "count" BIGINT)[],
    "last_at" TIMESTAMP NOT NULL
);

-- What is not in the rollups yet: one row for each event and ledger entry, written with it, folded in from time to time.
CREATE TABLE rollup_facts (
    "occurred_at" TIMESTAMP NOT NULL,
    "last_at" TIMESTAMP NOT NULL,
    "tenant_id" VARCHAR NOT NULL,
    "agent_id" VARCHAR NOT NULL,
    "kind" VARCHAR NOT NULL,
    "name" VARCHAR,
    "provider" VARCHAR,
    "started" INTEGER NOT NULL,
    "finished" INTEGER NOT NULL,
    "failed" INTEGER NOT NULL,
    "late" INTEGER NOT NULL,
    "input_tokens" BIGINT NOT NULL,
    "output_tokens" BIGINT NOT NULL,
    "cost_usd" DECIMAL(18,9) NOT NULL,
    "unpriced" INTEGER NOT NULL,
    "latency_ms" DOUBLE
);
