"""What an exporter is, and what it answers."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sidecar.tracing.events import Made


class Delivered(NamedTuple):
    """All of them are where they belong."""


class Again(NamedTuple):
    """None of them was taken, or nobody knows: offer the same again."""

    reason: str
    after_s: float | None = None
    """Not sooner, where the other side said so."""
    barred: bool = False
    """The other side knows the sender not, or lets it not: only somebody's hand changes that."""


class Refused(NamedTuple):
    """So many of them never will be taken; the others are."""

    reason: str
    events: int


Outcome = Delivered | Again | Refused


class Exporter(Protocol):
    """Takes events, in batches, from one thread."""

    name: str
    most_bytes: int
    """Of the events' JSON in one batch; a single larger event comes alone."""

    def export(self, batch: Sequence[Made]) -> Outcome:
        """Brings a batch where it belongs, within seconds. An exception counts as ``Again``."""
        ...

    def close(self) -> None:
        """Lets go of files and connections; another ``export`` opens them anew."""
        ...

    def forked(self) -> None:
        """A child process begins: what was open is the parent's."""
        ...
