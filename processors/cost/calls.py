"""A call as the index of calls has it: the entry that stands for it, and what is known of its sightings. Pure."""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from processors.cost.sightings import OTEL, PROXY, Sighting

_ROW: Final = Struct(">BBBQ16sQqII8s")
_CALL: Final = 1
_POINTER: Final = 2
_NOBODY: Final = bytes(8)
_BY_PROXY, _BY_OTEL, _REPORTED, _PRICED, _SETTLED = 1, 2, 4, 8, 16


@dataclass(slots=True)
class Call:
    """One model call. ``key`` is where its row stands; other keys point there."""

    key: bytes
    entry: bytes
    """The entry that stands."""
    place: int
    """The message of LEDGER it stands in; 0 while that is not known."""
    observer: int
    reported: bool
    priced: bool
    tokens: int
    nanos: int
    said: int
    version: int
    response: bytes
    """The beginning of the key of its response id; zeros while no sighting has told that."""
    by_proxy: bool
    by_otel: bool
    settled: bool = False
    """What stands stays, whatever else is seen: a person has taken it back, or it stands beyond the horizon."""
    into: "Call | None" = None
    """The call it turned out to be."""

    @property
    def rank(self) -> tuple[bool, bool, int, int, int, int]:
        """As a sighting's: of the best of those that said what the one that stands has said."""
        return self.priced, self.reported, self.observer, self.tokens, self.nanos, self.said

    def agrees(self, other: "Call | Sighting") -> bool:
        """Whether ``other`` tells the same. A change of prices between two sightings is no difference between them."""
        return self.said == other.said and (self.nanos == other.nanos or self.version != other.version)

    def stand(self, sighting: Sighting) -> None:
        """From now on the entry of ``sighting`` stands for the call."""
        self.entry, self.place, self.observer = sighting.entry, 0, sighting.observer
        self.reported, self.priced, self.tokens = sighting.reported, sighting.priced, sighting.tokens
        self.nanos, self.said, self.version = sighting.nanos, sighting.said, sighting.version

    def seen_by(self, sighting: Sighting) -> None:
        """Takes note of who has seen it, and of its response id."""
        self.by_proxy = self.by_proxy or sighting.observer == PROXY
        self.by_otel = self.by_otel or sighting.observer == OTEL
        if sighting.by_id is not None and self.response == _NOBODY:
            self.response = sighting.by_id[:8]

    def other_response(self, by_id: bytes | None) -> bool:
        """Whether its response id is known, and another than that of this key."""
        return by_id is not None and self.response not in {_NOBODY, by_id[:8]}


def call(key: bytes, sighting: Sighting) -> Call:
    """A call nobody has seen before."""
    made = Call(
        key, sighting.entry, 0, sighting.observer, sighting.reported, sighting.priced, sighting.tokens, sighting.nanos, sighting.said,
        sighting.version, _NOBODY, by_proxy=False, by_otel=False,
    )  # fmt: skip
    made.seen_by(sighting)
    return made


def pointer(key: bytes) -> bytes:
    """A row that says: the call stands under ``key``."""
    return b"\x02" + key


def points_to(row: bytes) -> bytes | None:
    """The key ``row`` points to; None where it is a call's own."""
    return row[1:17] if row[0] == _POINTER else None


def row(one: Call) -> bytes:
    """A call as the index keeps it."""
    flags = (
        _BY_PROXY * one.by_proxy
        | _BY_OTEL * one.by_otel
        | _REPORTED * one.reported
        | _PRICED * one.priced
        | _SETTLED * one.settled
    )
    return _ROW.pack(_CALL, flags, one.observer, one.place, one.entry, one.tokens, one.nanos, one.said, one.version, one.response)


def read(key: bytes, stored: bytes) -> Call:
    """A call from its row."""
    _, flags, observer, place, entry, tokens, nanos, said, version, response = _ROW.unpack(stored)
    return Call(
        key, entry, place, observer, bool(flags & _REPORTED), bool(flags & _PRICED), tokens, nanos, said, version, response,
        by_proxy=bool(flags & _BY_PROXY), by_otel=bool(flags & _BY_OTEL), settled=bool(flags & _SETTLED),
    )  # fmt: skip
