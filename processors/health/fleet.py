"""Every agent's state, and what of it is not written yet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Final

import structlog

from processors.health.judging import Changed, Limits, Noted, Verdict, absence, absence_due, judge
from processors.health.state import AgentHealth, unseen
from schemas.events import AcceptedEvent
from streams.kv import agent_key

log = structlog.get_logger(__name__)

_NEVER: Final = datetime.max.replace(tzinfo=UTC)
JUDGED: Final = frozenset({"agent.heartbeat", "agent.started", "agent.stopped", "fault.injected", "fault.cleared"})
"""Event types that say something about health."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An event with the EVENTS sequence of its message."""

    sequence: int
    event: AcceptedEvent


def in_order(events: Iterable[Placed]) -> list[Placed]:
    """``events`` as they were told: by their place in TELEMETRY."""
    return sorted(events, key=lambda placed: (placed.event.ingest.sequence, placed.event.ingest.position))


@dataclass(slots=True)
class Fleet:
    """All agents by key. Reading the same batch twice leaves it as once.

    Holds at most ``most`` agents; events of further ones are left aside and counted in ``left_aside``.
    """

    limits: Limits
    most: int = 20_000
    agents: dict[str, AgentHealth] = field(default_factory=dict)
    unsaved: set[str] = field(default_factory=set)
    """Keys whose checkpoint is older than their state."""
    stale: dict[str, None] = field(default_factory=dict)
    """Keys whose observation shows older numbers, longest first."""
    left_aside: int = 0
    _queue: list[tuple[datetime, str]] = field(default_factory=list)
    """A heap: at which moment each agent is to be looked at next. Most have spoken since, and go back to a later one."""
    _queued: dict[str, datetime] = field(default_factory=dict)
    """The moment that counts for each agent; others of it in the heap are passed over."""
    _overdue: set[str] = field(default_factory=set)
    """Whose silence would be too long, had we listened all the while."""

    def restore(self, agents: Iterable[AgentHealth]) -> None:
        """Takes checkpoints over; every observation is to be written again."""
        for agent in agents:
            key = agent_key(agent.tenant_id, agent.agent_id)
            self._put(key, agent)
            self.stale[key] = None

    def read(self, batch: Sequence[Placed], up_to: int) -> list[Changed]:
        """Judges a closed batch that ends at EVENTS sequence ``up_to``; returns the changes in order."""
        changes: list[Changed] = []
        touched: dict[str, None] = {}
        for placed in in_order(batch):
            event = placed.event
            if event.event_type not in JUDGED:
                continue
            key = agent_key(event.tenant.tenant_id, event.run.agent_id)
            agent = self.agents.get(key)
            if agent is None:
                if len(self.agents) >= self.most:
                    self.left_aside += 1
                    continue
                agent = unseen(event)
            elif placed.sequence <= agent.applied:
                continue
            self._keep(key, judge(agent, event, self.limits), changes)
            if key in self.agents:
                touched[key] = None
        for key in touched:
            self.agents[key] = self.agents[key].model_copy(update={"applied": up_to})
        return changes

    def silent(self, now: datetime, attentive_since: datetime) -> list[str]:
        """Keys of the agents whose silence is too long."""
        while self._queue and self._queue[0][0] < now:
            moment, key = heappop(self._queue)
            if self._queued.get(key) == moment:
                del self._queued[key]
                self._overdue.add(key)
        found = []
        for key in list(self._overdue):
            agent = self.agents[key]
            due = absence_due(agent, self.limits)
            if due is None or due >= now:
                self._overdue.discard(key)
                self._look_at(key, due)
            elif absence(agent, now, attentive_since, self.limits) is not None:
                found.append(key)
        return found

    def _put(self, key: str, agent: AgentHealth) -> None:
        self.agents[key] = agent
        if key not in self._overdue:
            self._look_at(key, absence_due(agent, self.limits))

    def _look_at(self, key: str, due: datetime | None) -> None:
        if due is None:
            self._queued.pop(key, None)
        elif due < self._queued.get(key, _NEVER):
            self._queued[key] = due
            heappush(self._queue, (due, key))

    def declare_absent(self, key: str, now: datetime, attentive_since: datetime) -> list[Changed]:
        """The verdict of absence on one agent, if it is still due."""
        changes: list[Changed] = []
        verdict = absence(self.agents[key], now, attentive_since, self.limits)
        if verdict is not None:
            self._keep(key, verdict, changes)
        return changes

    def _keep(self, key: str, verdict: Verdict, changes: list[Changed]) -> None:
        if not isinstance(verdict, Noted | Changed):
            log.debug("event.outdated", agent=key, reason=verdict.reason)
            if verdict.alive is not None:
                self._put(key, verdict.alive)
                self.unsaved.add(key)
            return
        self._put(key, verdict.agent)
        self.unsaved.add(key)
        self.stale.setdefault(key)
        if isinstance(verdict, Changed):
            changes.append(verdict)
