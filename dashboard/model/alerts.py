"""The alerts panel: the latest alert of each rule and agent, open ones first."""

from dataclasses import dataclass
from typing import Any, Final

from dashboard.model.moments import milliseconds
from schemas.alerts import Acknowledgement, AlertChange

SHOWN_RESOLVED: Final = 12
KEPT: Final = 2000
"""Alerts remembered at most; beyond it the oldest resolved ones are forgotten."""
MOST_EPISODES: Final = 1000
"""Counted no further."""

_SEVERITIES: Final = {"critical": 0, "warning": 1, "info": 2}
_STATES: Final = {"firing": 0, "acknowledged": 1, "resolved": 2}


@dataclass(slots=True)
class Standing:
    """One rule on one agent."""

    change: AlertChange
    episodes: set[str]
    """The ids of its alerts seen so far."""


class AlertBoard:
    """Takes alert changes in any order and any number of times."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str, str], Standing] = {}
        self._acknowledged: dict[str, Acknowledgement] = {}
        self.changed = False

    def take(self, change: AlertChange) -> None:
        """Takes one change; an older one than is known changes nothing but the count of episodes."""
        key = (change.tenant_id, change.rule, change.agent_id or "")
        standing = self._standing.get(key)
        if standing is None:
            self._standing[key] = Standing(change, {change.alert_id})
        else:
            if change.alert_id not in standing.episodes and len(standing.episodes) < MOST_EPISODES:
                standing.episodes.add(change.alert_id)
                self.changed = True
            known = standing.change
            if (change.at, _STATES[change.state]) < (known.at, _STATES[known.state]) or change.change_id == known.change_id:
                return
            standing.change = change
        if len(self._standing) > KEPT:
            self._forget()
        self.changed = True

    def _forget(self) -> None:
        resolved = [(one.change.at, key) for key, one in self._standing.items() if one.change.state == "resolved"]
        if resolved:
            del self._standing[min(resolved)[1]]

    def acknowledge(self, alert_id: str, by: Acknowledgement | None) -> None:
        """Takes a value of the acknowledgements bucket."""
        if by is None:
            self._acknowledged.pop(alert_id, None)
        else:
            self._acknowledged[alert_id] = by
        self.changed = True

    def holds(self, alert_id: str) -> bool:
        """Whether an alert of that id is open."""
        return any(one.change.alert_id == alert_id and one.change.state != "resolved" for one in self._standing.values())

    def _view(self, standing: Standing) -> dict[str, Any]:
        change = standing.change
        seen = self._acknowledged.get(change.alert_id)
        acknowledged = change.state == "acknowledged" or (change.state == "firing" and seen is not None)
        by = change.acknowledged_by or (seen.by if seen is not None else None)
        return {
            "id": change.alert_id,
            "rule": change.rule,
            "agent": change.agent_id or change.tenant_id,
            "tenant": change.tenant_id,
            "severity": change.severity,
            "state": "acknowledged" if acknowledged else change.state,
            "summary": change.summary,
            "metric": change.metric,
            "value": change.value,
            "threshold": change.threshold,
            "started": milliseconds(change.started_at),
            "at": milliseconds(change.at),
            "by": by if acknowledged or change.state == "resolved" else None,
            "episodes": len(standing.episodes),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Open alerts, firing before acknowledged, worst and newest first; then the latest resolved ones."""
        views = [self._view(one) for one in self._standing.values()]
        views.sort(key=lambda one: (_STATES[one["state"]], _SEVERITIES[one["severity"]], -(one["at"] or 0)))
        open_ones = [one for one in views if one["state"] != "resolved"]
        resolved = sorted((one for one in views if one["state"] == "resolved"), key=lambda one: -(one["at"] or 0))
        return open_ones + resolved[:SHOWN_RESOLVED]

    def firing(self) -> int:
        """How many are open and not acknowledged."""
        return sum(1 for one in self._standing.values() if self._view(one)["state"] == "firing")
