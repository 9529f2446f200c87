"""A real API as a child process, and who may ask it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from schemas.keys import ApiKey, KeyRole
from service.ports import free_port
from streams.kv import TypedBucket
from streams.settings import NatsSettings
from tests.conftest import until
from tests.sidecar_gateway.running import put_key

ROLES: tuple[KeyRole, ...] = ("viewer", "operator", "admin")


class Api:
    """Start it, ask it, stop it."""

    def __init__(self, directory: Path, nats: NatsSettings, keys: TypedBucket[ApiKey]) -> None:
        self.port = free_port()
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.log = directory / "api.log"
        self.keys = keys
        self.as_: dict[str, dict[str, str]] = {}
        """Headers by name of the caller."""
        password = nats.password.get_secret_value() if nats.password else ""
        self._environment = {
            **os.environ, "NATS_URL": nats.url, "NATS_USER": nats.user or "", "NATS_PASSWORD": password, "NATS_RECONNECT_WAIT_S": "0.1",
            "AGENTOPS_LOG_FORMAT": "json",
        }  # fmt: skip
        self.process: asyncio.subprocess.Process | None = None

    async def caller(self, name: str, role: KeyRole, tenant: str = "acme", **changes: Any) -> None:
        """Makes a key for ``name``."""
        key = await put_key(self.keys, name, tenant, role=role, **changes)
        self.as_[name] = {"Authorization": f"Bearer {key}"}

    async def start(self, **environment: str) -> None:
        """Returns when it can answer."""
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent_manager.api", "--port", str(self.port),
                stdout=output, stderr=output, env=self._environment | environment, start_new_session=True,
            )  # fmt: skip
        process = self.process

        async def up() -> bool:
            assert process.returncode is None, self.log.read_text()
            try:
                return (await self.http.get("/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        await until(up, "the API is up", 20)

    async def ask(self, method: str, path: str, who: str | None = "viewer", **more: Any) -> httpx.Response:
        """The answer."""
        headers = {**(self.as_[who] if who else {}), **more.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **more)

    async def get(self, path: str, who: str | None = "viewer", **params: Any) -> Any:
        """The body of a good answer."""
        answer = await self.ask("GET", path, who, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def stop(self) -> None:
        """SIGTERM; it ends well."""
        await self.http.aclose()
        if self.process is not None:
            if self.process.returncode is None:
                self.process.terminate()
            assert await asyncio.wait_for(self.process.wait(), 15) == 0, self.log.read_text()


def is_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem in ``answer``."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert (told["type"], told["status"]) == (f"/problems/{kind}", status)
    assert told["detail"]
    return told
