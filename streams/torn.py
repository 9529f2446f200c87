"""What a torn batch left behind, and what completes it. Pure.

A stream whose limit falls below what it holds while an atomic batch is being committed stores the first messages of the
batch, not the rest and not the coverage record, and nobody is answered. What stands cannot be taken back: the rest is
stored beside it, under a record that accounts for both. The id of every batch says whose it is and how far it covers its
input, so that the next instance knows what it finds, and covers the same input again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from schemas.coverage import Coverage, TornPart
from streams import subjects
from streams.messages import EVENT_COUNT
from streams.micro_batches import lines
from streams.outgoing import Outgoing

_LETTER: Final = subjects.beginning(subjects.ALL_DEAD)
_EVENTS: Final = subjects.beginning(subjects.ALL_EVENTS)
_ID: Final = {
    _EVENTS: "event_id",
    _LETTER: "letter_id",
    subjects.beginning(subjects.ALL_LEDGER): "entry_id",
}
"""By which field a line is known again, whoever has written it."""

Key = tuple[str, bytes]


def batch_id(processor: str, partition: int, until: int, chance: str) -> str:
    """The id of a batch that covers input up to ``until``: ``<processor>-<partition>-<until>-<chance>``, 64 characters at most."""
    return f"{processor}-{partition}-{until}-{chance}"


def covers(found: str, processor: str, partition: int) -> int | None:
    """Up to which input the batch with this id covers; None where it is not of this processor and partition."""
    mine = f"{processor}-{partition}-"
    if not found.startswith(mine):
        return None
    until, _, chance = found[len(mine) :].partition("-")
    return int(until) if chance.isalnum() and until.isascii() and until.isdigit() else None


@dataclass(frozen=True, slots=True)
class Part:
    """A message of a torn batch, as it stands in the stream."""

    sequence: int
    subject: str
    data: bytes
    events: int
    """What its header promises."""
    until: int
    """Last input sequence its batch was to cover."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What stands behind the newest record of a processor and partition though no record accounts for it."""

    parts: tuple[Part, ...] = ()

    @property
    def until(self) -> int:
        """Up to this input sequence it has to be covered at once, for the sums of each record to be right; 0 where nothing was left."""
        return max((part.until for part in self.parts), default=0)


@dataclass(frozen=True, slots=True)
class Stored:
    """The batch is stored; its record stands at ``sequence``."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Send:
    """These are to be stored together: the whole batch, or what a torn one lacks."""

    outputs: tuple[Outgoing, ...]
    coverage: Coverage
    beside: int = 0
    """Messages that stand already."""


@dataclass(frozen=True, slots=True)
class StepBack:
    """Another instance has been at work: nothing may be sent, and this one must begin again from what is stored."""

    reason: str


def decide(
    outputs: Sequence[Outgoing], coverage: Coverage, before: int, newest: tuple[Coverage, int] | None, left: Leftovers
) -> Stored | Send | StepBack:
    """What to do after a batch was sent and not answered.

    ``before`` is the sequence of the record the batch was fenced by, ``newest`` what is the newest one now, ``left`` what
    stands behind that.
    """
    if newest is not None and newest[0].batch_id == coverage.batch_id:
        return Stored(newest[1])
    if (newest[1] if newest else 0) != before:
        return StepBack(overtaken(newest))
    if left.until > coverage.last_sequence:
        return StepBack(
            f"another instance left a torn batch up to {left.until}, this one is to cover up to {coverage.last_sequence}"
        )
    return complete(outputs, coverage, left)


def overtaken(newest: tuple[Coverage, int] | None) -> str:
    """Why a batch was refused, by what is the newest record now."""
    if newest is None:
        return "the record this instance wrote is gone"
    return f"{newest[0].instance} has covered up to {newest[0].last_sequence}"


def complete(outputs: Sequence[Outgoing], coverage: Coverage, left: Leftovers) -> Send:
    """What ``outputs`` still lack beside ``left``, and the record that accounts for both.

    A line that was left behind and is no output now was judged again as a duplicate of itself: it is one that is valid.
    """
    if not left.parts:
        return Send(tuple(outputs), coverage)
    stand = Counter(key for part in left.parts for key in _keys(part.subject, part.data))
    rest: list[Outgoing] = []
    found: set[Key] = set()
    for out in outputs:
        made = lines(out.data)
        keys = _keys(out.subject, out.data)
        lacking = [line for line, key in zip(made, keys, strict=True) if key not in stand]
        found.update(key for key in keys if key in stand)
        if len(lacking) == len(made):
            rest.append(out)
        elif lacking:
            headers = {**out.headers, EVENT_COUNT: str(len(lacking))} if EVENT_COUNT in out.headers else out.headers
            rest.append(Outgoing(out.subject, b"\n".join(lacking), headers))
    more = stand - Counter(found)
    return Send(tuple(rest), _accounting(coverage, left, more), len(left.parts))


def _accounting(coverage: Coverage, left: Leftovers, more: Counter[Key]) -> Coverage:
    """``coverage``, with ``more`` lines that stand than it was made for."""
    kinds = Counter(coverage.valid_by_kind)
    only = next(iter(kinds), "") if len(kinds) == 1 else ""
    extra = 0
    for (subject, _), number in more.items():
        word = subjects.beginning(subject)
        if word != _LETTER:
            extra += number
            kinds[subjects.kind_of(subject) if word == _EVENTS else only] += number
    valid, duplicates = coverage.valid + extra, max(0, coverage.duplicates - extra)
    return coverage.model_copy(
        update={
            "received": valid + coverage.dead + duplicates,
            "valid": valid,
            "duplicates": duplicates,
            "valid_by_kind": dict(kinds),
            "torn": tuple(
                TornPart(sequence=part.sequence, events=part.events, dead=subjects.beginning(part.subject) == _LETTER)
                for part in left.parts
            ),
        }
    )


def _keys(subject: str, data: bytes) -> list[Key]:
    """By what each line is known again."""
    name = _ID.get(subjects.beginning(subject), "")
    return [(subject, _key(name, line)) for line in lines(data)]


def _key(name: str, line: bytes) -> bytes:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    told = found.get(name) if isinstance(found, dict) else None
    return told.encode() if isinstance(told, str) else line
