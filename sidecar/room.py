"""Choosing what a full spool gives up, and which segments lose it. Pure but for reading the segments it is shown."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sidecar.priorities import CLASSES, Held


@dataclass(frozen=True, slots=True)
class Sacrifice:
    """What goes, by segment; within one in the order it stands there."""

    victims: Mapping[int, tuple[Held, ...]]

    @property
    def size(self) -> int:
        """Bytes of room that makes."""
        return sum(each.size for several in self.victims.values() for each in several)


def kinds(victims: Sequence[Held]) -> Counter[str]:
    """How many of each kind."""
    return Counter(each.kind for each in victims)


def sacrifice(
    segments: Sequence[int], read: Callable[[int], Sequence[Held]], upto: int, needed: int, spare: int
) -> Sacrifice | None:
    """What of ``segments`` (oldest first) goes so that ``needed`` bytes are free: the lowest class first, in it the oldest.

    Of the class that suffices ``spare`` more goes too, where it has it, so that not every event that comes rewrites a segment.
    Nothing that ranks above ``upto`` goes. None: it would not be enough, so nothing goes.
    """
    chosen: dict[int, list[Held]] = {}
    freed = 0
    for rank in range(min(upto, len(CLASSES) - 1) + 1):
        for segment in segments:
            for held in read(segment):
                if held.rank != rank:
                    continue
                if freed >= needed + spare:
                    return _in_order(chosen)
                chosen.setdefault(segment, []).append(held)
                freed += held.size
        if freed >= needed:
            return _in_order(chosen)
    return None


def _in_order(chosen: Mapping[int, list[Held]]) -> Sacrifice:
    return Sacrifice({segment: tuple(sorted(held, key=lambda each: each.begin)) for segment, held in chosen.items()})
