"""A question ready to be asked: SQL, its parameters, and conditions put together from what was given."""

import re
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from schemas.errors import FieldError

Row = dict[str, Any]

DEFAULT_RANGE: Final = timedelta(hours=24)
SKEW: Final = timedelta(minutes=1)
"""Clocks of producers run ahead by so much; later events are shown when asked for by ``until``."""


class InvalidQuestionError(ValueError):
    """The parameters do not go together. Trying again does not help."""

    def __init__(self, loc: str, message: str) -> None:
        super().__init__(message)
        self.errors = (FieldError(loc=loc, msg=message),)


class View(Protocol):
    """The warehouse as one transaction sees it."""

    @property
    def folded(self) -> Mapping[str, int]:
        """How far the sums go, by the name of the parameter that tells it in SQL."""

    def applied(self) -> Mapping[str, int]:
        """How far the rows go, by the same names."""

    def beyond(self, positions: Mapping[str, int]) -> Collection[str]:
        """The tables that hold rows after ``positions``, at least."""

    def rows(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Every row of the answer; how far the sums go is among the parameters, unless they tell another place."""

    def kept(self, part: "Kept") -> Any:
        """The part's value as of the sums there are now."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A part of an answer that depends on sums, and on rows that are in them, alone: it is the same until more is folded."""

    name: str
    parameters: tuple[Hashable, ...]
    make: Callable[[View], Any] = field(compare=False)
    """What is made is never changed afterwards: others are given it, too."""


@dataclass(frozen=True, slots=True)
class Question:
    """``sql`` ends without LIMIT; ``composed`` instead of it gives all rows, in order, of several statements and parts that are kept."""

    sql: str | Callable[[Collection[str]], str] = ""
    """Or what makes it of the tables that hold rows the sums do not: of others nothing need be planned."""
    parameters: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    """Of the composed rows."""
    composed: Callable[[View], list[tuple[Any, ...]]] | None = None


_PARAMETER: Final = re.compile(r"\$(\w+)")


def bound(sql: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of what is ``given`` that which ``sql`` asks for: DuckDB takes no more."""
    asked = set(_PARAMETER.findall(sql))
    return {name: value for name, value in given.items() if name in asked}


def naive(moment: datetime) -> datetime:
    """As the warehouse keeps it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def span(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The range asked for, as the warehouse keeps times; the last 24 hours unless told otherwise."""
    start = since or (until or now) - DEFAULT_RANGE
    end = until or (now + SKEW if start <= now else datetime.max.replace(tzinfo=UTC))
    if start > end:
        raise InvalidQuestionError("$.until", "must not lie before since")
    return naive(start), naive(end)


@dataclass(slots=True)
class Conditions:
    """Conditions joined by AND, with their parameters."""

    parameters: dict[str, Any] = field(default_factory=dict)
    _texts: list[str] = field(default_factory=list)

    def add(self, text: str, **parameters: Any) -> "Conditions":
        """One more condition."""
        self._texts.append(text)
        self.parameters.update(parameters)
        return self

    def equal(self, **columns: Any) -> "Conditions":
        """``column = value`` for every value that is given."""
        for column, value in columns.items():
            if value is not None:
                self.add(f"{column} = ${column}", **{column: value})
        return self

    def text(self) -> str:
        """The whole condition."""
        return " AND ".join(self._texts) or "true"


def within(since: datetime | None, until: datetime | None, now: datetime, column: str = "occurred_at") -> Conditions:
    """The range as a condition on ``column``."""
    start, end = span(since, until, now)
    return Conditions().add(f"{column} >= $since AND {column} < $until", since=start, until=end)
