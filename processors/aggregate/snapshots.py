"""A snapshot: a copy of the warehouse as of one transaction, in a file of its own, while the warehouse goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from processors.aggregate.partial import PartialFile
from processors.aggregate.warehouse import Resources, Warehouse

Told = Callable[[str, int, int, int], None]
"""Table, how many are done, how many there are, rows so far."""

_BOOK = "schema_migrations"


@dataclass(frozen=True, slots=True)
class Copied:
    """What is in the copy."""

    rows: int
    bytes: int
    offsets: dict[str, int]


def export(cursor: duckdb.DuckDBPyConnection, path: Path, at: datetime, told: Told) -> Copied:
    """Writes ``path``; it is there only once it is whole. ``cursor`` is of the warehouse; interrupting it ends this.

    Raises FileExistsAlreadyError, BeingWrittenError, OSError, and what DuckDB raises.
    """
    with PartialFile(path) as file:
        # Made as every warehouse is made, so that it can be opened as one.
        Warehouse.open(file.partial, at, Resources(1)).close()
        literal = str(file.partial).replace("'", "''")
        cursor.execute(f"ATTACH '{literal}' AS copied")
        try:
            rows, offsets = _copy(cursor, told)
            cursor.execute("CHECKPOINT copied")
        finally:
            cursor.execute("DETACH copied")
        size = file.partial.stat().st_size
        file.finish()
    return Copied(rows, size, offsets)


def _copy(cursor: duckdb.DuckDBPyConnection, told: Told) -> tuple[int, dict[str, int]]:
    tables = [
        row[0]
        for row in cursor.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'copied' AND table_name <> $book ORDER BY table_name",
            {"book": _BOOK},
        ).fetchall()
    ]
    rows = 0
    # One transaction reads everything: rows and offsets are of the same moment, whatever is applied meanwhile.
    cursor.execute("BEGIN")
    try:
        offsets = dict(cursor.execute("SELECT stream, applied_sequence FROM offsets").fetchall())
        for number, table in enumerate(tables):
            told(table, number, len(tables), rows)
            cursor.execute(f'DELETE FROM copied."{table}"')  # noqa: S608
            found = cursor.execute(f'INSERT INTO copied."{table}" BY NAME SELECT * FROM "{table}"').fetchone()  # noqa: S608
            rows += int(found[0]) if found else 0
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    told("", len(tables), len(tables), rows)
    return rows, offsets
