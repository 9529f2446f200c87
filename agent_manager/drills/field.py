"""The running system as a drill sees it and acts on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import JsonValue, ValidationError

from agent_manager.cli.connection import Place
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet import clearing, orders, reading
from agent_manager.cli.fleet.injecting import chosen
from agent_manager.cli.fleet.rows import Fleet
from agent_manager.cli.query.asking import ask
from agent_manager.commands.giving import Order
from agent_manager.drills.conditions import Sight
from agent_manager.drills.plan import Targets
from schemas.alerts import AlertChange
from schemas.commands import CommandName, CommandResponse
from streams import audit, subjects
from streams.audit import AuditImpossibleError, Scope

_ANSWER_S = 30.0


@dataclass(slots=True)
class Field:
    """One drill's connection, and what it has heard. Alerts heard are bounded by the drill's length."""

    client: Client
    place: Place
    began_at: datetime
    alerts: list[AlertChange] = field(default_factory=list)
    fleet: Fleet = field(default_factory=lambda: Fleet({}, {}, {}, {}))

    async def listen(self) -> None:
        """Hears every alert from now on."""

        async def hear(message: Msg) -> None:
            try:
                self.alerts.append(AlertChange.model_validate_json(message.data))
            except ValidationError:
                return

        await self.client.subscribe(subjects.ALL_ALERTS, cb=hear)
        await self.client.flush()

    async def look(self) -> Fleet:
        """The fleet as it stands now."""
        self.fleet = await reading.fleet(self.client)
        return self.fleet

    def targets(self, wanted: Targets, tenant: str | None) -> tuple[str, ...]:
        """Whom it strikes; raises CommandFailedError where nobody fits."""
        if wanted.agent is not None:
            return (reading.key_of(self.fleet, wanted.agent, tenant),)
        found = chosen(self.fleet, tenant=tenant, tag=wanted.tag, percent=wanted.percent, seed=wanted.seed)
        running = [key for key in found if (state := self.fleet.states.get(key)) is not None and state.desired == "running"]
        if not running:
            raise CommandFailedError("none of the agents it would strike runs", "Start one: `agentops agents start`")
        return tuple(running[: wanted.most])

    def sight(self, targets: tuple[str, ...], injected_at: datetime | None) -> Sight:
        """What conditions are judged by."""
        return Sight(targets, self.fleet.observations, self.fleet.states, tuple(self.alerts), injected_at)

    def restarts(self) -> dict[str, int]:
        """How often each agent has been restarted."""
        return {key: state.restarts for key, state in self.fleet.states.items()}

    def given_up(self) -> int:
        """Events that sidecars have given up."""
        return sum(one.metrics.spool_dropped or 0 for one in self.fleet.observations.values())

    async def tell(
        self, targets: tuple[str, ...], command: CommandName, params: Mapping[str, JsonValue]
    ) -> list[CommandResponse]:
        """Commands to every target, by the way every command goes."""
        wanted = [Order(key, command, dict(params)) for key in targets]
        return await orders.give_all(self.client, self.place, wanted, _ANSWER_S)

    async def clear(self, targets: tuple[str, ...]) -> None:
        """No fault is left of the targets, with the manager or without it."""
        await clearing.taken_back(self.client, self.place, targets)

    async def spent(self) -> Decimal:
        """Since the drill began, as far as the warehouse knows."""
        page = await ask(self.client, "spend", {"since": self.began_at.isoformat(), "by": ["tenant"]})
        return sum((_money(row) for row in page.rows), Decimal(0))

    async def audited(self) -> str:
        """What the audit of everything since the drill began finds wrong; empty where nothing is."""
        try:
            report = await audit.run(self.client, scope=Scope(since=self.began_at))
        except AuditImpossibleError as error:
            return f"the audit could not be made: {error}"
        return "; ".join(str(finding.message) for finding in report.of("error")[:5])


def _money(row: Mapping[str, Any]) -> Decimal:
    return Decimal(str(row.get("cost_usd") or 0))
