"""A question ready to be asked: SQL, its parameters, and conditions put together from what was given."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

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


@dataclass(frozen=True, slots=True)
class Question:
    """``sql`` ends without LIMIT; with ``shape`` all rows are fetched, shaped, and only then paged."""

    sql: str | Callable[[Collection[str]], str]
    """Or what makes it of the tables that hold rows the sums do not: of others nothing need be planned."""
    parameters: dict[str, Any] = field(default_factory=dict)
    shape: Callable[[list[Row]], list[Row]] | None = None
    columns: tuple[str, ...] = ()
    """Of the shaped rows."""


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
