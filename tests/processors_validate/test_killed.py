"""The real processes, killed without warning: no event lost, none twice, each billable one billed once."""

import asyncio
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import orjson
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from streams.embedded import EmbeddedServer
from streams.publish import NotStoredError, publish
from tests.conftest import until
from tests.processors_validate.running import accepted, adds_up, drained, event, ids, ledger, records, subject_of


async def child(server: EmbeddedServer, data: Path, log: Path, *names: str) -> asyncio.subprocess.Process:
    """``python -m processors NAME… --data DIR``, its log appended to ``log``."""
    nats = server.settings()
    assert nats.password is not None
    environment = os.environ | {
        "NATS_URL": nats.url, "NATS_USER": nats.user or "", "NATS_PASSWORD": nats.password.get_secret_value(),
        "AGENTOPS_LOG_FORMAT": "json",
    }  # fmt: skip
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "processors", *names, "--data", str(data), env=environment, stdout=output, stderr=output
        )


async def newest_record(client: Client) -> int:
    """Sequence of validate's newest coverage record."""
    try:
        return (await client.jetstream().get_last_msg("EVENTS", "covered.validate.0", direct=True)).seq or 0
    except NotFoundError:
        return 0


def events() -> list[dict[str, object]]:
    chance, made = random.Random(7), []
    for number in range(2500):
        kind = chance.choice(["run.started", "model_call.completed", "model_call.completed", "model_call.failed"])
        one = event(kind, agent=f"a{number % 20}", tenant=("acme", "globex")[number % 2])
        if kind == "model_call.failed" and number % 3:
            del one["resource_usage"]
        made.append(one)
    return made


async def test_kill_nine_of_validate_and_cost_and_of_nats_under_load_loses_and_doubles_nothing(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made, log = events(), tmp_path / "processors.log"

    async def produce() -> None:
        for one in made:
            while True:
                try:
                    await publish(client, subject_of(one), orjson.dumps(one), timeout_s=1.0)
                    break
                except NotStoredError:
                    # May be stored all the same: validate removes the repeat.
                    await asyncio.sleep(0.05)

    producing = asyncio.create_task(produce())
    process = await child(server, tmp_path, log, "validate", "cost")
    for kill in range(3):
        before = await newest_record(client)

        async def working(before: int = before) -> bool:
            return await newest_record(client) > before

        await until(working, f"working again after {kill} kills", 45)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        if kill == 1:
            await server.kill()
            await server.start()
        process = await child(server, tmp_path, log, "validate", "cost")
    await producing
    await drained(client, 60)

    async def billed() -> bool:
        last = (await client.jetstream().get_last_msg("EVENTS", "events.*.model_call")).seq or 0
        covered = await records(client, "cost")
        return bool(covered) and covered[-1].last_sequence >= last

    await until(billed, "all billed", 45)
    began = time.monotonic()
    process.terminate()
    await process.wait()
    assert time.monotonic() - began < 5
    assert process.returncode == 0
    assert Counter(ids(await accepted(client))) == Counter(str(one["event_id"]) for one in made)
    billable = [str(one["event_id"]) for one in made if "resource_usage" in one]
    assert Counter(entry.event_id for entry in await ledger(client)) == Counter(billable)
    adds_up(await records(client))
    covered = await records(client, "cost")
    assert [record.first_sequence for record in covered[1:]] == [record.last_sequence + 1 for record in covered[:-1]]
    assert sum(record.valid for record in covered) == len(billable)
    assert sum(record.skipped for record in covered) == sum(
        str(one["event_type"]).startswith("model_call") for one in made
    ) - len(billable)


async def test_a_process_tells_where_its_health_door_is_and_what_it_waits_for(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    log = tmp_path / "processors.log"
    process = await child(server, tmp_path, log, "validate")
    pattern = re.compile(r'"health_url": "([^"]+)"')
    await until(lambda: log.exists() and pattern.search(log.read_text()) is not None, "the door's address is logged")
    found = pattern.search(log.read_text())
    assert found is not None
    async with httpx.AsyncClient(trust_env=False) as http:

        async def ready() -> bool:
            return (await http.get(f"{found[1]}/readyz")).status_code == 200

        await until(ready, "ready")
        await server.kill()

        async def says_why() -> bool:
            answer = await http.get(f"{found[1]}/readyz")
            return answer.status_code == 503 and answer.json()["waiting_for"] == {"validate.nats": "not connected"}

        await until(says_why, "not ready without NATS")
        assert "agentops_events_received_total" in (await http.get(f"{found[1]}/metrics")).text
    process.terminate()
    async with asyncio.timeout(6):
        assert await process.wait() == 0


async def test_without_nats_a_process_says_what_is_wrong_and_ends(tmp_path: Path) -> None:
    environment = os.environ | {
        "NATS_URL": "nats://127.0.0.1:1",
        "AGENTOPS_NATS_PATIENCE_S": "0.5",
        "AGENTOPS_DATA": str(tmp_path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "processors", "validate", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"cannot connect to NATS at nats://127.0.0.1:1" in err


async def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "processors", "coast", stderr=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert b"no such processor: coast (there are validate, cost" in err
