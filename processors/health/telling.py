"""The event by which everybody learns that an agent's health or status is another now."""

from collections.abc import Iterator, Sequence
from typing import Final

from processors.health.judging import Changed
from schemas.events import CURRENT_VERSION, Event
from schemas.ids import derived_id
from schemas.sections import Agent, Health, Run, Tenant

BY: Final = "health"


def status_changed(change: Changed) -> Event:
    """``agent.status_changed``; its id is derived from what caused it, so telling it twice is telling it once."""
    agent = change.agent
    return Event(
        event_version=CURRENT_VERSION,
        event_id=derived_id("status_changed", agent.tenant_id, agent.agent_id, change.cause, agent.health, agent.status),
        event_type="agent.status_changed",
        occurred_at=change.at,
        tenant=Tenant(tenant_id=agent.tenant_id, workspace_id=agent.workspace_id, project_id=agent.project_id),
        run=Run(agent_id=agent.agent_id),
        health=Health(status=agent.health, previous_status=change.previous_health, reason=agent.reason or None),
        agent=Agent(
            name=agent.name,
            version=agent.version,
            pid=agent.pid,
            status=agent.status,
            previous_status=change.previous_status,
            reason=agent.reason or None,
        ),
        attributes={"emitted_by": BY, "cause": change.cause},
    )


def waves(changes: Sequence[Changed], most: int) -> Iterator[list[Changed]]:
    """``changes`` in groups of at most ``most`` that may be told at once: one change of an agent each, and its next one later."""
    wave: list[Changed] = []
    told: set[tuple[str, str]] = set()
    for change in changes:
        whose = change.agent.tenant_id, change.agent.agent_id
        if whose in told or len(wave) == most:
            yield wave
            wave, told = [], set()
        wave.append(change)
        told.add(whose)
    if wave:
        yield wave
