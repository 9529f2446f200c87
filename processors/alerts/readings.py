"""From messages to measurements. Pure; only what some rule asks for is parsed."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import orjson

from processors.alerts.metrics import METRICS, Metric, Scope
from processors.alerts.series import Measurement
from schemas.events import AcceptedEvent
from schemas.state import AgentState
from streams import subjects
from streams.messages import EVENT_COUNT, Received
from streams.micro_batches import lines

FRESH_FOR: Final = timedelta(seconds=30)
"""A heartbeat's numbers stand at least this long, and three of its intervals."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement and whose it is."""

    metric: Metric
    tenant_id: str
    measurement: Measurement
    agent_id: str | None = None
    stream: str | None = None
    scope: Scope | None = None
    """For rules of this scope only; None: for all."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The agent was stopped on purpose: what was measured of it no longer counts."""

    tenant_id: str
    agent_id: str
    at: datetime
    reason: str
    lasting: bool = False
    """Nothing counts until it is wanted again; otherwise until it is next measured."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The agent is to run: it is measured (again)."""

    tenant_id: str
    agent_id: str


_DEAD: Final = subjects.ALL_DEAD.removesuffix(">")

Told = Reading | Stopped | Wanted

_BEAT: Final[tuple[Metric, ...]] = tuple(name for name, about in METRICS.items() if about.kind == "heartbeat")


def _failure(event: AcceptedEvent) -> str:
    return event.error.type if event.error is not None else ""


def _block(event: AcceptedEvent) -> str | None:
    if event.policy is None or event.policy.decision != "block":
        return None
    return f"{event.policy.policy_id}: {event.policy.reason or event.policy.action or 'blocked'}"


def _crossing(event: AcceptedEvent) -> str:
    assert event.budget is not None
    return f"{event.budget.budget_id} at {event.budget.threshold:.0%} of ${event.budget.limit_usd}"


def _emitted(event: AcceptedEvent) -> str:
    assert event.alert is not None
    return f"{event.alert.type}: {event.alert.message or event.alert.severity}"


_COUNTED: Final[Mapping[str, tuple[Metric, bytes, Callable[[AcceptedEvent], str | None]]]] = {
    "run": ("run_failures", b'"run.failed"', _failure),
    "model_call": ("model_call_failures", b'"model_call.failed"', _failure),
    "tool_call": ("tool_call_failures", b'"tool_call.failed"', _failure),
    "policy": ("policy_blocks", b'"block"', _block),
    "budget": ("budget_crossings", b'"budget.threshold_hit"', _crossing),
    "alert": ("emitted_alerts", b'"alert.emitted"', _emitted),
}


def of_events(message: Received, wanted: frozenset[Metric]) -> Iterator[Told]:
    """What a message of EVENTS measures. Raises ValueError where it cannot be read."""
    _, tenant, kind = message.subject.split(".", 2)
    if message.subject.startswith(_DEAD):
        yield _dead(message, tenant)
    elif kind == "heartbeat":
        for line in lines(message.data):
            yield from _beat(message, AcceptedEvent.model_validate_json(line), wanted)
    elif kind == "agent":
        for line in lines(message.data):
            if b'"agent.status_changed"' in line:
                yield from _status(message, AcceptedEvent.model_validate_json(line))
    elif kind in _COUNTED:
        metric, mark, reason_of = _COUNTED[kind]
        for line in lines(message.data):
            # A search for the word costs a hundredth of reading the event.
            if mark not in line:
                continue
            event = AcceptedEvent.model_validate_json(line)
            reason = reason_of(event)
            if reason is None or (metric.endswith("_failures") and not event.event_type.endswith(".failed")):
                continue
            occurred = min(event.occurred_at, event.ingest.received_at)
            counted = Measurement(1.0, message.stored_at, str(event.event_id), occurred, reason=reason[:500])
            yield Reading(metric, event.tenant.tenant_id, counted, event.run.agent_id)


