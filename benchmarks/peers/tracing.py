"""Arize Phoenix and MLflow: the same events as OTLP spans through their front doors, counted when they are in the database."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from service.ports import free_port

_SENDER: Final = Path(__file__).with_name("otlp.py")
_LOOK_S: Final = 0.25
_UP_S: Final = 120.0


class PeerError(RuntimeError):
    """The peer did not come up or took nothing. The message says which and why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """How one peer is started and asked."""

    name: str
    command: Callable[[Path, int], tuple[str, ...]]
    """After the interpreter: of its directory and port."""
    environment: Callable[[Path, int], Mapping[str, str]]
    healthy: str
    """The path that answers 200 when it is up."""
    database: str
    """SQLite file in its directory."""
    headers: tuple[str, ...] = ()


PHOENIX: Final = Peer(
    "phoenix",
    lambda _, __: ("-m", "phoenix.server.main", "serve"),
    lambda directory, port: {
        "PHOENIX_WORKING_DIR": str(directory), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_TELEMETRY_ENABLED": "false", "DO_NOT_TRACK": "1",
    },
    "/healthz",
    "phoenix.db",
)  # fmt: skip
MLFLOW: Final = Peer(
    "mlflow",
    lambda directory, port: (
        "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{directory}/mlflow.db", "--artifacts-destination", str(directory / "artifacts"),
    ),
    lambda directory, _: {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "HOME": str(directory)},
    "/health",
    "mlflow.db",
    ("x-mlflow-experiment-id=0",),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """What a peer stored of what it was sent."""

    sent: int
    accepted: bool
    """Whether it had taken all of it before time was up."""
    accepted_s: float | None
    stored: int
    took_s: float
    """Until all were stored, or time was up."""
    stored_per_s: float


def count(database: Path) -> int:
    """How many spans are committed."""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
    except sqlite3.OperationalError:
        return 0
    try:
        found: int = connection.execute("SELECT count(*) FROM spans").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    else:
        return found
    finally:
        connection.close()


async def _up(peer: Peer, server: asyncio.subprocess.Process, port: int, log: Path) -> None:
    deadline = time.monotonic() + _UP_S
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
        while time.monotonic() < deadline and server.returncode is None:
            try:
                if (await http.get(f"http://127.0.0.1:{port}{peer.healthy}")).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
    tail = log.read_text(errors="replace").splitlines()[-3:]
    raise PeerError(f"{peer.name} did not come up within {_UP_S:g} s: {' / '.join(tail)[:300]}")


async def _end(process: asyncio.subprocess.Process, patience_s: float = 8) -> None:
    """Ends a process and all it has started: it leads a session of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            async with asyncio.timeout(patience_s):
                await process.wait()
        except TimeoutError:
            continue
    await process.wait()


async def _told(sender: asyncio.subprocess.Process) -> dict[str, object]:
    assert sender.stdout is not None
    line = await sender.stdout.readline()
    if not line:
        assert sender.stderr is not None
        raise PeerError(f"the sender ended: {(await sender.stderr.read()).decode('utf-8', 'replace')[-300:]}")
    found: dict[str, object] = json.loads(line)
    return found


async def measure(peer: Peer, python: Path, directory: Path, events: Path, spans: int, within_s: float) -> Stored:
    """Starts ``peer`` anew, sends the events in a file, and counts until all ``spans`` are stored or time is up."""
    directory.mkdir(parents=True)
    port, log = free_port(), directory / "server.log"
    given = {**os.environ, **peer.environment(directory, port)}
    with log.open("wb") as output:
        server = await asyncio.create_subprocess_exec(
            str(python),
            *peer.command(directory, port),
            cwd=directory,
            env=given,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    sender: asyncio.subprocess.Process | None = None
    try:
        await _up(peer, server, port, log)
        headers = [part for header in peer.headers for part in ("--header", header)]
        sender = await asyncio.create_subprocess_exec(
            str(python), str(_SENDER), str(events), f"http://127.0.0.1:{port}/v1/traces", *headers,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        async with asyncio.timeout(60):
            await _told(sender)
            began = float(str((await _told(sender))["at"]))
        accepting = asyncio.create_task(_told(sender))
        found, took = 0, 0.0
        while found < spans and took < within_s:
            await asyncio.sleep(_LOOK_S)
            found = await asyncio.to_thread(count, directory / peer.database)
            took = time.monotonic() - began
            if accepting.done() and accepting.exception() is None and accepting.result()["refused"]:
                raise PeerError(f"{peer.name} refused: {accepting.result()['refused']}"[:300])
        accepted = float(str(accepting.result()["at"])) - began if accepting.done() else None
        accepting.cancel()
        return Stored(spans, accepted is not None, accepted, found, took, found / took)
    finally:
        for process in (sender, server):
            if process is not None:
                await _end(process)
