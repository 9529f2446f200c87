"""What validate and cost would have written: accepted events, ledger entries and coverage records, stored the way they store them."""

import json
import os
import signal
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import orjson
from nats.aio.client import Client

from schemas.alerts import AlertChange
from schemas.coverage import Coverage
from schemas.events import AcceptedEvent
from schemas.ids import derived_id
from schemas.ledger import LedgerEntry
from schemas.queries import Page
from streams import subjects, topology
from streams.covering import CoveredWriter, Outgoing
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON
from tests.events import event

NOW = datetime.now(UTC)


def accepted(
    event_type: str,
    *,
    at: datetime | str | None = None,
    received: datetime | None = None,
    flags: Sequence[str] = (),
    **given: Any,
) -> AcceptedEvent:
    """An event as it stands on ``events.``."""
    occurred = at.isoformat() if isinstance(at, datetime) else at
    own = {name: given.pop(name) for name in ("run", "agent") if isinstance(given.get(name), dict)}
    made = event(event_type, **given) | own | ({"occurred_at": occurred} if occurred else {})
    arrived = (received or datetime.now(UTC)).isoformat()
    made["ingest"] = {"received_at": arrived, "sequence": 1, "position": 0, "flags": list(flags)}
    return AcceptedEvent.model_validate_json(json.dumps(made))


def line(one: AcceptedEvent) -> bytes:
    return one.model_dump_json(exclude_none=True).encode()


def charge(call: AcceptedEvent, cost: str = "0.001234567", **given: Any) -> LedgerEntry:
    """The ledger entry of a model call."""
    assert call.model_call is not None
    usage = call.resource_usage.model_dump(exclude={"total_tokens"}) if call.resource_usage else {}
    return LedgerEntry.model_validate(
        {
            "entry_id": str(derived_id("charge", call.tenant.tenant_id, str(call.event_id))),
            "kind": "charge",
            "reason": "priced",
            "tenant_id": call.tenant.tenant_id,
            "workspace_id": call.tenant.workspace_id,
            "project_id": call.tenant.project_id,
            "agent_id": call.run.agent_id,
            "run_id": call.run.run_id,
            "workflow_id": call.run.workflow_id,
            "model_call_id": call.model_call.model_call_id,
            "event_id": str(call.event_id),
            "provider": call.model_call.provider,
            "model": call.model_call.model,
            "occurred_at": call.occurred_at,
            "received_at": call.ingest.received_at,
            "price_book_version": "test",
            "unit_prices": {"input": Decimal("0.15"), "output": Decimal("0.6000000000001")},
            "cost_usd": Decimal(cost),
            **usage,
            **given,
        }
    )


def micro(subject: str, lines: Sequence[bytes]) -> Outgoing:
    return Outgoing(subject, b"\n".join(lines), {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(lines))})


@dataclass
class Wire:
    """Writes into EVENTS, LEDGER and ALERTS as the processors before the aggregate do."""

    client: Client

    async def events(self, *several: AcceptedEvent, per_message: int = 500, dead: Sequence[Outgoing] = (), **counts: Any) -> None:
        """Stores events in one atomic batch with their coverage record."""
        groups: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        for one in several:
            groups[one.tenant.tenant_id, one.kind].append(line(one))
        out = [
            micro(subjects.events(tenant, kind), lines[first : first + per_message])
            for (tenant, kind), lines in groups.items()
            for first in range(0, len(lines), per_message)
        ]
        writer = CoveredWriter(self.client, topology.EVENTS, "validate")
        await writer.resume()
        number = len(several) + len(dead)
        told = {"messages": number, "received": number, "valid": len(several), "dead": len(dead), "duplicates": 0, **counts}
        first = writer.position.covered + 1
        kinds: dict[str, int] = defaultdict(int)
        for one in several:
            kinds[one.kind] += 1
        await writer.commit(
            [*out, *dead],
            record("validate", topology.TELEMETRY, first, first + max(number, 1) - 1, valid_by_kind=dict(kinds), **told),
        )

    async def ledger(self, *entries: LedgerEntry, covering: int | None = None) -> None:
        """Stores entries, and that EVENTS is priced up to ``covering`` (default: its end)."""
        groups: dict[str, list[bytes]] = defaultdict(list)
        for entry in entries:
            groups[entry.tenant_id].append(entry.model_dump_json(exclude_none=True).encode())
        writer = CoveredWriter(self.client, topology.LEDGER, "cost")
        await writer.resume()
        last = covering or (await self.client.jsm().stream_info(topology.EVENTS)).state.last_seq
        number = len(entries)
        counts = {"messages": number, "received": number, "valid": number, "dead": 0, "duplicates": 0}
        await writer.commit(
            [micro(subjects.ledger(tenant), lines) for tenant, lines in groups.items()],
            record("cost", topology.EVENTS, writer.position.covered + 1, last, **counts),
        )

    async def alert(self, change: AlertChange) -> None:
        await self.client.jetstream().publish(
            subjects.alerts(change.tenant_id, change.severity, change.rule), change.model_dump_json(exclude_none=True).encode()
        )


def record(processor: str, stream: str, first: int, last: int, **counts: Any) -> Coverage:
    return Coverage(
        batch_id=uuid4().hex, processor=processor, partition=0, instance="test", input_stream=stream, first_sequence=first,
        last_sequence=last, at=datetime.now(UTC), **counts,
    )  # fmt: skip


async def ask(client: Client, name: str, **params: Any) -> Page:
    """A query's answer; fails on an error."""
    reply = await client.request(subjects.query(name), orjson.dumps(params), timeout=35)
    assert "Agentops-Error" not in (reply.headers or {}), reply.data
    return Page.model_validate_json(reply.data)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
