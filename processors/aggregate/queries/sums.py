"""The audit's check ``sums``: those by name against the rows, those of agents against those by name."""

from typing import Final

from processors.aggregate import agent_sums
from processors.aggregate.asking import Question
from processors.aggregate.columns import EVENTS
from processors.aggregate.rollups import GRAINS, Grain
from schemas.queries import AuditParams

_KEYS: Final = '"at", tenant_id, agent_id'


def sums(_: AuditParams) -> Question:
    """One row for each kind whose sums are not those of its rows, as far as rows are folded into sums.

    And one, of kind ``agents``, for each grain of time in which sums of agents are not those of the sums by name, and for ``seen``:
    ``rows`` is how many there are, ``summed`` how many of them are right, ``first`` the first that is not. And one, of kind ``money``,
    for each grain in which a tenant's dollars of a day for a model are not the sum of its entries: also where others make up for it.
    """
    kinds = " UNION ALL ".join(
        f"SELECT '{kind}' AS kind, count(*) AS rows, 0::DECIMAL(38,9) AS cost_usd FROM {table.name} "  # noqa: S608
        "WHERE stream_sequence <= (SELECT sequence FROM folded WHERE stream = 'EVENTS')"
        for kind, table in EVENTS.items()
    )
    agents = " UNION ALL ".join((
        *(_compared(grain, "agents", _of_agents(grain)) for grain in GRAINS),
        _compared("seen", "agents", _SEEN),
        *(_compared(grain, "money", _of_money(grain)) for grain in GRAINS),
    ))  # fmt: skip
    sql = f"""
        WITH held AS (
            {kinds} UNION ALL
            SELECT 'ledger', count(*), coalesce(sum(cost_usd), 0) FROM ledger
            WHERE stream_sequence <= (SELECT sequence FROM folded WHERE stream = 'LEDGER')
        ),
        grains AS (SELECT unnest({list(GRAINS)!r}) AS grain),
        summed AS (SELECT grain, kind, sum(events)::BIGINT AS events, sum(cost_usd) AS cost_usd FROM rollups GROUP BY grain, kind),
        by_name AS (
            SELECT grain, kind, rows, coalesce(events, 0) AS summed, held.cost_usd, coalesce(summed.cost_usd, 0) AS summed_usd,
                NULL::VARCHAR AS first
            FROM grains CROSS JOIN held LEFT JOIN summed USING (grain, kind)
            WHERE rows <> coalesce(events, 0) OR held.cost_usd <> coalesce(summed.cost_usd, 0)
        )
        SELECT * FROM (SELECT * FROM by_name UNION ALL SELECT * FROM ({agents}) WHERE rows <> summed)
        ORDER BY kind IN ('agents', 'money'), kind, grain
    """  # noqa: S608
    return Question(sql)


def _of_agents(grain: Grain) -> tuple[str, str, str]:
    """SQL: the sums of agents as they must be, and as they are, with how many latencies each sketch is of; what names one of them."""
    must = "".join(
        f", coalesce(sum(latency_count) FILTER (kind = '{kind}'), 0)::BIGINT AS {sketch}"
        for kind, sketch in agent_sums.SKETCHES.items()
    )
    are = "".join(
        f", coalesce(sum(list_sum([entry.count FOR entry IN {sketch}])), 0)::BIGINT AS {sketch}"
        for sketch in agent_sums.SKETCHES.values()
    )
    return (
        f"SELECT {_KEYS}, {agent_sums.OF_SUMS_BY_NAME} {must} FROM rollups_{grain} GROUP BY {_KEYS}",  # noqa: S608
        f"SELECT {_KEYS}, {agent_sums.SUMS} {are} FROM agents_{grain} GROUP BY {_KEYS}",  # noqa: S608
        "strftime(\"at\", '%Y-%m-%dT%H:%M') || ' of ' || tenant_id || '/' || agent_id",
    )


def _of_money(grain: Grain) -> tuple[str, str, str]:
    """SQL: dollars of each day, tenant and model as the ledger has them, and as the sums by name; what names one of them.

    By day and without agents, so that it takes two seconds of CPU for fifty million events: by hour and agent it would be a hundred.
    """
    return (
        """SELECT date_trunc('day', occurred_at) AS "at", tenant_id, model AS name, sum(cost_usd)::DECIMAL(38,9) AS cost_usd
            FROM ledger WHERE stream_sequence <= (SELECT sequence FROM folded WHERE stream = 'LEDGER')
            GROUP BY ALL HAVING sum(cost_usd) <> 0""",
        f"""SELECT date_trunc('day', "at") AS "at", tenant_id, name, sum(cost_usd)::DECIMAL(38,9) AS cost_usd
            FROM rollups_{grain} WHERE kind = 'ledger' GROUP BY ALL HAVING sum(cost_usd) <> 0""",  # noqa: S608
        "strftime(\"at\", '%Y-%m-%d') || ' of ' || tenant_id || ' for ' || name",
    )


def _named(text: str) -> str:
    """SQL: the latest name an agent has given in ``text``, with the moment."""
    return f"max({{'at': last_at, 'text': {text}}}) FILTER (kind IN {agent_sums.NAMING} AND {text} IS NOT NULL)"


_SEEN: Final = (
    f"""
        SELECT tenant_id, agent_id, 1::BIGINT AS number, max(last_at) AS last_at, {_named("name")} AS named,
            {_named("provider")} AS versioned
        FROM rollups_day GROUP BY tenant_id, agent_id
    """,  # noqa: S608
    f"""
        SELECT tenant_id, agent_id, count(*) AS number, max(last_at) AS last_at, max(named) AS named, max(versioned) AS versioned
        FROM ({agent_sums.SEEN}) GROUP BY tenant_id, agent_id
    """,  # noqa: S608
    "tenant_id || '/' || agent_id",
)


def _compared(grain: str, kind: str, both: tuple[str, str, str]) -> str:
    """SQL: how many rows must be there or are, and how many of them are in both alike."""
    must, are, what = both
    return f"""
        SELECT '{grain}' AS grain, '{kind}' AS kind, count(DISTINCT what) AS rows,
            count(DISTINCT what) - count(DISTINCT what) FILTER (found <> 2) AS summed, 0::DECIMAL(38,9) AS cost_usd,
            0::DECIMAL(38,9) AS summed_usd, min(what) FILTER (found <> 2) AS first
        FROM (
            SELECT *, {what} AS what, count(*) AS found FROM (SELECT * FROM ({must}) UNION ALL BY NAME SELECT * FROM ({are})) GROUP BY ALL
        )
    """  # noqa: S608
