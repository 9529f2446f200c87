"""One rule for one agent, tenant or stream: inactive, pending, firing. Pure: every moment is an argument.

What happens between two measurements (a duration is up, a count leaves its window, a measurement grows stale) happens at
its own moment, whenever somebody looks: looking more often changes nothing, and reading the stream again tells the
same changes with the same ids.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from processors.alerts.rules import Rule
from schemas.alerts import Acknowledgement, AlertChange, AlertState
from schemas.ids import derived_id
from schemas.model import Count, Finite, Instant, Lenient, Name, Text, Token

_SLOTS: Final = 60
"""Into how many parts a window is cut; a count leaves it at most one part late."""

_SMALLEST_SLOT_S: Final = 0.05


class Series(Lenient):
    """The state of one rule for one subject; also its checkpoint."""

    rule: Token
    tenant_id: Token
    agent_id: Token | None = None
    stream: Name | None = None
    applied: Count = 0
    """Position in its source up to which measurements are in this state: reading them again changes nothing."""
    phase: Literal["inactive", "pending", "firing"] = "inactive"
    value: Finite | None = None
    """As last measured; None is unknown."""
    occurred_at: Instant | None = None
    """When the latest value was measured; older ones do not replace it."""
    fresh_until: Instant | None = None
    """When the latest value becomes unknown unless measured again."""
    slots: tuple[tuple[int, float], ...] = ()
    """What was counted, by part of the window."""
    since: Instant | None = None
    """Since when the condition holds."""
    cause: Name | None = None
    """The measurement with which it began."""
    reason: Text = ""
    alert: AlertChange | None = None
    """The last change told of the alert that is firing."""

    @property
    def key(self) -> str:
        """Its key on the board and in the bucket."""
        return series_key(self.rule, self.tenant_id, self.agent_id, self.stream)

    @property
    def worth_keeping(self) -> bool:
        """Whether something would be lost by forgetting it."""
        return self.phase != "inactive" or bool(self.slots)


@lru_cache(maxsize=32_768)
def series_key(rule: str, tenant: str, agent: str | None, stream: str | None) -> str:
    """``<rule>.<tenant>[.<agent>][.<stream>]``."""
    return ".".join(part for part in (rule, tenant, agent, stream) if part is not None)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of one metric."""

    value: float | None
    at: datetime
    """When it was stored in the stream it is read from: that stream's clock."""
    cause: str
    """Where it stands, so that the same measurement always begins the same alert."""
    occurred_at: datetime | None = None
    """When it happened, for measurements that may come late."""
    fresh_for: timedelta | None = None
    """How long it stands without being measured again; None is for ever."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A series afterwards, and the changes on the way, oldest first."""

    series: Series
    changes: tuple[AlertChange, ...] = ()


@dataclass(slots=True)
class _Walk:
    rule: Rule
    series: Series
    changes: list[AlertChange] = field(default_factory=list)

    def update(self, **changes: Any) -> None:
        self.series = self.series.model_copy(update=changes)

    def done(self) -> Step:
        return Step(self.series, tuple(self.changes))


def _slot_s(rule: Rule) -> float:
    assert rule.window is not None
    return max(_SMALLEST_SLOT_S, rule.window.total_seconds() / _SLOTS)


def current(rule: Rule, series: Series) -> float | None:
    """The value the condition is compared with."""
    if rule.window is None:
        return series.value
    return sum(amount for _, amount in series.slots)


def next_moment(rule: Rule, series: Series) -> datetime | None:
    """When something will happen by itself; None: nothing will."""
    moments: list[datetime] = []
    if series.phase == "pending" and series.since is not None:
        moments.append(series.since + rule.for_)
    if series.fresh_until is not None and series.value is not None:
        moments.append(series.fresh_until)
    if series.slots and rule.window is not None:
        leaves_s = (series.slots[0][0] + 1) * _slot_s(rule) + rule.window.total_seconds()
        moments.append(datetime.fromtimestamp(leaves_s, UTC))
    return min(moments, default=None)


def advance(rule: Rule, series: Series, now: datetime) -> Step:
    """Everything that happened by itself up to ``now``, each at its own moment."""
    walk = _Walk(rule, series)
    _advance(walk, now)
    return walk.done()


def _advance(walk: _Walk, now: datetime) -> None:
    while (moment := next_moment(walk.rule, walk.series)) is not None and moment <= now:
        series = walk.series
        if series.phase == "pending" and series.since is not None and series.since + walk.rule.for_ == moment:
            # Held to the end: fires before anything else of the same moment.
            _fire(walk, moment)
        elif series.fresh_until == moment and series.value is not None:
            walk.update(value=None, fresh_until=None, reason="not measured any more")
            _settle(walk, moment, f"stale {moment.isoformat()}")
        else:
            walk.update(slots=series.slots[1:])
            _settle(walk, moment, f"left {moment.isoformat()}")


