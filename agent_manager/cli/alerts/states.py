"""Alerts from their changes. Pure."""

from collections.abc import Collection, Iterable

from schemas.alerts import AlertChange


def latest(changes: Iterable[AlertChange]) -> list[AlertChange]:
    """The latest change of each alert, newest first."""
    found: dict[str, AlertChange] = {}
    for change in changes:
        held = found.get(change.alert_id)
        if held is None or change.at >= held.at:
            found[change.alert_id] = change
    return sorted(found.values(), key=lambda change: change.at, reverse=True)


def wanted(
    changes: Iterable[AlertChange], *, state: str, tenant: str | None, agent: str | None, severity: str | None
) -> list[AlertChange]:
    """Those that match; ``active`` is firing or acknowledged, ``all`` any."""
    return [
        change
        for change in changes
        if (state in {"all", change.state} or (state == "active" and change.state != "resolved"))
        and (tenant is None or change.tenant_id == tenant)
        and (agent is None or change.agent_id == agent)
        and (severity is None or change.severity == severity)
    ]


def matching(changes: Iterable[AlertChange], given: str) -> list[AlertChange]:
    """Alerts whose id is ``given``, else those whose id begins with it."""
    listed = list(changes)
    exact = [change for change in listed if change.alert_id == given]
    return exact or [change for change in listed if change.alert_id.startswith(given)]


def short(alert_ids: Collection[str], least: int = 8) -> dict[str, str]:
    """Each id by the beginning that tells it from the others; ``alerts ack`` takes it."""
    for length in range(least, max(map(len, alert_ids), default=0)):
        if len({one[:length] for one in alert_ids}) == len(set(alert_ids)):
            return {one: one[:length] for one in alert_ids}
    return {one: one for one in alert_ids}
