"""``scope_spend``: exact sums of one scope, and the ledger position they are of."""

from datetime import datetime
from typing import Final

from processors.aggregate.asking import Conditions, Question, naive
from schemas.queries import ScopeSpendParams
from streams import topology

_MOMENT: Final = "coalesce(priced_at, least(occurred_at, received_at + to_seconds($tolerance)))"
"""When an entry counts: when it was priced, which corrections take over, so that they count where the call they correct does."""


def scope_spend(params: ScopeSpendParams, _: datetime) -> Question:
    """One statement, so one snapshot: the sums hold what stands in LEDGER up to the smaller of ``up_to_sequence`` and ``applied_sequence``."""
    given = Conditions().equal(
        tenant_id=params.tenant, workspace_id=params.workspace, project_id=params.project, agent_id=params.agent
    )
    given.add("stream_sequence <= $up_to", up_to=params.up_to_sequence)
    # No entry counts later than it occurred, so this bound lets the warehouse leave out what is older without reading more of it.
    given.add("occurred_at >= $since", since=naive(params.since))
    given.add(f"{_MOMENT} >= $since", tolerance=params.tolerance_s)
    given.add(f"{_MOMENT} < $until", until=naive(params.until))
    slot = "NULL::TIMESTAMP"
    if params.slot_s is not None:
        slot = f"time_bucket(to_seconds($slot), {_MOMENT}, TIMESTAMP '1970-01-01')"
        given.parameters["slot"] = params.slot_s
    sql = f"""
        WITH sums AS (
            SELECT {slot} AS slot_at, sum(cost_usd) AS cost_usd, count(*) AS entries, arg_max(agent_id, stream_sequence) AS last_agent_id
            FROM ledger WHERE {given.text()} GROUP BY ALL
        ),
        standing AS (SELECT coalesce(max(applied_sequence), 0) AS applied_sequence FROM offsets WHERE stream = $stream)
        SELECT slot_at, coalesce(cost_usd, 0)::DECIMAL(38,9) AS cost_usd, coalesce(entries, 0)::BIGINT AS entries, last_agent_id,
            applied_sequence
        FROM standing LEFT JOIN sums ON true ORDER BY slot_at
    """  # noqa: S608
    return Question(sql, {**given.parameters, "stream": topology.LEDGER})
