"""``agentops up --demo`` as a user runs it: a process, its data directory, its command line."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from service.ports import free_port
from streams.settings import NatsSettings
from tests.conftest import until

ROOT = Path(__file__).resolve().parents[2]
AGENTOPS = str(Path(sys.executable).parent / "agentops")


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that would steer AgentOps."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "AGENTOPS_", "OPENAI_"))}


@dataclass(slots=True)
class Running:
    """A system under ``agentops up``."""

    data: Path
    options: tuple[str, ...] = ("--demo",)
    environment: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    up: dict[str, Any] = field(default_factory=dict)

    async def start(self, within_s: float = 30.0) -> None:
        """Returns once the system says where everything is."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "up.json").unlink(missing_ok=True)
        with (self.data / "up.out").open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                AGENTOPS, "up", *self.options, "--data", str(self.data), "--dashboard-port", str(free_port()),
                env=clean_environment() | self.environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

        def told() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, self.output()
            return (self.data / "up.json").exists()

        await until(told, "up.json is written", within_s)
        self.up = json.loads((self.data / "up.json").read_text())

    def output(self) -> str:
        """What ``up`` printed so far."""
        return (self.data / "up.out").read_text(errors="replace")

    def nats(self, user: str = "operator") -> NatsSettings:
        """How ``user`` reaches its NATS."""
        known = self.up["users"][user]
        return NatsSettings.model_validate({"url": self.up["nats_url"], "user": known["user"], "password": known["password"]})

    async def cli(self, *arguments: str, expect: int | None = 0) -> str:
        """What ``agentops …`` prints; fails unless it exits with ``expect``."""
        process = await asyncio.create_subprocess_exec(
            AGENTOPS, *arguments, env=clean_environment() | {"AGENTOPS_DATA": str(self.data)}, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert expect is None or process.returncode == expect, (
            f"agentops {' '.join(arguments)}: exit {process.returncode}\n{out.decode()}\n{err.decode()}"
        )
        return out.decode()

    async def agents(self) -> dict[str, dict[str, Any]]:
        """``agentops agents list --json`` by agent."""
        return {row["agent_id"]: row for row in json.loads(await self.cli("agents", "list", "--json"))}

    async def healthy(self, agent: str) -> bool:
        """Whether ``agent`` is HEALTHY and running."""
        row = (await self.agents()).get(agent, {})
        return bool(row.get("health") == "HEALTHY" and row.get("status") == "running")

    def family(self) -> list[psutil.Process]:
        """Every process that belongs to this system: the supervisor, what it started, and what names its data directory."""
        assert self.process is not None
        found = {}
        for process in psutil.process_iter():
            try:
                text = " ".join(process.cmdline()) + " ".join(
                    f"{k}={v}" for k, v in process.environ().items() if k == "AGENTOPS_DATA"
                )
            except psutil.Error:
                continue
            if str(self.data) in text and process.pid != os.getpid():
                found[process.pid] = process
        return list(found.values())

    async def interrupt(self, within_s: float = 10.0) -> float:
        """Ctrl-C; returns how long it took until nothing of the system was left."""
        assert self.process is not None
        family = self.family()
        began = asyncio.get_running_loop().time()
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(within_s + 5):
            await self.process.wait()
        took = asyncio.get_running_loop().time() - began
        left = [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert not left, [" ".join(process.cmdline()) for process in left]
        assert took <= within_s, f"took {took:.1f} s"
        return took

    async def stop(self) -> None:
        """Ends everything, whatever state it is in."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(15):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        for process in self.family():
            process.kill()
