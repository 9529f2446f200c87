"""Looking at every part. Each look has a deadline and fails alone."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import ValidationError

from agent_manager.cli import running
from agent_manager.cli.alerts import reading as alert_reading
from agent_manager.cli.alerts import states
from agent_manager.cli.connection import Place
from agent_manager.cli.doctor import findings
from agent_manager.cli.doctor.findings import Finding
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet import reading
from agent_manager.cli.fleet.rows import agent_rows
from agent_manager.cli.query.asking import NoWarehouseError, ask
from schemas.coverage import Coverage
from streams import progress, subjects, topology
from streams.apply import check

_DEADLINE_S: Final = 10.0
_STREAM_INFO: Final = "$JS.API.STREAM.INFO."

_AGGREGATE: Final = "processors-aggregate"

_READERS: Final = {
    topology.EVENTS: ("its copy of events", subjects.ALL_EVENTS),
    topology.LEDGER: ("its copy of the ledger", subjects.ALL_LEDGER),
    topology.ALERTS: ("its copy of alerts", subjects.ALL_ALERTS),
}


async def _info(client: Client, stream: str, **asked: Any) -> dict[str, Any]:
    """What the server says about a stream, whole; raises NotFoundError, TimeoutError."""
    message = await client.request(_STREAM_INFO + stream, json.dumps(asked).encode() if asked else b"", timeout=3)
    said: dict[str, Any] = json.loads(message.data)
    if "error" in said:
        raise nats.js.errors.NotFoundError(description=said["error"].get("description"))
    return said


async def _behind(client: Client, stream: str, only: str, after: int) -> tuple[int, float | None]:
    """How many messages of ``only`` stand in ``stream`` after sequence ``after``, and the age in seconds of the first."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1, ack_policy=AckPolicy.NONE, filter_subject=only,
        inactive_threshold=5.0, mem_storage=True, num_replicas=1,
    )  # fmt: skip
    consumer = await client.jsm().add_consumer(stream, config)
    waiting = consumer.num_pending or 0
    if consumer.name is not None:
        await client.jsm().delete_consumer(stream, consumer.name)
    return waiting, await _age_s(client, stream, only, after + 1) if waiting else None


async def _age_s(client: Client, stream: str, only: str, sequence: int) -> float | None:
    """How long ago the first message of ``only`` from ``sequence`` on was stored; None when it is gone."""
    try:
        message = await client.jsm().get_msg(stream, sequence, only, next=True)
    except nats.js.errors.NotFoundError:
        return None
    return (datetime.now(UTC) - message.time).total_seconds() if message.time is not None else None


async def server(client: Client, place: Place) -> list[Finding]:
    """The server and its clock."""
    began = time.perf_counter()
    await client.flush(timeout=3)
    rtt_ms = (time.perf_counter() - began) * 1000
    # The one place where the client keeps what the server said of itself.
    said = client._server_info  # noqa: SLF001
    version, jetstream = str(said.get("version", "0")), bool(said.get("jetstream"))
    return [findings.server(place.settings.shown_url(), version, jetstream, rtt_ms)]


async def clock(client: Client, _: Place) -> list[Finding]:
    """The server's clock against ours, from the middle of one request."""
    before = datetime.now(UTC)
    said = (await _info(client, topology.EVENTS)).get("ts")
    after = datetime.now(UTC)
    if not isinstance(said, str):
        return []
    # Nanoseconds are more digits than a datetime holds.
    there = datetime.fromisoformat(said[:19] + "+00:00")
    fraction = float("0" + said[19:].rstrip("Z")) if said[19:20] == "." else 0.0
    ours = before + (after - before) / 2
    return [findings.clock((ours - there).total_seconds() - fraction)]


async def streams(client: Client, _: Place) -> list[Finding]:
    """Topology and fullness."""
    found = [findings.drifts([f"{drift.kind} {drift.name} {drift.problem}" for drift in await check(client)])]
    for stream in topology.streams():
        try:
            info = await client.jsm().stream_info(stream.name or "")
        except nats.js.errors.NotFoundError:
            continue
        limit = info.config.max_bytes or 0
        if limit > 0 and (full := findings.fullness(stream.name or "", info.state.bytes, limit)) is not None:
            found.append(full)
    return found


async def queues(client: Client, _: Place) -> list[Finding]:
    """What waits to be validated or carried out, and since when."""
    waits = await progress.waiting(client)
    age = (datetime.now(UTC) - waits.oldest).total_seconds() if waits.oldest is not None else None
    state = (await client.jsm().stream_info(topology.COMMANDS)).state
    commands = await _age_s(client, topology.COMMANDS, subjects.ALL_COMMANDS, state.first_seq) if state.messages else None
    return [
        findings.lag(
            "validate", "telemetry not yet validated", waits.messages, age, "Is `python -m processors validate` running and ready?"
        ),
        findings.lag(
            "agent-manager", "commands not yet carried out", state.messages, commands,
            "Is `python -m agent_manager` running and ready?",
        ),
    ]  # fmt: skip


