"""``alerts``: the latest state of each alert, or every change."""

from datetime import datetime

from processors.aggregate.asking import Conditions, Question, within
from schemas.queries import AlertsParams


def alerts(params: AlertsParams, now: datetime) -> Question:
    """Newest first. The range is that of the change; what is firing or acknowledged is shown however old, unless told."""
    open_ones = params.state in {"firing", "acknowledged", "active"} and params.since is None and params.until is None
    given = Conditions() if open_ones else within(params.since, params.until, now, '"at"')
    given.equal(tenant_id=params.tenant, agent_id=params.agent, severity=params.severity)
    if params.state == "active":
        given.add("state IN ('firing', 'acknowledged')")
    else:
        given.equal(state=params.state)
    latest = (
        "" if params.history else 'QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY "at" DESC, stream_sequence DESC) = 1'
    )
    sql = f"""
        WITH once AS (
            SELECT * FROM alert_changes QUALIFY row_number() OVER (PARTITION BY change_id ORDER BY stream_sequence) = 1
        ),
        changes AS (SELECT * FROM once {latest})
        SELECT change_id, alert_id, rule, severity, state, tenant_id, agent_id, metric, "value", threshold, started_at, "at",
            summary, map_from_entries(labels) AS labels, acknowledged_by, note
        FROM changes WHERE {given.text()} ORDER BY "at" DESC, stream_sequence DESC
    """  # noqa: S608
    return Question(sql, given.parameters)
