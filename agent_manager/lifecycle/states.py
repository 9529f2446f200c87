"""The states of an agent and the moves between them."""

from collections.abc import Mapping
from typing import Final

from schemas.sections import AgentStatus

MOVES: Final[Mapping[AgentStatus, frozenset[AgentStatus]]] = {
    "stopped": frozenset({"starting", "error"}),
    "starting": frozenset({"running", "error", "inactive", "stopped"}),
    "running": frozenset({"starting", "error", "inactive", "stopped"}),
    "inactive": frozenset({"running", "starting", "error", "stopped"}),
    "error": frozenset({"starting", "running", "inactive", "stopped"}),
}
"""From each state, the states that may follow. A launch that fails at once goes from stopped to error; an agent whose
process ended inside a living sidecar may be found running again."""


class IllegalMoveError(ValueError):
    """A state may not follow another. A mistake in the manager; trying again does not help."""


def is_legal(previous: AgentStatus, following: AgentStatus) -> bool:
    """Whether ``following`` may follow ``previous``; staying is always legal."""
    return previous == following or following in MOVES[previous]


def route(previous: AgentStatus, wanted: AgentStatus) -> AgentStatus:
    """The state to take now on the way to ``wanted``: itself when legal, else the step that leads there."""
    if is_legal(previous, wanted):
        return wanted
    for step in ("starting", "error"):
        if step in MOVES[previous] and wanted in MOVES[step]:
            return step
    msg = f"no way from {previous} to {wanted}"
    raise IllegalMoveError(msg)
