"""``kill -9`` under load: the next instance goes on, every event is a row, none twice."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from processors.aggregate import rollups
from processors.aggregate.warehouse import Warehouse
from processors.runner import HaltedError
from streams import topology
from streams.apply import apply
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import Wire, accepted, ask, charge, kill


@contextmanager
def child(server: EmbeddedServer, data: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m processors aggregate`` as an operator starts it."""
    settings = server.settings()
    assert settings.password is not None
    environment = os.environ | {
        "NATS_URL": settings.url, "NATS_USER": settings.user or "", "NATS_PASSWORD": settings.password.get_secret_value(),
        "AGENTOPS_AGGREGATE_BATCH_EVENTS": "300", "AGENTOPS_AGGREGATE_WAL": "1MB", "AGENTOPS_AGGREGATE_FOLD_FACTS": "500",
    }  # fmt: skip
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "processors", "aggregate", "--data", str(data), "--health-port", "0"],
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(10)


async def applied(client: Client) -> int:
    """Offset of EVENTS as the running child tells it; 0 while it does not answer."""
    try:
        rows = (await ask(client, "status")).rows
    except (nats.errors.Error, TimeoutError):
        return 0
    return next((int(row["applied_sequence"]) for row in rows if row["stream"] == "EVENTS"), 0)


async def test_killed_again_and_again_under_load_every_event_is_a_row_once(
    server: EmbeddedServer, wire: Wire, client: Client, tmp_path: Path
) -> None:
    data, log = tmp_path / "data", tmp_path / "child.log"
    sent = 0

    async def load() -> None:
        nonlocal sent
        for _ in range(60):
            calls = [accepted("model_call.completed", run={"agent_id": f"a{n % 5}", "run_id": f"r{n}"}) for n in range(100)]
            await wire.events(*calls, per_message=25)
            await wire.ledger(*(charge(call) for call in calls))
            sent += len(calls)
            await asyncio.sleep(0.03)

    loading = asyncio.create_task(load())
    for number in range(3):
        with child(server, data, log) as process:
            before = await applied(client)

            async def further(before: int = before) -> bool:
                return await applied(client) > before + 20

            await until(further, f"instance {number} has stored something", 20)
            kill(process.pid)
            assert process.wait(10) == -9
    await loading
    with child(server, data, log) as process:
        last = (await client.jsm().stream_info(topology.EVENTS)).state.last_seq

        async def all_applied() -> bool:
            return await applied(client) == last

        await until(all_applied, "everything is applied", 20)
        process.terminate()
        assert process.wait(10) == 0
    warehouse = Warehouse.open(data / "warehouse" / "agentops.duckdb", datetime.now(UTC))
    with warehouse.cursor() as cursor:
        assert cursor.execute("SELECT count(*), count(DISTINCT event_id) FROM model_calls").fetchone() == (sent, sent)
        assert cursor.execute("SELECT count(*), count(DISTINCT entry_id) FROM ledger").fetchone() == (sent, sent)
        assert cursor.execute("SELECT sum(events) FROM applied_messages WHERE subject LIKE 'events.%'").fetchone() == (sent,)
        summed = f"SELECT sum(events) FROM ({rollups.current('hour')}) WHERE kind = 'model_call'"
        assert cursor.execute(summed, rollups.positions(cursor)).fetchone() == (sent,)
    warehouse.close()


async def test_a_wiped_stream_is_refused_instead_of_ignored(running: Running, wire: Wire, client: Client) -> None:
    await wire.events(*(accepted("run.started") for _ in range(5)))
    await running.caught_up()
    await running.stop()
    await client.jsm().delete_stream(topology.EVENTS)
    await apply(client)
    with pytest.raises(HaltedError, match="the stream was wiped"):
        await running.start()
    assert "move the warehouse file away" in running.processor.waiting_for()["streams"]
