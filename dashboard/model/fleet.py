"""The fleet: every agent's parts, and which cards have changed since they were last shown."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dashboard.model.agents import AgentParts, active_faults, card, headline, lifecycle
from dashboard.model.moments import milliseconds
from schemas.state import AgentRecord, AgentState, FaultSet, Observation

Value = AgentRecord | AgentState | FaultSet | Observation

_BEATS: Final = 3
"""After so many missed heartbeats what was measured no longer counts as now."""


class Fleet:
    """Agents by ``<tenant>.<agent_id>``. ``changed`` holds the keys of cards to be shown anew, ``gone`` those to be taken away."""

    def __init__(self) -> None:
        self.agents: dict[str, AgentParts] = {}
        self.changed: set[str] = set()
        self.gone: set[str] = set()
        self._next_deadline: dict[str, int] = {}

    def _parts(self, key: str) -> AgentParts | None:
        parts = self.agents.get(key)
        if parts is None:
            tenant, dot, agent_id = key.partition(".")
            if not dot or not agent_id:
                return None
            parts = self.agents[key] = AgentParts(tenant, agent_id)
        return parts

    def put(self, key: str, part: type[Value], value: Value | None) -> None:
        """Takes a bucket's value (None: deleted) as one part of an agent."""
        parts = self._parts(key)
        if parts is None:
            return
        if part is Observation:
            assert value is None or isinstance(value, Observation)
            parts.observe(value)
        elif part is AgentState:
            assert value is None or isinstance(value, AgentState)
            parts.state = value
        elif part is AgentRecord:
            assert value is None or isinstance(value, AgentRecord)
            parts.record = value
        else:
            assert value is None or isinstance(value, FaultSet)
            parts.faults = value
            self._deadline(parts, 0)
        self.touch(key)

    def _deadline(self, parts: AgentParts, now_ms: int) -> None:
        ends = [milliseconds(fault.until) or 0 for fault in active_faults(parts, now_ms)]
        if ends:
            self._next_deadline[parts.key] = min(ends)
        else:
            self._next_deadline.pop(parts.key, None)

    def touch(self, key: str) -> None:
        """Marks a card to be shown anew, or taken away when nothing is known of its agent any more."""
        parts = self.agents.get(key)
        if parts is None:
            return
        if parts.known:
            self.changed.add(key)
            self.gone.discard(key)
        else:
            self.changed.discard(key)
            if parts.faults is None:
                del self.agents[key]
            self.gone.add(key)

    def expire(self, now_ms: int) -> None:
        """Marks the cards one of whose faults has reached its deadline."""
        for key in [key for key, at in self._next_deadline.items() if at <= now_ms]:
            self._deadline(self.agents[key], now_ms)
            self.touch(key)

    def use(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes the rows of the ``fleet`` query; agents only the warehouse remembers get no card."""
        for row in rows:
            key = f"{row.get('tenant_id')}.{row.get('agent_id')}"
            parts = self.agents.get(key)
            if parts is None:
                continue
            usage = {name: row.get(name) for name in ("cost_usd_24h", "tokens_24h", "runs_24h")}
            if usage != parts.usage:
                parts.usage = usage
                self.touch(key)

    def busy(self, key: str, what: str | None) -> None:
        """Says which command is under way for an agent."""
        parts = self.agents.get(key)
        if parts is not None and parts.busy != what:
            parts.busy = what
            self.touch(key)

    def cards(self, now_ms: int, keys: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """The cards of ``keys``, or of all, worst first."""
        chosen = self.agents.keys() if keys is None else keys
        shown = [card(parts, now_ms) for key in chosen if (parts := self.agents.get(key)) is not None and parts.known]
        return sorted(shown, key=lambda one: (one["rank"], one["name"], one["key"]))

    def take_changes(self, now_ms: int) -> tuple[list[dict[str, Any]], list[str]]:
        """The changed cards and the keys of gone ones since the last call."""
        cards, gone = self.cards(now_ms, self.changed), sorted(self.gone)
        self.changed, self.gone = set(), set()
        return cards, gone

    def counts(self) -> dict[str, int]:
        """Agents by headline: healthy, unhealthy, recovering, stopped, other, total."""
        found = {"healthy": 0, "unhealthy": 0, "recovering": 0, "stopped": 0, "other": 0, "total": 0}
        for parts in self.agents.values():
            if not parts.known:
                continue
            found["total"] += 1
            head = headline(parts).lower()
            found["unhealthy" if head == "error" else head if head in found else "other"] += 1
        return found

    def measured(self, now_ms: int) -> list[Observation]:
        """The observations that still say something about now: running, requests seen, heartbeat not overdue."""
        found = []
        for parts in self.agents.values():
            observation = parts.observation
            if observation is None or not observation.metrics.requests or lifecycle(parts) in {"stopped", "inactive"}:
                continue
            beat = milliseconds(observation.last_heartbeat)
            if beat is not None and now_ms - beat <= _BEATS * observation.heartbeat_interval_s * 1000 + 1000:
                found.append(observation)
        return found