async def pricing(client: Client, _: Place) -> list[Finding]:
    """How far cost has covered EVENTS."""
    try:
        message = await client.jsm().get_last_msg(topology.LEDGER, subjects.covered("cost"))
        covered = Coverage.model_validate_json(message.data or b"").last_sequence
    except (nats.js.errors.NotFoundError, ValidationError):
        covered = 0
    behind, waiting = await _behind(client, topology.EVENTS, subjects.events_of("model_call"), covered)
    return [
        findings.lag("cost", "model calls not yet priced", behind, waiting, "Is `python -m processors cost` running and ready?")
    ]


async def aggregate(place: Place) -> str:
    """How the warehouse's process is, in words; what to look for where `up` did not start it."""
    endpoints = place.endpoints
    if endpoints is None or _AGGREGATE not in endpoints.health:
        return "Is `python -m processors aggregate` running? It may be starting (reading its log) or overloaded"
    pid, log = endpoints.processes.get(_AGGREGATE), Path(endpoints.data) / "logs" / f"{_AGGREGATE}.log"
    async with httpx.AsyncClient(timeout=3.0, trust_env=False) as http:
        waiting = await _waiting_for(http, endpoints.health[_AGGREGATE])
    state = findings.door(_AGGREGATE, pid is not None and running.alive(pid), waiting, str(log))
    return f"{state.part}: {state.message}. It may be starting (reading its log) or overloaded: read {log}"


async def warehouse(client: Client, place: Place) -> list[Finding]:
    """Whether it answers, and how far it has applied each stream."""
    try:
        page = await ask(client, "status", {}, timeout_s=5)
    except NoWarehouseError as error:
        return [findings.warehouse(error.problem, await aggregate(place), None)]
    except CommandFailedError as error:
        return [findings.warehouse(error.problem, error.advice or "See the log of processors-aggregate", None)]
    found = [findings.warehouse(None, "", page.elapsed_ms)]
    for row in page.rows:
        stream, applied = row.get("stream"), row.get("applied_sequence")
        if stream in _READERS and isinstance(applied, int):
            what, only = _READERS[stream]
            behind, waiting = await _behind(client, stream, only, applied)
            found.append(findings.lag("warehouse", what, behind, waiting, "It catches up by itself, or its log says why not"))
    return found


async def doors(_: Client, place: Place) -> list[Finding]:
    """The health doors `up` wrote down."""
    if place.endpoints is None:
        return []
    found = []
    async with httpx.AsyncClient(timeout=3.0, trust_env=False) as http:
        for service, url in place.endpoints.health.items():
            pid = place.endpoints.processes.get(service)
            log = str(Path(place.endpoints.data) / "logs" / f"{service}.log")
            found.append(findings.door(service, pid is not None and running.alive(pid), await _waiting_for(http, url), log))
    return found


async def _waiting_for(http: httpx.AsyncClient, url: str) -> dict[str, str] | None:
    try:
        response = await http.get(f"{url}/readyz")
        said = response.json()
    except (httpx.HTTPError, ValueError):
        return None
    waiting = said.get("waiting_for") if isinstance(said, dict) else None
    if isinstance(waiting, dict) and waiting:
        return {str(part): str(why) for part, why in waiting.items()}
    return {} if response.status_code == httpx.codes.OK else {"readyz": f"answers {response.status_code}"}


async def agents(client: Client, _: Place) -> list[Finding]:
    """Every agent."""
    now = datetime.now(UTC)
    return [findings.agent(row, now) for row in agent_rows(await reading.fleet(client), now)]


async def alerts(client: Client, _: Place) -> list[Finding]:
    """Alerts nobody has acknowledged."""
    latest = states.latest(await alert_reading.changes(client))
    return [findings.alerts(sum(change.state == "firing" for change in latest))]


async def dead_letters(client: Client, _: Place) -> list[Finding]:
    """Refused events that are still kept."""
    said = await _info(client, topology.EVENTS, subjects_filter=subjects.ALL_DEAD)
    return [findings.dead_letters(sum((said["state"].get("subjects") or {}).values()))]


async def disk(_: Client, place: Place) -> list[Finding]:
    """Room for data, where the data is on this machine."""
    directory = Path(place.endpoints.data) if place.endpoints is not None else place.data
    return [findings.disk(str(directory), shutil.disk_usage(directory).free)] if directory.is_dir() else []


Look = Callable[[Client, Place], Awaitable[list[Finding]]]
LOOKS: Final[tuple[tuple[str, Look], ...]] = (
    ("nats", server), ("clock", clock), ("streams", streams), ("services", doors), ("queues", queues), ("cost", pricing),
    ("warehouse", warehouse), ("agents", agents), ("alerts", alerts), ("dead letters", dead_letters), ("disk", disk),
)  # fmt: skip


async def everything(client: Client, place: Place) -> AsyncIterator[Finding]:
    """Every finding, as it comes."""
    for part, look in LOOKS:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                found = await look(client, place)
        except nats.js.errors.NotFoundError as error:
            found = [
                Finding(
                    part, "problem", f"cannot be looked at: {error.description or 'not found'}", "Run `agentops streams apply`"
                )
            ]
        except CommandFailedError as error:
            found = [Finding(part, "problem", error.problem, error.advice)]
        except (nats.errors.Error, TimeoutError, OSError) as error:
            found = [
                Finding(part, "problem", f"cannot be looked at ({type(error).__name__})", "Is the NATS server well? See its log")
            ]
        for finding in found:
            yield finding