def measure(rule: Rule, series: Series, measurement: Measurement) -> Step:
    """The series after ``measurement``; what came late by its own time changes nothing."""
    walk = _Walk(rule, series)
    _advance(walk, measurement.at)
    occurred = measurement.occurred_at or measurement.at
    if rule.window is not None:
        if occurred >= measurement.at - rule.window:
            _count(walk, measurement)
    elif measurement.value is not None and (series.occurred_at is None or occurred >= series.occurred_at):
        fresh_until = None if measurement.fresh_for is None else measurement.at + measurement.fresh_for
        walk.update(value=measurement.value, occurred_at=occurred, fresh_until=fresh_until, reason=measurement.reason)
        _settle(walk, measurement.at, measurement.cause)
    return walk.done()


def _count(walk: _Walk, measurement: Measurement) -> None:
    slot = int(measurement.at.timestamp() / _slot_s(walk.rule))
    slots = walk.series.slots
    amount = measurement.value or 0.0
    if slots and slots[-1][0] >= slot:
        slot, amount, slots = slots[-1][0], slots[-1][1] + amount, slots[:-1]
    walk.update(slots=(*slots, (slot, amount)), reason=measurement.reason or walk.series.reason)
    _settle(walk, measurement.at, measurement.cause)


def clear(rule: Rule, series: Series, at: datetime, reason: str) -> Step:
    """The series once its subject is gone on purpose: whatever was measured no longer counts."""
    walk = _Walk(rule, series)
    _advance(walk, at)
    walk.update(value=None, fresh_until=None, slots=(), reason=reason)
    _settle(walk, at, "cleared", reason)
    return walk.done()


def _settle(walk: _Walk, at: datetime, cause: str, note: str | None = None) -> None:
    """Compares, and moves on."""
    rule, series = walk.rule, walk.series
    holds = rule.holds(current(rule, series))
    if holds and series.phase == "inactive":
        walk.update(phase="pending", since=at, cause=cause[:256])
        if not rule.for_:
            _fire(walk, at)
    elif not holds and series.phase == "pending":
        walk.update(phase="inactive", since=None, cause=None)
    elif not holds and series.phase == "firing":
        assert series.alert is not None
        note = note or (series.reason if current(rule, series) is None else None)
        walk.changes.append(ended(series.alert, at, current(rule, series), note))
        walk.update(phase="inactive", since=None, cause=None, alert=None)


def _fire(walk: _Walk, at: datetime) -> None:
    rule, series = walk.rule, walk.series
    assert series.since is not None
    assert series.cause is not None
    subject = (series.rule, series.tenant_id, series.agent_id or "", series.stream or "")
    alert_id = str(derived_id("alert", *subject, series.cause))
    value = current(rule, series)
    about = {
        "tenant_id": series.tenant_id,
        "agent_id": series.agent_id or "",
        "stream": series.stream or "",
        "reason": series.reason,
    }
    change = AlertChange(
        change_id=change_id(alert_id, "firing"),
        alert_id=alert_id,
        rule=rule.name,
        severity=rule.severity,
        state="firing",
        tenant_id=series.tenant_id,
        agent_id=series.agent_id,
        metric=rule.metric,
        value=value,
        threshold=rule.threshold,
        started_at=series.since,
        at=at,
        summary=rule.told(about, value),
        labels=dict(rule.labels) | ({"stream": series.stream} if series.stream else {}),
        note=series.reason or None,
    )
    walk.update(phase="firing", alert=change)
    walk.changes.append(change)


def change_id(alert_id: str, state: AlertState) -> str:
    """An alert fires, is acknowledged, and ends at most once each."""
    return str(derived_id("alert_change", alert_id, state))


def ended(alert: AlertChange, at: datetime, value: float | None, note: str | None) -> AlertChange:
    """The change that ends ``alert``."""
    return alert.model_copy(
        update={"change_id": change_id(alert.alert_id, "resolved"), "state": "resolved", "at": at, "value": value, "note": note}
    )


def acknowledge(series: Series, given: Acknowledgement) -> Step:
    """The series once a person has seen its alert; nothing if that alert is over, or was acknowledged before."""
    alert = series.alert
    if series.phase != "firing" or alert is None or alert.alert_id != given.alert_id or alert.state == "acknowledged":
        return Step(series)
    change = alert.model_copy(
        update={
            "change_id": change_id(alert.alert_id, "acknowledged"),
            "state": "acknowledged",
            "at": given.at,
            "acknowledged_by": given.by,
            "note": given.note,
        }
    )
    return Step(series.model_copy(update={"alert": change}), (change,))


def adopted(series: Series, change: AlertChange) -> Series:
    """The series as ALERTS tells it, for conditions that are not read from a stream and cannot be read again."""
    if change.state == "resolved":
        return series.model_copy(update={"phase": "inactive", "since": None, "cause": None, "alert": None})
    return series.model_copy(update={"phase": "firing", "since": change.started_at, "cause": change.alert_id, "alert": change})
