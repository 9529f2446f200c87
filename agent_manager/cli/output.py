# ruff: noqa: PLC0415 - rich costs a tenth of a second that --json and --help need not pay
"""Printing: JSON for programs, tables for people; notes go to standard error so that pipes stay clean."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_manager.cli.fitting import GAP, Column, fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPE_WIDTH: Final = 240
"""A pipe has no width: nothing is cut there that a terminal of this size would show. COLUMNS gives it one."""

_LEAST_NAME: Final = 8
"""What a name has of the width at least, beside numbers that need the room."""

COLOURS: Final = {
    "HEALTHY": "green", "RECOVERING": "yellow", "STUCK": "bold red", "UNHEALTHY": "bold red", "running": "green", "starting": "yellow",
    "error": "red", "firing": "bold red", "acknowledged": "yellow", "resolved": "green", "critical": "bold red",
    "warning": "yellow", "completed": "green", "failed": "red", "ok": "green", "problem": "bold red",
}  # fmt: skip


_CONTROLS: Final = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def visible(text: str) -> str:
    """``text`` without control characters: names, reasons and letters are strangers' words, and a terminal obeys escapes."""
    return text.translate(_CONTROLS)


def write_json(value: Any) -> None:
    """``value`` as indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_json_line(value: Any) -> None:
    """``value`` as one line of JSON, at once: for what never ends."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def write_line(text: str = "") -> None:
    """One line for people, at once."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One line beside the data."""
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


def console() -> "Console":
    """Where tables go."""
    from rich.console import Console

    told = os.environ.get("COLUMNS", "")
    width = None if sys.stdout.isatty() else int(told) if told.isdigit() and int(told) else _PIPE_WIDTH
    return Console(highlight=False, width=width)


def _print(table: "Table", paper: "Console") -> None:
    """Without the blanks that would fill the last column: they wrap where a window is made narrower, and trouble pipes."""
    with paper.capture() as captured:
        paper.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table of the columns that fit, with a note of those that do not; ``empty`` is said instead of one without rows."""
    cells = [[visible(cell) for cell in row] for row in rows]
    if not cells:
        note(empty)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    paper = console()
    width = paper.width
    kept = fitting(columns, cells, width)
    # A number that is cut is another number: rather are names folded, and at last lines longer than the terminal is wide.
    numbers = {
        place: max(len(columns[place].title), *(len(row[place]) for row in cells)) for place in kept if columns[place].right
    }
    if numbers:
        paper.width = max(width, sum(numbers.get(place, _LEAST_NAME) + GAP for place in kept) - GAP)
    folded = bool(numbers) and not any(columns[place].wrap for place in kept)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
    for place in kept:
        column = columns[place]
        table.add_column(
            column.title,
            min_width=numbers.get(place),
            justify="right" if column.right else "left",
            no_wrap=column.right or not (column.wrap or folded),
            overflow="fold" if column.wrap or folded else "ellipsis",
        )
    for row in cells:
        table.add_row(*(Text(row[place], style=COLOURS.get(row[place], "")) for place in kept))
    _print(table, paper)
    if len(kept) < len(columns):
        missing = ", ".join(column.title for place, column in enumerate(columns) if place not in kept)
        note(f"not shown in {width} columns: {missing}; a wider terminal or --json shows them")


def write_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values below one another."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name, style=COLOURS.get(name, "")), Text(visible(value), style=COLOURS.get(value, "")))
    _print(table, console())
