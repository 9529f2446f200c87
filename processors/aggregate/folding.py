"""Folding what is stored into the sums: by name (``rollups``), of each agent (``agent_sums``), and when each was last seen."""

from typing import Final

import duckdb

from processors.aggregate import agent_sums
from processors.aggregate.rollups import BUCKET, COUNTS, GRAINS, KEYS, SUMS, TOKENS, UNFOLDED, Grain, facts, positions

_HOURS: Final = f"""
    CREATE OR REPLACE TEMP TABLE new_hours AS
    SELECT date_trunc('hour', occurred_at) AS "at", {KEYS}, {BUCKET} AS bucket, count(*) AS events,
        {", ".join(f"sum({name}) AS {name}" for name in (*COUNTS[1:-1], *TOKENS, "cost_usd"))},
        count(latency_ms) AS latency_count, coalesce(sum(latency_ms), 0) AS latency_sum_ms,
        max(latency_ms) AS latency_max_ms, max(last_at) AS last_at
    FROM ({facts(UNFOLDED)}) GROUP BY ALL
"""  # noqa: S608


def merged_sketch(entries: str, into: str, groups: str = "groups") -> str:
    """SQL: by ``id`` one sketch of all that stand in the list ``entries`` of ``groups``.

    Grouped by a number: by the keys themselves, which are texts, it takes four times as long.
    """
    return f"""
        SELECT id, list_sort(list({{'bucket': bucket, 'count': number}})) AS {into} FROM (
            SELECT id, entry.bucket AS bucket, sum(entry.count)::BIGINT AS number
            FROM (SELECT id, unnest({entries}) AS entry FROM {groups}) GROUP BY id, entry.bucket
        ) GROUP BY id
    """  # noqa: S608


def _by_name(grain: Grain) -> str:
    """SQL: the new sums by name of every ``grain`` of time that ``new_hours`` touches."""
    return f"""
        CREATE OR REPLACE TEMP TABLE new_sums AS
        WITH new AS (
            SELECT date_trunc('{grain}', "at") AS "at", {KEYS}, {SUMS}, max(last_at) AS last_at,
                list({{'bucket': bucket, 'count': latency_count::BIGINT}}) FILTER (bucket IS NOT NULL) AS latency_buckets
            FROM new_hours GROUP BY date_trunc('{grain}', "at"), {KEYS}
        ),
        every AS (
            SELECT * FROM new
            UNION ALL BY NAME
            SELECT * FROM rollups_{grain} WHERE "at" IN (SELECT DISTINCT "at" FROM new)
        ),
        groups AS MATERIALIZED (
            SELECT row_number() OVER () AS id, "at", {KEYS}, {SUMS}, max(last_at) AS last_at,
                flatten(list(latency_buckets) FILTER (latency_buckets IS NOT NULL)) AS entries
            FROM every GROUP BY "at", {KEYS}
        ),
        sketches AS ({merged_sketch("entries", "latency_buckets")})
        SELECT groups.* EXCLUDE (id, entries), latency_buckets FROM groups LEFT JOIN sketches USING (id) ORDER BY "at", kind
    """  # noqa: S608


def _of_agents(grain: Grain) -> str:
    """SQL: the new sums of agents of every ``grain`` of time that ``new_hours`` touches."""
    names = "".join(
        f""", list({{'bucket': bucket, 'count': latency_count::BIGINT}}) FILTER (kind = '{kind}' AND bucket IS NOT NULL) AS {sketch}"""
        for kind, sketch in agent_sums.SKETCHES.items()
    )
    together = "".join(
        f", flatten(list({name}) FILTER ({name} IS NOT NULL)) AS {name}_entries" for name in agent_sums.SKETCHES.values()
    )
    apart = ", ".join(f"{name}_entries" for name in agent_sums.SKETCHES.values())
    joined = " ".join(f"LEFT JOIN {name}_merged USING (id)" for name in agent_sums.SKETCHES.values())
    merged = "".join(f", {name}_merged AS ({merged_sketch(f'{name}_entries', name)})" for name in agent_sums.SKETCHES.values())
    return f"""
        CREATE OR REPLACE TEMP TABLE new_sums AS
        WITH new AS (
            SELECT date_trunc('{grain}', "at") AS "at", tenant_id, agent_id, {agent_sums.OF_SUMS_BY_NAME} {names}
            FROM new_hours GROUP BY date_trunc('{grain}', "at"), tenant_id, agent_id
        ),
        every AS (
            SELECT * FROM new
            UNION ALL BY NAME
            SELECT * FROM agents_{grain} WHERE "at" IN (SELECT DISTINCT "at" FROM new)
        ),
        groups AS MATERIALIZED (
            SELECT row_number() OVER () AS id, "at", tenant_id, agent_id, {agent_sums.SUMS} {together}
            FROM every GROUP BY "at", tenant_id, agent_id
        ) {merged}
        SELECT groups.* EXCLUDE (id, {apart}), {", ".join(agent_sums.SKETCHES.values())} FROM groups {joined}
        ORDER BY "at"
    """  # noqa: S608


_SEEN: Final = f"""
    CREATE OR REPLACE TEMP TABLE new_seen AS
    WITH new AS (
        SELECT tenant_id, agent_id, last_at,
            CASE WHEN kind IN {agent_sums.NAMING} AND name IS NOT NULL THEN {{'at': last_at, 'text': name}} END AS named,
            CASE WHEN kind IN {agent_sums.NAMING} AND provider IS NOT NULL THEN {{'at': last_at, 'text': provider}} END AS versioned
        FROM new_hours
    ),
    every AS (SELECT * FROM new UNION ALL {agent_sums.SEEN} SEMI JOIN new USING (tenant_id, agent_id))
    SELECT {agent_sums.SEEN_COLUMNS} FROM ({agent_sums.latest("every")})
"""  # noqa: S608


def _replace(connection: duckdb.DuckDBPyConnection, table: str, sql: str) -> None:
    """Sums of the times touched, in the place of those there were."""
    connection.execute(sql)
    connection.execute(f'DELETE FROM {table} WHERE "at" IN (SELECT DISTINCT "at" FROM new_sums)')  # noqa: S608
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_sums")  # noqa: S608


def fold(connection: duckdb.DuckDBPyConnection) -> int:
    """Folds what is stored and not in the sums yet into them, in one transaction of its own; returns how many rows."""
    connection.execute("BEGIN")
    try:
        connection.execute(_HOURS, positions(connection))
        found = connection.execute("SELECT coalesce(sum(events), 0) FROM new_hours").fetchone()
        assert found is not None
        if found[0]:
            for grain in GRAINS:
                _replace(connection, f"rollups_{grain}", _by_name(grain))
                _replace(connection, f"agents_{grain}", _of_agents(grain))
            connection.execute("DROP TABLE new_sums")
            connection.execute(_SEEN)
            connection.execute(
                "DELETE FROM agents_seen WHERE (tenant_id, agent_id) IN (SELECT (tenant_id, agent_id) FROM new_seen)"
            )
            connection.execute("INSERT INTO agents_seen BY NAME SELECT * FROM new_seen")
            connection.execute("DROP TABLE new_seen")
            connection.execute(
                "UPDATE folded SET sequence = (SELECT applied_sequence FROM offsets WHERE offsets.stream = folded.stream) "
                "WHERE stream IN (SELECT stream FROM offsets)"
            )
        connection.execute("DROP TABLE new_hours")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return int(found[0])
