"""Whether an agent gets on with its work: a sidecar sees every step of it, so it can tell without anybody else reading them all.

Work is a run that has begun and not ended. It moves with each step, tool call and model call, unless these repeat themselves:
the same one again, or the same few in turn, with the same tokens and the same outcome, is no progress.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from sidecar.frames import Record

_MOST_RUNS: Final = 1024
"""Runs remembered at once; the one that moved least lately is forgotten first."""
_LONGEST_CYCLE: Final = 4
"""So many steps in turn may be a circle."""
_MOVING: Final = frozenset({"step", "tool_call", "model_call"})
_ENDED: Final = frozenset({"run.completed", "run.failed"})
_USAGE: Final = ("input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an agent may stand still, and how often repeat itself. 0: that is never held against it."""

    after_s: float = 600.0
    repeats: int = 20


@dataclass(frozen=True, slots=True)
class Stuck:
    """It beats, and gets nowhere."""

    reason: str
    for_s: float
    """Since when nothing has moved."""


@dataclass(slots=True)
class _Run:
    moved_at: float
    kept: int
    recent: deque[int] = field(init=False)
    """Fingerprints of its last steps."""
    period: int = 0
    """The circle it goes in now; 0: none."""
    in_turn: int = 0
    """How many of the last steps are in it."""
    what: str = ""

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=_LONGEST_CYCLE)

    def step(self, mark: int, what: str, now: float) -> None:
        """One more; the run has moved unless it repeats."""
        recent = self.recent
        if self.period and len(recent) >= self.period and recent[-self.period] == mark:
            self.in_turn += 1
        else:
            self.period = next((length for length in range(1, len(recent) + 1) if recent[-length] == mark), 0)
            self.in_turn = self.period + 1 if self.period else 0
            self.what = what
        recent.append(mark)
        if not self.period or self.in_turn <= self.kept * self.period:
            self.moved_at = now

    @property
    def repeated(self) -> int:
        """How often the circle was gone through."""
        return self.in_turn // self.period if self.period else 0


def _fingerprint(event: Mapping[str, Any]) -> tuple[int, str]:
    """What makes two steps the same, and its name for people. Ids and times are no part of it."""
    step, tool, call = event.get("step"), event.get("tool_call"), event.get("model_call")
    usage, error = event.get("resource_usage") or {}, event.get("error") or {}
    name = (
        (tool or {}).get("name") or (call or {}).get("model") or (step or {}).get("name") or (step or {}).get("step_type") or "?"
    )
    told = (
        event["event_type"], name, (step or {}).get("step_type"), (step or {}).get("status"), *(usage.get(each) for each in _USAGE),
        error.get("type"), error.get("message"), orjson.dumps(event.get("attributes") or {}, option=orjson.OPT_SORT_KEYS),
    )  # fmt: skip
    return hash(told), str(name)[:80]


class Progress:
    """One agent's. Bounded: what it remembers is so many runs, and a few numbers of each."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._moved_at = float("-inf")

    @property
    def open_runs(self) -> int:
        """Runs that have begun and not ended."""
        return len(self._runs)

    def note(self, records: Sequence[Record], now: float) -> None:
        """Takes in what the agent told, as it was stored."""
        for record in records:
            if record.kind == "run" or (self._runs and record.kind in _MOVING):
                self._take(orjson.loads(record.line), now)

    def _take(self, event: Mapping[str, Any], now: float) -> None:
        run_id = event["run"].get("run_id")
        if run_id is None:
            return
        kind = event["event_type"]
        if kind in _ENDED:
            self._runs.pop(run_id, None)
            self._moved_at = now
            return
        run = self._runs.get(run_id)
        if kind == "run.started":
            if run is None:
                self._runs[run_id] = _Run(now, max(1, self._patience.repeats))
                self._moved_at = now
                while len(self._runs) > _MOST_RUNS:
                    self._runs.popitem(last=False)
            return
        if run is None:
            return
        run.step(*_fingerprint(event), now)
        self._moved_at = max(self._moved_at, run.moved_at)
        self._runs.move_to_end(run_id)

    def stuck(self, now: float, *, busy: bool) -> Stuck | None:
        """Whether it is, at ``now``; ``busy``: requests are under way, or nobody could know.

        A run that nobody waits for any more was left behind by an error, and is no work.
        """
        if not self._runs or not busy:
            return None
        if self._patience.repeats:
            worst = max(self._runs.values(), key=lambda run: run.repeated)
            if worst.repeated > self._patience.repeats:
                steps = f"{worst.period} steps from {worst.what!r} on" if worst.period > 1 else f"step {worst.what!r}"
                return Stuck(f"stuck: {steps} repeated {worst.repeated} times without progress", max(0.0, now - worst.moved_at))
        still = now - self._moved_at
        if self._patience.after_s and still > self._patience.after_s:
            runs = f"{len(self._runs)} runs are" if len(self._runs) > 1 else "a run is"
            return Stuck(f"stuck: no step for {still:.0f} s while {runs} open", still)
        return None
