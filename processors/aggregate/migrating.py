"""Numbered, immutable SQL migrations: applied in order, each once, and checked ever after."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb

DIRECTORY: Final = Path(__file__).parent / "migrations"
_NAME: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")

_BOOK: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations "
    "(version INTEGER NOT NULL, name VARCHAR NOT NULL, checksum VARCHAR NOT NULL, shape VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"
)


class NewerWarehouseError(Exception):
    """The file was written by a newer AgentOps. Trying again does not help: run that version, or use another file."""


class AlteredWarehouseError(Exception):
    """The file, or a migration it was made by, was changed by hand. Trying again does not help: a person must look."""


class MigrationOrderError(ValueError):
    """The migrations of this installation are not numbered 1, 2, 3 … A mistake of ours."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text: a released migration never changes."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load(directory: Path = DIRECTORY) -> tuple[Migration, ...]:
    """The migrations of this installation, in order; raises MigrationOrderError when a number is missing or doubled."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise MigrationOrderError(f"{path.name} is not named NNNN_words.sql")
        found.append(Migration(int(match[1]), match[2], path.read_text(encoding="utf-8")))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationOrderError(f"numbers are {[migration.version for migration in found]}")
    return tuple(found)


def shape(connection: duckdb.DuckDBPyConnection) -> str:
    """A fingerprint of every table and column there is."""
    rows = connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() "
        "WHERE database_name = current_database() AND NOT internal AND table_name <> 'schema_migrations' "
        "ORDER BY table_name, column_index"
    ).fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def migrate(connection: duckdb.DuckDBPyConnection, migrations: tuple[Migration, ...], at: datetime) -> list[str]:
    """Brings the database to the last of ``migrations``; returns the names applied now.

    Raises NewerWarehouseError or AlteredWarehouseError, and then has changed nothing.
    """
    connection.execute(_BOOK)
    book = connection.execute("SELECT version, name, checksum, shape FROM schema_migrations ORDER BY version").fetchall()
    if book and book[-1][0] > len(migrations):
        raise NewerWarehouseError(
            f"it is at version {book[-1][0]} ({book[-1][1]}), this AgentOps knows {len(migrations)}: "
            "run the version that wrote it, or move the file away and let the streams fill a new one"
        )
    for known, (version, name, checksum, _) in zip(migrations, book, strict=False):
        if (version, checksum) != (known.version, known.checksum):
            raise AlteredWarehouseError(
                f"migration {version} ({name}) is not the one it was made by: released migrations never change. "
                "Restore the original migration, or move the file away and let the streams fill a new one"
            )
    if book and shape(connection) != book[-1][3]:
        raise AlteredWarehouseError(
            "tables were changed by hand since it was last opened: undo that, "
            "or move the file away and let the streams fill a new one"
        )
    applied = []
    for migration in migrations[len(book) :]:
        connection.execute("BEGIN")
        try:
            connection.execute(migration.sql)
            connection.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, ?, ?, ?)",
                [migration.version, migration.name, migration.checksum, shape(connection), at],
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        applied.append(migration.name)
    return applied