def _dead(message: Received, tenant: str) -> Reading:
    letter = orjson.loads(message.data)
    count = float(message.headers.get(EVENT_COUNT, letter.get("events", 1)))
    measured = Measurement(count, message.stored_at, str(letter["letter_id"]), reason=str(letter.get("reason", "")))
    return Reading("dead_letters", tenant, measured)


def _beat(message: Received, event: AcceptedEvent, wanted: frozenset[Metric]) -> Iterator[Reading]:
    metrics = event.metrics
    if metrics is None:
        return
    interval_s = event.health.interval_s if event.health is not None and event.health.interval_s else 0.0
    fresh_for = max(FRESH_FOR, timedelta(seconds=3 * interval_s))
    occurred = min(event.occurred_at, event.ingest.received_at)
    for metric in _BEAT:
        value = getattr(metrics, metric) if metric in wanted else None
        if value is not None:
            measured = Measurement(float(value), message.stored_at, str(event.event_id), occurred, fresh_for)
            yield Reading(metric, event.tenant.tenant_id, measured, event.run.agent_id)


def _status(message: Received, event: AcceptedEvent) -> Iterator[Told]:
    # In the order in which health told it; its times may go back when a spool drains.
    tenant, agent, health = event.tenant.tenant_id, event.run.agent_id, event.health
    reason = (health.reason if health is not None else None) or ""
    if event.agent is not None and event.agent.status == "stopped":
        yield Stopped(tenant, agent, message.stored_at, reason or "stopped")
    elif health is not None:
        unhealthy = 1.0 if health.status == "UNHEALTHY" else 0.0
        measured = Measurement(unhealthy, message.stored_at, str(event.event_id), reason=reason)
        yield Reading("agent_unhealthy", tenant, measured, agent)


def of_ledger(message: Received, wanted: frozenset[tuple[Metric, Scope]]) -> Iterator[Reading]:
    """What a message of the ledger measures, summed by whom the rules ask about."""
    spent: dict[tuple[str, str | None], float] = defaultdict(float)
    unpriced: dict[tuple[str, str | None], float] = defaultdict(float)
    model: dict[tuple[str, str | None], str] = {}
    for line in lines(message.data):
        entry = orjson.loads(line)
        whose: tuple[str, str] = (entry["tenant_id"], entry["agent_id"])
        cost = float(entry["cost_usd"])
        for key in (whose, (whose[0], None)):
            spent[key] += cost
            if entry["reason"] == "unpriced":
                unpriced[key] += 1.0
                model[key] = f"{entry['provider']}/{entry['model']}"
    for (tenant, agent), amount in spent.items():
        scope: Scope = "agent" if agent is not None else "tenant"
        cause = f"ledger {message.sequence}"
        if ("spend_usd", scope) in wanted and amount:
            yield Reading("spend_usd", tenant, Measurement(amount, message.stored_at, cause), agent, scope=scope)
        count = unpriced.get((tenant, agent))
        if ("unpriced_model_calls", scope) in wanted and count:
            measured = Measurement(count, message.stored_at, cause, reason=model[tenant, agent])
            yield Reading("unpriced_model_calls", tenant, measured, agent, scope=scope)


def of_agent_state(message: Received) -> Iterator[Told]:
    """What a value of bucket ``agent_states`` measures; a deletion stops the agent for good."""
    _, _, tenant, agent = message.subject.rsplit(".", 3)
    if not message.data:
        yield Stopped(tenant, agent, message.stored_at, "removed", lasting=True)
        return
    state = AgentState.model_validate_json(message.data)
    if state.desired == "stopped":
        yield Stopped(tenant, agent, message.stored_at, "stopped by command", lasting=True)
        return
    yield Wanted(tenant, agent)
    began = state.incident.began_at.isoformat() if state.incident is not None else str(message.sequence)
    measured = Measurement(float(state.gave_up), message.stored_at, f"gave up {began}", reason=state.reason)
    yield Reading("agent_gave_up", tenant, measured, agent)
