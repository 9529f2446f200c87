"""What a drill came to. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

Outcome = Literal["passed", "failed", "done", "not done"]


@dataclass(frozen=True, slots=True)
class Line:
    """One step, or one thing looked at in the end."""

    step: str
    outcome: Outcome
    took_s: float | None = None
    limit_s: float | None = None
    message: str = ""

    @property
    def scored(self) -> bool:
        """Whether it counts."""
        return self.outcome in {"passed", "failed", "not done"}


@dataclass(frozen=True, slots=True)
class Report:
    """One drill, from beginning to end."""

    name: str
    description: str
    targets: tuple[str, ...]
    began_at: datetime
    ended_at: datetime
    lines: tuple[Line, ...]
    aborted: str = ""
    """Why it was ended early; empty where it was not."""

    @property
    def passed(self) -> bool:
        """Whether everything that counts held."""
        return not self.aborted and all(line.outcome == "passed" for line in self.lines if line.scored)

    @property
    def score(self) -> int:
        """Percent of what counts that held."""
        counted = [line for line in self.lines if line.scored]
        return round(100 * sum(line.outcome == "passed" for line in counted) / len(counted)) if counted else 100

    def as_json(self) -> dict[str, Any]:
        """Plain values; moments as RFC 3339."""
        told = asdict(self) | {"passed": self.passed, "score": self.score}
        return told | {"began_at": self.began_at.isoformat(), "ended_at": self.ended_at.isoformat()}


def wrong_restarts(before: dict[str, int], after: dict[str, int], targets: Sequence[str]) -> dict[str, int]:
    """How often each agent that is no target was restarted."""
    return {key: more for key, count in after.items() if key not in targets and (more := count - before.get(key, count)) > 0}
