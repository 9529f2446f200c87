"""Which columns of a table fit the width there is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GAP: Final = 2
"""Between two columns."""
_LEAST_WRAPPED: Final = 30
"""A column that wraps is readable from this width on."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    wrap: bool = False
    """Long text: takes what width is left."""
    rank: int = 0
    """What is left out where the width does not do: the highest first, 0 never."""


def _least(column: Column, cells: Sequence[str]) -> int:
    widest = max([len(column.title), *(len(line) for cell in cells for line in cell.splitlines() or [""])])
    return min(widest, max(_LEAST_WRAPPED, len(column.title))) if column.wrap else widest


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The places of the columns that stay, in order: all, or without as many as it takes to fit ``width``."""
    least = [_least(column, [row[place] for row in rows]) for place, column in enumerate(columns)]
    kept = list(range(len(columns)))
    while sum(least[place] for place in kept) + GAP * (len(kept) - 1) > width:
        # Of equal rank the last one: what matters stands first.
        spare = max(kept, key=lambda place: (columns[place].rank, place))
        if columns[spare].rank == 0:
            break
        kept.remove(spare)
    return kept
