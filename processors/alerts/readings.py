"""From messages to measurements. Pure; only what some rule asks for is parsed."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from processors.alerts.metrics import METRICS, Metric, Scope
from processors.alerts.series import Measurement
from schemas.events import AcceptedEvent
from schemas.sections import Budget, HealthStatus
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


@dataclass(frozen=True, slots=True)
class Cleared:
    """A subject of scope ``crossing`` is over: what was counted of it no longer counts."""

    tenant_id: str
    stream: str
    at: datetime
    reason: str


_DEAD: Final = subjects.ALL_DEAD.removesuffix(">")

Told = Reading | Stopped | Wanted | Cleared

_BEAT: Final[tuple[Metric, ...]] = tuple(name for name, about in METRICS.items() if about.kind == "heartbeat")


def _failure(event: AcceptedEvent) -> str:
    return event.error.type if event.error is not None else ""


def _block(event: AcceptedEvent) -> str | None:
    if event.policy is None or event.policy.decision != "block":
        return None
    return f"{event.policy.policy_id}: {event.policy.reason or event.policy.action or 'blocked'}"


def _crossings(message: Received, event: AcceptedEvent) -> Iterator[Reading]:
    """A threshold as its tenant's, its agent's, and its own."""
    budget = event.budget
    assert budget is not None
    said = event.attributes.get("reason")
    reason = said if isinstance(said, str) else f"{budget.budget_id} at {budget.threshold:.0%} of ${budget.limit_usd}"
    occurred = min(event.occurred_at, event.ingest.received_at)
    counted = Measurement(1.0, message.stored_at, str(event.event_id), occurred, reason=reason[:500])
    tenant, agent = event.tenant.tenant_id, event.run.agent_id
    own = _crossing(budget, event.event_id)
    yield Reading("budget_crossings", tenant, counted, agent, scope="agent")
    yield Reading("budget_crossings", tenant, counted, scope="tenant")
    if budget.threshold < 1:
        yield Reading("budget_crossings", tenant, counted, stream=own, scope="crossing")
    else:
        yield Reading("budgets_exhausted", tenant, counted, scope="tenant")
        yield Reading("budgets_exhausted", tenant, counted, stream=own, scope="crossing")


def _crossing(budget: Budget, hit: UUID) -> str:
    """The subject that one crossing is: ``hit`` is the event that told of it."""
    return f"{budget.budget_id}-{budget.threshold:.0%}".removesuffix("%") + f"-{hit.hex[-12:]}"


def _cleared(message: Received, event: AcceptedEvent) -> Iterator[Cleared]:
    assert event.budget is not None
    attributes = event.attributes
    try:
        hit = UUID(str(attributes.get("crossing")))
    except ValueError:
        # Anybody may say so, and attributes are anybody's: it names no crossing, so none is over.
        return
    own = _crossing(event.budget, hit)
    yield Cleared(event.tenant.tenant_id, own, message.stored_at, str(attributes.get("reason", "it holds no longer"))[:500])


def _emitted(event: AcceptedEvent) -> str:
    assert event.alert is not None
    return f"{event.alert.type}: {event.alert.message or event.alert.severity}"


_COUNTED: Final[Mapping[str, tuple[Metric, bytes, Callable[[AcceptedEvent], str | None]]]] = {
    "run": ("run_failures", b'"run.failed"', _failure),
    "model_call": ("model_call_failures", b'"model_call.failed"', _failure),
    "tool_call": ("tool_call_failures", b'"tool_call.failed"', _failure),
    "policy": ("policy_blocks", b'"block"', _block),
    "alert": ("emitted_alerts", b'"alert.emitted"', _emitted),
}


def of_events(message: Received, wanted: frozenset[Metric]) -> Iterator[Told]:
    """What a message of EVENTS measures. Raises ValueError where it cannot be read."""
    _, tenant, kind = message.subject.split(".", 2)
    if message.subject.startswith(_DEAD):
        yield _dead(message, tenant)
    elif kind == "heartbeat":
        asked = [metric for metric in _BEAT if metric in wanted]
        for line in lines(message.data) if asked else ():
            try:
                yield from _beat(message, orjson.loads(line), asked)
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"not a heartbeat that was accepted: {error!r}") from error
    elif kind == "agent":
        for line in lines(message.data):
            if b'"agent.status_changed"' in line:
                yield from _status(message, AcceptedEvent.model_validate_json(line))
    elif kind == "budget":
        for line in lines(message.data):
            event = AcceptedEvent.model_validate_json(line)
            if event.event_type == "budget.threshold_hit":
                yield from _crossings(message, event)
            elif event.event_type == "budget.threshold_cleared":
                yield from _cleared(message, event)
    elif kind in _COUNTED:
        metric, mark, reason_of = _COUNTED[kind]
        # A search for the word costs a hundredth of reading the events.
        for line in lines(message.data) if mark in message.data else ():
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


def _beat(message: Received, event: dict[str, Any], asked: Sequence[Metric]) -> Iterator[Reading]:
    # Accepted once and for all: of its thirty fields a rule asks for three, and checking all again would cost ten times as much.
    metrics: dict[str, float] = event.get("metrics", {})
    measured = [(metric, value) for metric in asked if (value := metrics.get(metric)) is not None]
    if not measured:
        return
    fresh_for = max(FRESH_FOR, timedelta(seconds=3 * event.get("health", {}).get("interval_s", 0.0)))
    occurred = min(datetime.fromisoformat(event["occurred_at"]), datetime.fromisoformat(event["ingest"]["received_at"]))
    tenant, agent, stored_at, event_id = (
        event["tenant"]["tenant_id"],
        event["run"]["agent_id"],
        message.stored_at,
        event["event_id"],
    )
    for metric, value in measured:
        yield Reading(metric, tenant, Measurement(float(value), stored_at, event_id, occurred, fresh_for), agent)


_HEALTH: Final[tuple[tuple[Metric, HealthStatus], ...]] = (("agent_unhealthy", "UNHEALTHY"), ("agent_stuck", "STUCK"))


def _status(message: Received, event: AcceptedEvent) -> Iterator[Told]:
    # In the order in which health told it; its times may go back when a spool drains.
    tenant, agent, health = event.tenant.tenant_id, event.run.agent_id, event.health
    reason = (health.reason if health is not None else None) or ""
    if event.agent is not None and event.agent.status == "stopped":
        yield Stopped(tenant, agent, message.stored_at, reason or "stopped")
    elif health is not None and health.status != "RECOVERING":
        # Between UNHEALTHY and HEALTHY nothing is proved, nor is it by a first start: what was last known stands.
        for metric, status in _HEALTH:
            measured = Measurement(float(health.status == status), message.stored_at, str(event.event_id), reason=reason)
            yield Reading(metric, tenant, measured, agent)


_COST: Final = b'"cost_usd":"'
_UNPRICED: Final = b'"reason":"unpriced"'


def _amounts(data: bytes) -> list[bytes] | None:
    """What each entry in ``data`` costs, found without reading the rest; None where that is not one for each line.

    Inside a JSON string a quote stands behind a backslash, so that no name and no note can be taken for the field.
    """
    found = data.split(_COST)[1:]
    return [rest[: rest.index(b'"')] for rest in found] if len(found) == data.count(b"\n") + 1 else None


def of_ledger(message: Received, wanted: frozenset[tuple[Metric, Scope]]) -> Iterator[Reading]:
    """What a message of the ledger measures, summed by whom the rules ask about."""
    if ("spend_usd", "agent") not in wanted and _UNPRICED not in message.data:
        amounts = _amounts(message.data)
        if amounts is not None:
            amount = sum(map(float, amounts))
            if ("spend_usd", "tenant") in wanted and amount:
                measured = Measurement(amount, message.stored_at, f"ledger {message.sequence}")
                yield Reading("spend_usd", message.subject.split(".")[1], measured, scope="tenant")
            return
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
