"""What the API does about agents, apart from HTTP: commands given and answered, records shown as far as their reader may see them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from pydantic import JsonValue

from agent_manager.api.asking import ask
from agent_manager.api.callers import RANKS, Caller
from agent_manager.api.fleet import FleetWatch
from agent_manager.api.models import Acknowledged, AgentDetail, AgentMetrics, FleetFigures, Overview
from agent_manager.api.problems import ProblemError, away, invalid, not_found
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet.rows import agent_row, agent_rows, standing
from agent_manager.cli.registry import reading
from agent_manager.commands.giving import Order, give
from schemas.alerts import Acknowledgement
from schemas.commands import CommandName, CommandResponse
from schemas.errors import FieldError
from schemas.ids import derived_text
from schemas.queries import Page
from schemas.sections import Metrics
from schemas.state import AgentRecord
from schemas.versions import Releases
from streams import topology
from streams.kv import BucketMissingError, TypedBucket
from streams.publish import NotStoredError

_WITHHELD: Final = "(withheld)"
_STATUS: Final = {
    "invalid": 422, "unknown_agent": 404, "refused": 409, "failed": 502, "expired": 504, "timeout": 504, "unknown_command": 400,
}  # fmt: skip
_EVERY_ALERT: Final = 1000


def shown(record: AgentRecord, caller: Caller) -> AgentRecord:
    """``record`` as ``caller`` may see it: what stands in an environment may be a secret, whatever it should be."""
    if RANKS[caller.role] >= RANKS["admin"] or not record.environment:
        return record
    return record.model_copy(update={"environment": dict.fromkeys(record.environment, _WITHHELD)})


def _releases(found: Releases | None, caller: Caller) -> Releases | None:
    if found is None:
        return None
    told = tuple(one.model_copy(update={"record": shown(one.record, caller)}) for one in found.releases)
    return found.model_copy(update={"releases": told, "found": None if found.found is None else shown(found.found, caller)})


class Desk:
    """One API's business. ``client`` is None while NATS was never reached."""

    def __init__(self, fleet: FleetWatch) -> None:
        self.fleet = fleet
        self.client: Client | None = None

    def connected(self) -> Client:
        """The connection; raises ProblemError (503) where there is none now."""
        if self.client is None or not self.client.is_connected:
            raise away("NATS is away: ask again in a moment")
        return self.client

    def detail(self, caller: Caller, key: str) -> AgentDetail:
        """Everything known of one agent."""
        known, now = self.fleet.known(), datetime.now(UTC)
        record = known.records.get(key)
        return AgentDetail(
            agent=agent_row(key, known, now), record=None if record is None else shown(record, caller), state=known.states.get(key),
            observation=known.observations.get(key), releases=_releases(known.releases.get(key), caller),
            sighting=known.sightings.get(key), faults=standing(known.faults.get(key), now),
        )  # fmt: skip

    async def command(
        self, caller: Caller, key: str, command: CommandName, params: Mapping[str, JsonValue], wait_s: float,
        idempotency_key: str | None = None,
    ) -> CommandResponse:  # fmt: skip
        """Gives it and waits for the answer; raises ProblemError where it is not a success."""
        client = self.connected()
        command_id = None if idempotency_key is None else derived_text("api", caller.name, key, idempotency_key)
        order = Order(key, command, dict(params))
        try:
            response = await give(client, caller.name, order, wait_s, issued_by=caller.about, command_id=command_id)
        except (NotStoredError, nats.errors.Error, OSError) as error:
            raise away(f"the command was not accepted: {error}") from error
        if response.command != command:
            raise invalid(f"this Idempotency-Key stands for a {response.command} already: use another for a {command}")
        if response.error is not None:
            errors = response.error.details.get("errors", ())
            raise ProblemError(
                _STATUS[response.error.code], response.error.code, response.error.message, command_id=response.command_id,
                errors=[FieldError.model_validate(one) for one in errors] if isinstance(errors, Sequence) else (),
            )  # fmt: skip
        return response

    async def metrics(self, key: str, params: Mapping[str, Any]) -> AgentMetrics:
        """How an agent does now, and did."""
        tenant, _, agent = key.partition(".")
        observation = self.fleet.known().observations.get(key)
        page = await ask(self.client, "timeseries", {**params, "tenant": tenant, "agent": agent}, Page)
        return AgentMetrics(
            agent_id=agent, tenant_id=tenant, current=observation.metrics if observation else Metrics(),
            observed_at=observation.updated_at if observation else None, metric=params["metric"], series=page.rows,
        )  # fmt: skip

    async def history(self, caller: Caller, key: str) -> list[dict[str, Any]]:
        """Every change of what an agent is, the newest first."""
        tenant, _, agent = key.partition(".")
        try:
            found = await reading.history(self.connected(), tenant, agent)
        except (CommandFailedError, nats.errors.Error, OSError) as error:
            raise away(f"the history could not be read: {error}") from error
        return [
            {"at": one.at, "by": one.by, "reason": one.reason}
            | one.change.model_copy(update={"record": shown(one.change.record, caller)}).model_dump(
                mode="json", exclude_none=True
            )
            for one in reversed(found)
        ]

    async def acknowledge(self, caller: Caller, alert_id: str, tenant: str | None, note: str | None) -> Acknowledged:
        """Tells everybody that ``caller`` has seen an alert that is firing; raises ProblemError (404)."""
        scope = caller.scope(tenant)
        page = await ask(self.client, "alerts", {"state": "active", "tenant": scope, "limit": _EVERY_ALERT}, Page)
        if not any(row["alert_id"] == alert_id and _about(caller, row) for row in page.rows):
            raise not_found(f"no alert {alert_id!r} is firing: GET /api/v1/alerts lists those that are")
        said = Acknowledgement(alert_id=alert_id, by=caller.name, at=datetime.now(UTC), note=note)
        try:
            await (await TypedBucket.open(self.connected(), topology.ACKNOWLEDGEMENTS, Acknowledgement)).put(alert_id, said)
        except (BucketMissingError, nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            raise away(f"the acknowledgement was not stored: {error}") from error
        return Acknowledged.model_validate(said.model_dump())

    async def overview(self, caller: Caller, tenant: str | None) -> Overview:
        """The fleet in a few figures."""
        scope, now = caller.scope(tenant), datetime.now(UTC)
        fleet, latency, throughput, alerts = await asyncio.gather(
            ask(self.client, "fleet", {"tenant": scope, "limit": 5000}, Page),
            ask(self.client, "latency", {"tenant": scope, "kind": "run", "by": ["agent"] if caller.agents else ["tenant"]}, Page),
            ask(self.client, "throughput", {"tenant": scope}, Page),
            ask(self.client, "alerts", {"tenant": scope, "state": "firing", "limit": _EVERY_ALERT}, Page),
        )
        agents = [
            row for row in agent_rows(self.fleet.known(), now, scope) if caller.sees_agent(f"{row.tenant_id}.{row.agent_id}")
        ]
        health: dict[str, int] = {}
        for row in agents:
            if row.health is not None:
                health[row.health] = health.get(row.health, 0) + 1
        figures = FleetFigures(total=len(agents), by_health=health, unobserved=sum(row.health is None for row in agents))
        rows = [row for row in fleet.rows if _about(caller, row)]
        return Overview(
            tenant_id=scope, agents=figures, runs=_sum(rows, "runs_24h"), failed_runs=_sum(rows, "failures_24h"),
            tokens=_sum(rows, "tokens_24h"), cost_usd=format(sum((Decimal(row["cost_usd_24h"] or 0) for row in rows), Decimal(0)), "f"),
            run_latency=tuple(row for row in latency.rows if _about(caller, row)), events_per_s=next((row["events_per_s"] for row in throughput.rows if row["kind"] == "total"), 0.0),
            firing_alerts=sum(_about(caller, row) for row in alerts.rows), as_of=fleet.as_of,
        )  # fmt: skip


def _about(caller: Caller, row: Mapping[str, Any]) -> bool:
    """Whether a row of a tenant the caller sees is also of one of the agents it is about."""
    return not caller.agents or row.get("agent_id") in caller.agents


def _sum(rows: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(int(row[name] or 0) for row in rows)
