"""How DuckDB plans what is asked, where its own choice cannot be trusted."""

from datetime import UTC, datetime
from pathlib import Path

from processors.aggregate.warehouse import Warehouse

_JOIN = """
    EXPLAIN SELECT records.n, sum(carried.n) FROM (SELECT * FROM carried WHERE n > (SELECT coalesce(max(n), 0) FROM gone)) carried
    ASOF JOIN records ON carried.n <= records.n GROUP BY records.n
"""


def test_the_audit_never_compares_each_message_with_every_record(tmp_path: Path) -> None:
    """An ASOF join whose left side looks small was planned so: an hour of a million events could not be audited in time."""
    warehouse = Warehouse.open(tmp_path / "w.duckdb", datetime.now(UTC))
    with warehouse.cursor() as cursor:
        cursor.execute("CREATE TABLE gone AS SELECT 1 AS n LIMIT 0")
        for name in ("carried", "records"):
            cursor.execute(f"CREATE TABLE {name} AS SELECT range AS n FROM range(20)")
        plan = cursor.execute(_JOIN).fetchall()[0][1]
    warehouse.close()
    assert "ASOF_JOIN" in plan
