"""``agentops up`` as a real process on a data directory of its own."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.calling import Said, agentops, environment
from tests.conftest import until


class Up:
    """A running ``agentops up``."""

    def __init__(self, data: Path, process: asyncio.subprocess.Process) -> None:
        self.data = data
        self.process = process
        self.said = bytearray()
        assert process.stdout is not None
        self._reading = asyncio.create_task(self._read(process.stdout))

    async def _read(self, output: asyncio.StreamReader) -> None:
        while piece := await output.read(4096):
            self.said += piece

    @classmethod
    async def begin(cls, data: Path, *options: str) -> "Up":
        import sys

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent_manager.cli", "up", "--data", str(data), *options, env=environment(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        return cls(data, process)

    def told(self) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        except FileNotFoundError:
            return {}
        return said

    async def published(self, within_s: float = 25) -> dict[str, Any]:
        def there() -> bool:
            assert self.process.returncode is None, self.said.decode()
            return bool(self.told())

        await until(there, f"up.json, after {self.said.decode()!r}", within_s)
        return self.told()

    def family(self) -> dict[int, str]:
        """Every living process that belongs to this data directory, by its environment or command line."""
        found = {}
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                text = " ".join(process.cmdline())
                if str(self.data) in text or process.environ().get("AGENTOPS_DATA") == str(self.data):
                    found[process.pid] = text
            except psutil.Error:
                continue
        return found

    async def interrupted(self, number: signal.Signals = signal.SIGINT) -> float:
        """How long it took until ``up`` was gone."""
        began = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(15):
            await self.process.wait()
        await self._reading
        return time.monotonic() - began

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self._reading.cancel()
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


Starter = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    began: list[Up] = []

    async def one(*options: str, data: Path | None = None) -> Up:
        up = await Up.begin(data or tmp_path / "data", *options)
        began.append(up)
        return up

    yield one
    for up in began:
        await up.end()


async def test_up_starts_restarts_and_stops_everything_and_the_next_goes_on(start: Starter, tmp_path: Path) -> None:
    """One long story, because a start costs seconds: start, a second one refused, kills, Ctrl-C, start again."""
    up = await start("--no-dashboard")
    told = await up.published()
    assert (tmp_path / "data" / "up.json").stat().st_mode & 0o777 == 0o600
    variables = {"AGENTOPS_DATA": str(up.data)}

    second, listed = await asyncio.gather(
        agentops("up", "--data", str(up.data), "--no-dashboard", variables={}), agentops("streams", "check", variables=variables)
    )
    assert f"in use by another `agentops up` (process {up.process.pid})" in second.failed()
    assert listed.code == 0, listed.err

    nats, manager = told["processes"]["nats-server"], told["processes"]["agent-manager"]
    os.kill(nats, signal.SIGKILL)
    os.kill(manager, signal.SIGKILL)

    def renewed() -> bool:
        now = up.told().get("processes", {})
        return bool(now.get("nats-server", nats) != nats and now.get("agent-manager", manager) != manager)

    await until(renewed, "a new nats-server and a new manager", 15)
    assert up.told()["nats_url"] == told["nats_url"]
    assert (await agentops("streams", "check", variables=variables)).code == 0
    assert "nats-server was killed by SIGKILL" in up.said.decode()

    family = up.family()
    assert len(family) >= 5, family
    took = await up.interrupted()
    assert took < 10
    assert up.process.returncode == 0, up.said.decode()
    assert up.family() == {}
    assert up.told() == {}
    assert "data is kept" in up.said.decode()

    again = await start("--no-dashboard")
    assert (await again.published())["nats_url"] == told["nats_url"], "the port of last time"
    assert (await agentops("streams", "check", variables=variables)).code == 0
    again.process.kill()
    await again.process.wait()
    await until(lambda: not again.family(), "nothing outlives a killed `up`", 10)


async def failing(data: Path, *options: str) -> Said:
    said = await agentops("up", "--data", str(data), *options, variables={})
    assert said.code == 1, said
    return said


async def test_a_taken_port_is_named_with_the_option_that_chooses_another(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        page, nats = await asyncio.gather(
            failing(tmp_path / "a", "--dashboard-port", port), failing(tmp_path / "b", "--nats-port", port, "--no-dashboard")
        )
    assert f"port {port} for the dashboard is taken" in page.failed()
    assert "--dashboard-port" in page.err
    assert "--nats-port" in nats.failed()


async def test_a_directory_that_cannot_be_used_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    damaged = tmp_path / "damaged"
    (damaged / "nats").mkdir(parents=True)
    (damaged / "nats" / "credentials.json").write_text('{"port": 1')
    # Root may write everywhere but into the kernel's own tree.
    locked = Path("/sys/agentops") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid() != 0:
        locked.mkdir(mode=0o500)
    a_file, a_damaged, a_locked = await asyncio.gather(
        failing(file), failing(damaged, "--no-dashboard"), failing(locked / "data", "--no-dashboard")
    )
    assert "is a file" in a_file.failed()
    assert "credentials.json is damaged" in a_damaged.failed()
    for said in (a_file, a_damaged, a_locked):
        assert "--data" in said.failed()
        assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "part"), [("warehouse/agentops.duckdb", "processors-aggregate"), ("manager/journal.sqlite", "agent-manager")]
)
async def test_what_cannot_be_read_ends_the_start_with_what_to_do(start: Starter, tmp_path: Path, file: str, part: str) -> None:
    """No system that runs but for the part that matters: nothing is left running, and the file is untouched."""
    broken = tmp_path / "data" / file
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no database at all " * 500)
    up = await start("--no-dashboard", "--no-gateway")

    def over() -> bool:
        return up.process.returncode is not None

    await until(over, "up gives up", 90)
    await until(lambda: str(broken) in up.said.decode(), "the file is named", 10)
    last = up.said.decode().strip().splitlines()[-1]
    assert up.process.returncode == 1
    assert last.startswith(f"agentops: {part}: "), up.said.decode()
    assert "ove it" in last, up.said.decode()
    assert up.family() == {}
    assert broken.read_bytes().startswith(b"no database")


async def test_ctrl_c_during_the_start_stops_what_was_started(start: Starter) -> None:
    up = await start("--no-dashboard")
    await until(lambda: "nats-server: ready" in up.said.decode(), "the server runs", 15)
    assert await up.interrupted(signal.SIGTERM) < 10
    assert up.family() == {}
    assert b"\x1b" not in up.said, "plain text where there is no terminal"


@pytest.mark.system
async def test_the_demo_runs_and_nothing_of_it_is_left_even_with_a_hung_agent(start: Starter) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    up = await start("--demo", "--dashboard-port", port)
    await up.published(40)
    variables = {"AGENTOPS_DATA": str(up.data)}

    async def healthy() -> bool:
        rows = (await agentops("agents", "list", "--json", variables=variables)).json()
        return [row["health"] for row in rows] == ["HEALTHY", "HEALTHY"] and all(row["latency_ms"] for row in rows)

    await until(healthy, "both agents are HEALTHY and have answered somebody", 40)
    targets = json.loads((up.data / "targets.json").read_text())
    assert set(targets) == {"chat-service", "summary-service"}
    rows = (await agentops("agents", "list", "--json", variables=variables)).json()
    os.kill(rows[0]["pid"], signal.SIGSTOP)
    took = await up.interrupted()
    assert took < 10, up.said.decode()
    assert up.family() == {}


@pytest.mark.system
async def test_a_killed_demo_leaves_no_orphan(start: Starter) -> None:
    up = await start("--demo", "--no-dashboard")
    await up.published(40)
    variables = {"AGENTOPS_DATA": str(up.data)}

    async def running() -> bool:
        rows = (await agentops("agents", "list", "--json", variables=variables)).json()
        return len(rows) == 2 and all(row["sidecar_pid"] for row in rows)

    await until(running, "both agents run", 40)
    up.process.kill()
    await up.process.wait()
    await until(lambda: not up.family(), "everything ended with it", 15)
