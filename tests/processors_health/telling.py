"""Events as validate would have accepted them, and their way into EVENTS."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Literal
from uuid import UUID, uuid4

from nats.aio.client import Client

from schemas.events import AcceptedEvent, Ingest
from schemas.sections import Agent, Fault, Health, HealthStatus, Metrics, Run, Tenant
from streams import subjects
from streams.covering import CoveredWriter, Outgoing
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON

T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)
_sequence = count(1)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def event(
    event_type: Any, occurred: datetime, *, agent_id: str = "a", tenant: str = "acme", received: datetime | None = None,
    sequence: int | None = None, position: int = 0, event_id: UUID | None = None, **sections: Any,
) -> AcceptedEvent:  # fmt: skip
    return AcceptedEvent(
        event_version="v1",
        event_id=event_id or uuid4(),
        event_type=event_type,
        occurred_at=occurred,
        tenant=Tenant(tenant_id=tenant),
        run=Run(agent_id=agent_id, run_id=sections.pop("run_id", None)),
        attributes=sections.pop("attributes", {}),
        ingest=Ingest(received_at=received or occurred, sequence=sequence or next(_sequence), position=position),
        **sections,
    )


def beat(
    occurred: datetime, status: HealthStatus = "HEALTHY", *, interval_s: float = 5.0, metrics: Metrics | None = None, **more: Any
) -> AcceptedEvent:
    health = Health(status=status, interval_s=interval_s, checks=more.pop("checks", ()))
    return event("agent.heartbeat", occurred, health=health, metrics=metrics, **more)


def traffic(error_rate: float | None = 0.0, latency_ms: float | None = 100.0, requests: int = 20) -> Metrics:
    return Metrics(error_rate=error_rate, latency_ms=latency_ms, requests=requests)


def started(occurred: datetime, **more: Any) -> AcceptedEvent:
    return event("agent.started", occurred, agent=Agent(name="Chat", version="1.2", pid=77), **more)


def stopped(
    occurred: datetime, exit_code: int | None = None, signal: str | None = None, reason: str | None = None, **more: Any
) -> AcceptedEvent:
    return event("agent.stopped", occurred, agent=Agent(exit_code=exit_code, signal=signal, reason=reason), **more)


def fault(
    kind: Literal["latency", "error"], occurred: datetime, event_type: str = "fault.injected", **more: Any
) -> AcceptedEvent:
    return event(event_type, occurred, fault=Fault(fault_id="f", kind=kind, until=occurred + timedelta(minutes=5)), **more)


def message_of(events: Sequence[AcceptedEvent]) -> Outgoing:
    """One micro-batch of one kind."""
    first = events[0]
    data = b"\n".join(each.model_dump_json(exclude_none=True).encode() for each in events)
    headers = {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(events))}
    return Outgoing(subjects.events(first.tenant.tenant_id, first.kind), data, headers)


async def publish(client: Client, *events: AcceptedEvent) -> None:
    """Each in a message of its own, without a coverage record."""
    for each in events:
        out = message_of([each])
        await client.jetstream().publish(out.subject, out.data, headers=dict(out.headers))


async def publish_covered(writer: CoveredWriter, *messages: Sequence[AcceptedEvent]) -> None:
    """The messages in one atomic batch, as validate writes them."""
    from schemas.coverage import Coverage

    first = writer.position.covered + 1
    events = sum(len(events) for events in messages)
    record = Coverage(
        batch_id=uuid4().hex, processor="validate", partition=0, instance="test", input_stream="TELEMETRY",
        first_sequence=first, last_sequence=first, messages=1, received=events, valid=events, dead=0, duplicates=0,
        at=datetime.now(UTC),
    )  # fmt: skip
    await writer.commit([message_of(events) for events in messages], record)
