"""What goes wrong when: a seed is a schedule. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["kill", "stop", "second", "zombie", "disk_full", "disk_slow", "stream_full", "clock"]

SERVER: Final = "nats-server"
COVERED: Final = ("validate", "cost")
"""Who writes covered batches: a second instance of these is the dangerous one."""
STREAMS: Final = ("TELEMETRY", "EVENTS", "LEDGER")
DISKS: Final = ("nats", "index", "warehouse")
"""Folders of the data directory that are disks of their own."""

_LASTS_S: Final[dict[Kind, tuple[float, float]]] = {
    "kill": (0.0, 0.0),
    "stop": (0.5, 12.0),
    "second": (3.0, 15.0),
    "zombie": (6.0, 40.0),
    "disk_full": (2.0, 12.0),
    "disk_slow": (3.0, 20.0),
    "stream_full": (2.0, 12.0),
    "clock": (5.0, 60.0),
}
"""Seconds from … to, in a run of ``_LONG_S`` or more; shorter runs have shorter troubles."""
_LONG_S: Final = 300.0
_WARM_UP_S: Final = 3.0
_HOUR_S: Final = 3600.0
_JUMPS_S: Final = (90.0, _HOUR_S, 26 * _HOUR_S, 9 * 24 * _HOUR_S)


@dataclass(frozen=True, slots=True)
class Action:
    """One trouble: from ``at_s`` after the start, for ``for_s``."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0
    amount: float = 0.0
    """``clock``: seconds the clock jumps. ``second``, ``zombie``: 1 where the other instance shares the data directory."""

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s

    def __str__(self) -> str:
        lasting = f" for {self.for_s:.1f} s" if self.for_s else ""
        jump = f" by {self.amount:+,.0f} s" if self.kind == "clock" else ""
        return f"{self.at_s:7.1f} s  {self.kind:<11} {self.target}{jump}{lasting}"


def cards(processors: Sequence[str], producers: Sequence[str]) -> list[tuple[Kind, str]]:
    """Every trouble there is, each once."""
    dealt: list[tuple[Kind, str]] = [("kill", name) for name in (*processors, SERVER, SERVER, *producers)]
    dealt += [("stop", name) for name in (*processors, SERVER, *producers)]
    for name in COVERED:
        dealt += [("second", name), ("zombie", name), ("zombie", name)]
    for disk in DISKS:
        dealt += [("disk_full", disk), ("disk_slow", disk)]
    dealt += [("stream_full", stream) for stream in STREAMS]
    dealt += [("clock", name) for name in producers]
    return dealt


def _deal(chance: random.Random, deck: Sequence[tuple[Kind, str]]) -> Iterator[tuple[Kind, str]]:
    """The deck shuffled, again and again: nothing comes a second time before everything came once."""
    while True:
        yield from chance.sample(deck, len(deck))


def plan(seed: int, seconds: float, processors: Sequence[str], producers: Sequence[str]) -> tuple[Action, ...]:
    """The troubles of a run in order of time: the same for the same arguments, all of them over before ``seconds``."""
    chance = random.Random(seed)
    deck = cards(processors, producers)
    # A minute sees every card once; a long run leaves the system time to stand up between two.
    gap_s = min(4.0, max(0.5, 0.9 * (seconds - 2 * _WARM_UP_S) / len(deck)))
    scale = min(1.0, max(0.15, seconds / _LONG_S))
    dealt = _deal(chance, deck)
    actions: list[Action] = []
    at_s = _WARM_UP_S
    while at_s < seconds - 1.0:
        kind, target = next(dealt)
        shortest, longest = _LASTS_S[kind]
        for_s = min(chance.uniform(shortest, shortest + (longest - shortest) * scale), seconds - at_s)
        amount = 0.0
        if kind == "clock":
            amount = chance.choice((-1.0, 1.0)) * chance.choice(_JUMPS_S)
        elif kind in {"second", "zombie"}:
            amount = float(chance.random() < 0.5)
        actions.append(Action(round(at_s, 3), kind, target, round(for_s, 3), amount))
        at_s += gap_s * chance.uniform(0.4, 1.6)
    return tuple(actions)
