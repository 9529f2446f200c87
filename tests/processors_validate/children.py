"""Real processes of processors, each with a health door, and what became of their partitions."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
from nats.aio.client import Client

from schemas.coverage import Coverage
from service.ports import free_port
from streams.embedded import EmbeddedServer
from streams.publish import NotStoredError, publish
from tests.conftest import until
from tests.processors_validate.running import messages, subject_of


@dataclass(slots=True)
class Instance:
    """One ``python -m processors NAME``."""

    process: asyncio.subprocess.Process
    url: str
    pid: int = field(init=False)

    def __post_init__(self) -> None:
        self.pid = self.process.pid

    async def standing(self) -> dict[str, str]:
        """How it says its partitions stand; empty while it is not ready."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=1.0) as http:
                answer = await http.get(f"{self.url}/readyz")
        except httpx.HTTPError:
            return {}
        told = answer.json()
        return dict(told.get("standing", {})) if answer.status_code == httpx.codes.OK else {}

    async def active(self) -> set[str]:
        """The partitions it works on."""
        return {part.rsplit(" ", 1)[-1] for part, how in (await self.standing()).items() if how == "active"}

    def stands_by(self) -> Callable[[], Awaitable[bool]]:
        """Whether it is ready, and at work on nothing."""

        async def held() -> bool:
            standing = await self.standing()
            return bool(standing) and all(how.startswith("standby: ") for how in standing.values())

        return held

    def works_on(self, *partitions: str) -> Callable[[], Awaitable[bool]]:
        """Whether it works on these and no others."""

        async def held() -> bool:
            return await self.active() == set(partitions)

        return held


@asynccontextmanager
async def instances(
    server: EmbeddedServer, data: Path, number: int, *names: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[list[Instance]]:
    """So many processes, each with a data directory of its own; killed in the end."""
    nats = server.settings()
    assert nats.password is not None
    made = []
    try:
        for place in range(number):
            port = free_port()
            environment = os.environ | {
                "NATS_URL": nats.url, "NATS_USER": nats.user or "", "NATS_PASSWORD": nats.password.get_secret_value(),
                "AGENTOPS_LOG_FORMAT": "json", "AGENTOPS_HEALTH_PORT": str(port), **(settings or {}),
            }  # fmt: skip
            with (data / f"{place}.log").open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "processors", *names, "--data", str(data / str(place)),
                    env=environment, stdout=output, stderr=output,
                )  # fmt: skip
            made.append(Instance(process, f"http://127.0.0.1:{port}"))
        yield made
    finally:
        for one in made:
            if one.process.returncode is None:
                one.process.kill()
                await one.process.wait()


async def publish_steadily(client: Client, events: list[dict[str, object]], pause_s: float) -> None:
    """Publishes one event after another, each until it is acknowledged."""
    for one in events:
        while True:
            try:
                await publish(client, subject_of(one), orjson.dumps(one), timeout_s=1.0)
                break
            except NotStoredError:
                # May be stored all the same: validate removes the repeat.
                await asyncio.sleep(0.05)
        await asyncio.sleep(pause_s)


async def commits(client: Client, processor: str = "validate", partition: int = 0) -> list[tuple[Coverage, int]]:
    """Every coverage record of a partition, with the nanosecond it was stored at."""
    stream = "EVENTS" if processor == "validate" else "LEDGER"
    found = await messages(client, stream, f"covered.{processor}.{partition}")
    return [(Coverage.model_validate_json(m.data), m.stored_ns) for m in found]


async def by_pid(client: Client, pid: int, processor: str = "validate", partition: int = 0) -> list[tuple[Coverage, int]]:
    """The records that one process has stored."""
    return [one for one in await commits(client, processor, partition) if one[0].instance.endswith(f"-{pid}")]


async def until_committed(client: Client, pid: int, what: str, within_s: float = 15.0, processor: str = "validate") -> None:
    """Waits for the first record of a process."""

    async def there() -> bool:
        return bool(await by_pid(client, pid, processor))

    await until(there, what, within_s)
