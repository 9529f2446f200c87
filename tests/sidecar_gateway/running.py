"""A real gateway as a child process."""

import asyncio
import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import psutil

from schemas.keys import ApiKey, digest, record_key, spelled
from service.ports import free_port
from streams.kv import TypedBucket
from streams.settings import NatsSettings
from tests.conftest import until

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def event(**changes: Any) -> dict[str, Any]:
    return {
        "event_version": "v1", "event_id": str(uuid4()), "event_type": "run.started", "occurred_at": "2026-11-20T10:00:00Z",
        "tenant": {"tenant_id": "acme"}, "run": {"agent_id": "a", "run_id": "r"}, **changes,
    }  # fmt: skip


def lines(*events: dict[str, Any]) -> bytes:
    return b"\n".join(map(orjson.dumps, events))


async def put_key(bucket: TypedBucket[ApiKey], name: str = "k1", tenant: str = "acme", **changes: Any) -> str:
    """A key that gateways know from now on."""
    key = spelled(name, f"secret_of-{name}")
    record = ApiKey(
        key_id=name, tenant_id=tenant, name=name, digest=digest(key), last_four=key[-4:], created_at=datetime.now(UTC), created_by="test",
    ).model_copy(update=changes)  # fmt: skip
    await bucket.put(record_key(tenant, name), record)
    return key


class Gateway:
    """Start it, ask it, stop it."""

    def __init__(self, directory: Path, nats: NatsSettings, http: aiohttp.ClientSession) -> None:
        self.http = http
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "gateway.log"
        self._environment = {**os.environ, "NATS_URL": nats.url, "NATS_RECONNECT_WAIT_S": "0.1", "AGENTOPS_LOG_FORMAT": "json"}
        self._environment |= {"AGENTOPS_GATEWAY_OTLP_PORT": "0", "AGENTOPS_GATEWAY_OTLP_GRPC_PORT": "null"}
        if nats.user is not None and nats.password is not None:
            self._environment |= {"NATS_USER": nats.user, "NATS_PASSWORD": nats.password.get_secret_value()}
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *, ready: bool = True, **environment: str) -> None:
        """Returns when it listens, and with ``ready`` when it takes events."""
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sidecar.gateway", "--port", str(self.port),
                stdout=output, stderr=output, env=self._environment | environment, start_new_session=True,
            )  # fmt: skip
        process = self.process

        async def up() -> bool:
            assert process.returncode is None, self.log.read_text()
            return await self.answers("/readyz" if ready else "/healthz")

        await until(up, "the gateway is up", 20)

    async def answers(self, path: str) -> bool:
        """Whether it answers 200."""
        try:
            async with self.http.get(self.url + path) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def post(
        self, body: bytes | io.BytesIO, key: str | None = None, headers: dict[str, str] | None = None, path: str = "/v1/events"
    ) -> tuple[int, Any]:
        """Status and body of the answer."""
        sent = {**(JSON if headers is None else headers), **({} if key is None else {"Authorization": f"Bearer {key}"})}
        async with self.http.post(self.url + path, data=body, headers=sent) as response:
            return response.status, await response.json()

    async def metrics(self) -> str:
        async with self.http.get(f"{self.url}/metrics") as response:
            return await response.text()

    @property
    def rss_bytes(self) -> int:
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()
