"""A warehouse is opened only when it is what it should be; otherwise the message says what to do."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from processors.aggregate.migrating import Migration, load, migrate
from processors.aggregate.warehouse import Warehouse, WarehouseLockedError, WarehouseUnusableError
from tests.conftest import until
from tests.processors_aggregate.conftest import Running

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def opened(path: Path, migrations: tuple[Migration, ...] | None = None) -> Warehouse:
    return Warehouse.open(path, NOW, migrations=migrations)


def test_it_opens_again_as_it_was_left(tmp_path: Path) -> None:
    opened(tmp_path / "w.duckdb").close()
    opened(tmp_path / "w.duckdb").close()


def test_a_file_of_an_older_format_becomes_one_of_ours(tmp_path: Path) -> None:
    """What is in it stays; what is written to it from now on is compressed the new way, in small groups."""
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path), config={"storage_compatibility_version": "v1.0.0"}) as connection:
        migrate(connection, load(), NOW.replace(tzinfo=None))
        connection.execute("INSERT INTO offsets VALUES ('EVENTS', '2026-11-01', 7, '2026-11-02', 1, 2, 3)")
    warehouse = opened(path)
    try:
        assert warehouse.offsets()["EVENTS"].applied_sequence == 7
        with warehouse.cursor() as cursor:
            described = cursor.execute("SELECT tags FROM duckdb_databases() WHERE database_name = current_database()").fetchone()
            assert described == ({"storage_version": "v1.5.0+"},)
            cursor.execute("INSERT INTO applied_messages SELECT 'EVENTS', range, 's', 1, 1, 0, now(), now() FROM range(100000)")
            cursor.execute("FORCE CHECKPOINT warehouse")
            groups = cursor.execute(
                "SELECT DISTINCT row_group_id, sum(count) OVER (PARTITION BY row_group_id, column_id) "
                "FROM pragma_storage_info('applied_messages') WHERE segment_type <> 'VALIDITY'"
            ).fetchall()
            assert len(groups) == 4
            assert max(rows for _, rows in groups) == 30_720
    finally:
        warehouse.close()


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    known = load()
    newer = (*known, Migration(len(known) + 1, "from_the_future", "CREATE TABLE later (x INTEGER)"))
    opened(tmp_path / "w.duckdb", newer).close()
    with pytest.raises(WarehouseUnusableError, match="this AgentOps knows"):
        opened(tmp_path / "w.duckdb")
    opened(tmp_path / "w.duckdb", newer).close()


def test_an_altered_migration_is_refused(tmp_path: Path) -> None:
    known = load()
    opened(tmp_path / "w.duckdb", known).close()
    altered = (Migration(1, known[0].name, known[0].sql + "-- a small fix"), *known[1:])
    with pytest.raises(WarehouseUnusableError, match=r"migration 1 .* released migrations never change"):
        opened(tmp_path / "w.duckdb", altered)


def test_tables_changed_by_hand_are_refused(tmp_path: Path) -> None:
    opened(tmp_path / "w.duckdb").close()
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN duration_ms")
    with pytest.raises(WarehouseUnusableError, match="changed by hand"):
        opened(tmp_path / "w.duckdb")


def test_a_broken_migration_changes_nothing(tmp_path: Path) -> None:
    known = load()
    opened(tmp_path / "w.duckdb", known).close()
    broken = (*known, Migration(len(known) + 1, "broken", "CREATE TABLE half (x INTEGER); CREATE TABLE half (x INTEGER)"))
    with pytest.raises(WarehouseUnusableError):
        opened(tmp_path / "w.duckdb", broken)
    opened(tmp_path / "w.duckdb", known).close()


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"\x00" * 100_000])
def test_a_corrupted_file_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(content)
    with pytest.raises(WarehouseUnusableError, match=r"w\.duckdb cannot be read .* move it .* away"):
        opened(path)
    assert path.read_bytes() == content


def test_a_file_torn_in_the_middle_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    opened(path).close()
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 8192] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(WarehouseUnusableError, match="move it"):
        opened(path)


def test_a_file_open_elsewhere_says_so(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    import subprocess
    import sys

    held = subprocess.Popen(
        [sys.executable, "-c", f"import duckdb,sys; c = duckdb.connect({str(path)!r}); print('open', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert held.stdout is not None
        held.stdout.readline()
        with pytest.raises(WarehouseLockedError, match="open in another process"):
            opened(path)
    finally:
        held.communicate()


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in load()] == list(range(1, len(load()) + 1))


async def test_a_halted_start_says_why_on_the_health_door(running: Running) -> None:
    await running.stop()
    running.file.write_bytes(b"broken" * 5000)
    running.file.with_suffix(".duckdb.wal").unlink(missing_ok=True)
    from processors.runner import HaltedError

    with pytest.raises(HaltedError, match=r"agentops\.duckdb cannot be read"):
        await running.start()
    await until(lambda: running.processor.waiting_for() != {}, "not ready")
