"""Whether a call was seen before, and which of its sightings stands. Pure: rows of the index come in, rows go out.

Of all sightings of a call the one with the greatest rank stands, in whatever order they come: what came first is charged,
what is seen again charges nothing, and where the later one knows better the earlier is taken back and the later charged.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from processors.cost import calls
from processors.cost.calls import Call
from processors.cost.sightings import PROXY, Sighting


class Taken(NamedTuple):
    """An entry that stood, and is to be taken back."""

    entry: bytes
    place: int
    """The message of LEDGER it stands in; 0: it is made by the same batch."""
    stands: bytes
    """The entry that stands instead."""


@dataclass(frozen=True, slots=True)
class Stands:
    """It is charged, in the place of ``taken``: nothing, mostly."""

    taken: tuple[Taken, ...] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """The call is charged already: one more sighting of it."""

    of: bytes
    """The entry that stands."""
    differs: bool
    tokens: int
    nanos: int
    """What stands counts, and came to."""
    taken: tuple[Taken, ...] = ()
    """Entries of what turned out to be the same call."""


_FIRST = Stands()


class Recognition:
    """What is known of the calls at hand. ``rows`` are those of all keys at hand, and of what they point to.

    ``settled`` are entries that stay what they are: a person has taken them back.
    """

    def __init__(self, rows: Mapping[bytes, bytes], settled: Collection[bytes] = ()) -> None:
        self._rows = rows
        self._settled = settled
        self._live: dict[bytes, Call] = {}
        self._changed: dict[bytes, Call] = {}
        """Calls whose rows are to be written, by key."""
        self._pointing: dict[bytes, Call] = {}
        """Keys that point to calls, and are to be written."""

    def see(self, sighting: Sighting) -> Stands | Again:
        """Judges one sighting. Its entry is charged where it stands."""
        found = self._matching(sighting)
        if not found:
            self._begin(sighting)
            return _FIRST
        for one in found if self._settled else ():
            one.settled = one.settled or one.entry in self._settled
        best = max(found, key=lambda one: (one.settled, one.rank))
        if best.settled or best.agrees(sighting) or sighting.rank <= best.rank:
            answer: Stands | Again = Again(
                best.entry, not best.agrees(sighting), best.tokens, best.nanos,
                tuple(Taken(one.entry, one.place, best.entry) for one in found if one is not best and not one.settled),
            )  # fmt: skip
            every: list[Call | Sighting] = [*found, sighting]
            best.observer = max(one.observer for one in every if best.agrees(one))
        else:
            answer = Stands(tuple(Taken(one.entry, one.place, sighting.entry) for one in found))
            best.stand(sighting)
        self._join(best, found, sighting)
        return answer

    def remember(self, sighting: Sighting, duplicate_of: bytes | None, place: int, *, differs: bool) -> None:
        """Takes in what was judged before, as the entry in the message ``place`` of LEDGER tells."""
        found = self._matching(sighting)
        known = next((one for one in found if one.entry == duplicate_of), None)
        stands = known or (max(found, key=lambda one: one.rank) if found else self._begin(sighting))
        if duplicate_of is None:
            stands.stand(sighting)
            stands.place, stands.settled = place, False
        elif known is None:
            # What stands lies beyond the horizon, and with it what it said.
            stands.entry, stands.place, stands.settled = duplicate_of, 0, True
        elif not differs:
            stands.observer = max(stands.observer, sighting.observer)
        if found:
            self._join(stands, found, sighting)

    def _begin(self, sighting: Sighting) -> Call:
        key = sighting.by_id or sighting.own_span
        assert key is not None
        made = calls.call(key, sighting)
        if sighting.by_id is not None or self._find(key) is None:
            self._live[key] = self._changed[key] = made
            self._reach(made, sighting)
        # Else the span has made a call before that has no response id either: the first of them is looked for.
        return made

    def _reach(self, one: Call, sighting: Sighting) -> None:
        """The call can be found by the keys of ``sighting``, where nothing else is."""
        for key in (sighting.by_id, sighting.own_span):
            if key is not None and self._find(key) is None:
                self._live[key] = self._pointing[key] = one

    def _join(self, stands: Call, found: Iterable[Call], sighting: Sighting) -> None:
        """All of ``found`` are one call from now on, seen by ``sighting`` too."""
        for one in found:
            if one is not stands:
                one.into = stands
                stands.by_proxy, stands.by_otel = stands.by_proxy or one.by_proxy, stands.by_otel or one.by_otel
                if not any(stands.response):
                    stands.response = one.response
                self._changed.pop(one.key, None)
                self._pointing[one.key] = stands
        stands.seen_by(sighting)
        self._changed[stands.key] = stands
        self._reach(stands, sighting)

    def _matching(self, sighting: Sighting) -> list[Call]:
        """The calls ``sighting`` may be of: the one of its response id, and the one of its span unless that is another's."""
        by_id = None if sighting.by_id is None else self._find(sighting.by_id)
        by_span = None if sighting.other_span is None else self._find(sighting.other_span)
        if by_span is not None and by_span is not by_id:
            # A span that tries again makes several calls: each is seen by the proxy once.
            taken = by_span.by_proxy if sighting.observer == PROXY else by_span.by_otel
            both = by_id is not None and ((by_id.by_proxy and by_span.by_proxy) or (by_id.by_otel and by_span.by_otel))
            if not taken and not both and not by_span.other_response(sighting.by_id):
                return [by_span] if by_id is None else [by_id, by_span]
        return [] if by_id is None else [by_id]

    def _find(self, key: bytes) -> Call | None:
        found = self._live.get(key)
        if found is None:
            found = self._load(key)
            if found is None:
                return None
            self._live[key] = found
        while found.into is not None:
            found = found.into
        return found

    def _load(self, key: bytes) -> Call | None:
        stored = self._rows.get(key)
        while stored is not None and (target := calls.points_to(stored)) is not None:
            if target in self._live:
                return self._live[target]
            key, stored = target, self._rows.get(target)
        if stored is None:
            return None
        found = self._live[key] = calls.read(key, stored)
        return found

    def rows(self, places: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
        """What the index is to keep of it all; ``places`` are the messages of LEDGER the new entries stand in."""
        for one in self._changed.values():
            if not one.place:
                one.place = places.get(one.entry, 0)
        kept = [(key, calls.row(one)) for key, one in self._changed.items()]
        for key, one in self._pointing.items():
            while one.into is not None:
                one = one.into  # noqa: PLW2901
            if key != one.key:
                kept.append((key, calls.pointer(one.key)))
        return kept
