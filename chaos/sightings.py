"""Which events are of one and the same call, and what that call must cost: said anew, nothing of the product's recognition is used."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

_BELIEVED: Final = {"proxy": 2, "otel": 0}
"""Who is believed where two tell different things; the agent's own word lies between."""

Rank = tuple[bool, bool, int, int, Decimal]


@dataclass(slots=True)
class Calls:
    """Events by call. Feed every event, then ask."""

    _kin: dict[str, str] = field(default_factory=dict)
    _known: dict[tuple[str, ...], str] = field(default_factory=dict)
    _ranks: dict[str, Rank] = field(default_factory=dict)

    def add(self, name: str, event: Mapping[str, Any], cost: Decimal) -> None:
        """A billed event of this name, which alone would cost so much."""
        self._kin[name] = name
        tenant, by = event["tenant"]["tenant_id"], (event.get("attributes") or {}).get("agentops.observed_by")
        usage, trace = event["resource_usage"], event.get("trace") or {}
        tokens = usage["input_tokens"] + usage["output_tokens"]
        self._ranks[name] = cost > 0, not usage.get("estimated", False), _BELIEVED.get(by or "", 1), tokens, cost
        marks: list[tuple[str, ...]] = []
        if response := event["model_call"].get("response_id"):
            marks.append((tenant, response))
        if by is not None and by in _BELIEVED and (span := trace.get("parent_span_id" if by == "proxy" else "span_id")):
            marks.append((tenant, trace["trace_id"], span))
        for mark in marks:
            self._kin[self._root(name)] = self._root(self._known.setdefault(mark, name))

    def _root(self, name: str) -> str:
        while (above := self._kin[name]) != name:
            self._kin[name] = self._kin[above]
            name = above
        return name

    def call(self, name: str) -> str | None:
        """The call an event is of."""
        return self._root(name) if name in self._kin else None

    def costs(self) -> dict[str, Decimal]:
        """What each call must cost: what its best sighting says."""
        every: dict[str, list[str]] = defaultdict(list)
        for name in self._kin:
            every[self._root(name)].append(name)
        return {call: max(self._ranks[name] for name in names)[-1] for call, names in every.items()}
