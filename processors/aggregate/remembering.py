"""Parts of answers that stay the same until more is folded into the sums: made once, and again after each folding."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from processors.aggregate import rollups
from processors.aggregate.asking import Kept, bound

MOST: Final = 4
"""Parts kept, each with something for every agent; the one not asked for the longest is forgotten."""

_Key = tuple[Kept, tuple[tuple[str, int], ...]]


@dataclass(slots=True)
class _Part:
    value: Any
    asked: bool
    """Since it was made."""


class Remembered:
    """What was made, by the part and by how far the sums went then. Any thread may ask."""

    def __init__(self) -> None:
        self._parts: OrderedDict[_Key, _Part] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, part: Kept, view: "Snapshot", *, asked: bool = True) -> Any:
        """Its value in the snapshot ``view`` shows, made there where nobody has made it yet."""
        key = (part, tuple(sorted(view.folded.items())))
        with self._lock:
            found = self._parts.get(key)
            if found is not None:
                self._parts.move_to_end(key)
                found.asked = found.asked or asked
                return found.value
        value = part.make(view)
        with self._lock:
            self._parts[key] = _Part(value, asked)
            while len(self._parts) > MOST:
                self._parts.popitem(last=False)
        return value

    def renew(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes anew what was asked for since it was made, and forgets the rest: whoever asks next need not wait for it."""
        with self._lock:
            before = dict(self._parts)
        if not before:
            return
        connection.execute("BEGIN")
        try:
            view = Snapshot(connection, self, rollups.positions(connection), _nothing, asked=False)
            # Of parts of the same name the one asked for last: the others are of hours and minutes that have passed.
            for part in {part.name: part for (part, _), made in before.items() if made.asked}.values():
                self.of(part, view, asked=False)
        finally:
            connection.execute("ROLLBACK")
        with self._lock:
            for key in before:
                if dict(key[1]) != view.folded:
                    self._parts.pop(key, None)


def _nothing(_: Mapping[str, int]) -> Collection[str]:
    """Kept parts are of what is in the sums."""
    return ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The warehouse as one transaction sees it: what a composed question is answered from."""

    connection: duckdb.DuckDBPyConnection
    remembered: Remembered
    folded: Mapping[str, int]
    """How far the sums go, as parameters of SQL."""
    beyond: Callable[[Mapping[str, int]], Collection[str]]
    """The tables that hold rows after given positions, at least."""
    asked: bool = True

    def applied(self) -> dict[str, int]:
        """How far the rows go."""
        found = self.connection.execute("SELECT stream, applied_sequence FROM offsets").fetchall()
        reached = {rollups.position_of(stream): sequence for stream, sequence in found}
        return {name: reached.get(name, sequence) for name, sequence in self.folded.items()}

    def rows(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Every row of the answer."""
        found: list[tuple[Any, ...]] = self.connection.execute(sql, bound(sql, {**self.folded, **parameters})).fetchall()
        return found

    def kept(self, part: Kept) -> Any:
        """The part's value as of the sums there are now."""
        return self.remembered.of(part, self, asked=self.asked)
