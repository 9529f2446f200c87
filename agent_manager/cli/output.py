# ruff: noqa: PLC0415 - rich costs a tenth of a second that --json and --help need not pay
"""Printing: JSON for programs, tables for people; notes go to standard error so that pipes stay clean."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH: Final = 240
"""A pipe has no width: nothing is cut there that a terminal of this size would show."""

COLOURS: Final = {
    "HEALTHY": "green", "RECOVERING": "yellow", "UNHEALTHY": "bold red", "running": "green", "starting": "yellow",
    "error": "red", "firing": "bold red", "acknowledged": "yellow", "resolved": "green", "critical": "bold red",
    "warning": "yellow", "completed": "green", "failed": "red", "ok": "green", "problem": "bold red",
}  # fmt: skip


_CONTROLS: Final = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def visible(text: str) -> str:
    """``text`` without control characters: names, reasons and letters are strangers' words, and a terminal obeys escapes."""
    return text.translate(_CONTROLS)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    wrap: bool = False
    """Long text: takes what width is left."""


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

    return Console(highlight=False, **({} if sys.stdout.isatty() else {"width": _PIPE_WIDTH}))  # type: ignore[arg-type]


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table; ``empty`` is said instead of a table without rows."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow="fold" if column.wrap else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(visible(cell), style=COLOURS.get(cell, "")) for cell in row))
    if table.row_count:
        console().print(table)
    else:
        note(empty)


def write_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values below one another."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(visible(value), style=COLOURS.get(value, "")))
    console().print(table)
