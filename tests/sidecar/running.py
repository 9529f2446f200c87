"""A real sidecar as a child process, with an agent of the test's own."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
from nats.aio.client import Client

from streams.settings import NatsSettings
from tests.conftest import until

AGENT = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/exit/"):
            os._exit(int(self.path.rsplit("/")[-1]))
        told = dict(os.environ) if self.path == "/environment" else {"pid": os.getpid()}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

print("the agent begins", flush=True)
print("and complains", file=sys.stderr, flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"""

HTTP_PROBE = "http:/health:interval=0.1,timeout=0.3,failures=2"


class Sidecar:
    """Start it, ask it, kill it."""

    def __init__(self, directory: Path, nats: NatsSettings, http: aiohttp.ClientSession, agent_id: str = "a1") -> None:
        self.directory = directory
        self.agent_id = agent_id
        self.http = http
        self._script = directory / "agent.py"
        self._script.write_text(AGENT)
        self._environment = {**os.environ, "NATS_URL": nats.url, "NATS_RECONNECT_WAIT_S": "0.1", "AGENTOPS_LOG_FORMAT": "json"}
        if nats.user is not None and nats.password is not None:
            self._environment |= {"NATS_USER": nats.user, "NATS_PASSWORD": nats.password.get_secret_value()}
        self.process: asyncio.subprocess.Process | None = None
        self.run: dict[str, Any] = {}

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def option_list(self, options: Sequence[str]) -> list[str]:
        return ["--agent-id", self.agent_id, "--tenant", "acme", "--data", str(self.data), "--heartbeat", "0.5", *options]

    async def start(self, *options: str, command: Sequence[str] | None = None, **environment: str) -> None:
        """Returns when door and proxy listen. Without ``command`` the agent above runs."""
        run_file = self.data / "agents" / self.agent_id / "sidecar.json"
        run_file.unlink(missing_ok=True)
        log = self.directory / "sidecar.log"
        after = [] if "--url" in options else ["--", *(command or [sys.executable, str(self._script)])]
        with log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sidecar",
                *self.option_list(options),
                *after,
                stdout=output,
                stderr=output,
                env=self._environment | environment,
                start_new_session=True,
            )
        process = self.process

        def up() -> bool:
            assert process.returncode is None, log.read_text()
            return run_file.exists()

        await until(up, "the sidecar started")
        self.run = json.loads(run_file.read_bytes())

    @property
    def door(self) -> str:
        return f"http://127.0.0.1:{self.run['door_port']}"

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.run['proxy_port']}"

    async def get(self, path: str = "/health", *, timeout_s: float = 10) -> tuple[int, Any]:
        """An answer of the agent, through the proxy."""
        async with self.http.get(self.proxy + path, timeout=aiohttp.ClientTimeout(total=timeout_s)) as response:
            raw = await response.read()
            return response.status, orjson.loads(raw) if raw else None

    async def answers(self) -> bool:
        """Whether the agent answers through the proxy."""
        try:
            status, _ = await self.get()
        except (aiohttp.ClientError, TimeoutError):
            return False
        return status == 200

    async def post(self, *events: dict[str, Any]) -> int:
        """Offers events at the door; returns the status."""
        body = b"\n".join(map(orjson.dumps, events))
        headers = {"Content-Type": "application/x-ndjson"}
        async with self.http.post(f"{self.door}/v1/events", data=body, headers=headers) as response:
            await response.read()
            return response.status

    @property
    def agent(self) -> psutil.Process:
        return psutil.Process(self.run["agent_pid"])

    async def kill(self) -> None:
        """SIGKILL to the sidecar alone."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()


class Telemetry:
    """Everything TELEMETRY holds, in its order."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.events: list[dict[str, Any]] = []
        self.subjects: list[str] = []
        self._next = 1

    async def read(self) -> list[dict[str, Any]]:
        """Every event so far."""
        last = (await self._client.jsm().stream_info("TELEMETRY")).state.last_seq
        while self._next <= last:
            message = await self._client.jsm().get_msg("TELEMETRY", self._next)
            assert message.data is not None
            assert message.subject is not None
            found = [orjson.loads(line) for line in message.data.split(b"\n")]
            self.events += found
            self.subjects += [message.subject] * len(found)
            self._next += 1
        return self.events

    async def find(self, event_type: str, within_s: float = 10, **wanted: Any) -> dict[str, Any]:
        """The first event of a type whose ``section__field`` are as wanted."""
        found: list[dict[str, Any]] = []

        def fits(event: dict[str, Any]) -> bool:
            for path, value in wanted.items():
                section, _, name = path.partition("__")
                if (event.get(section) or {}).get(name) != value:
                    return False
            return bool(event["event_type"] == event_type)

        async def there() -> bool:
            found[:] = [event for event in await self.read() if fits(event)]
            return bool(found)

        await until(there, f"{event_type} with {wanted}", within_s)
        return found[0]
