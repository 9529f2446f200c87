"""``events tail``: accepted events as they arrive, none left out across a reconnect."""

from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.positions import last_sequence
from streams import subjects, topology
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source

_SUMMARY = (
    ("model_call", "model"), ("tool_call", "name"), ("step", "name"), ("error", "type"), ("health", "status"), ("log", "message"),
    ("policy", "decision"), ("fault", "kind"), ("alert", "type"),
)  # fmt: skip


def summary(event: dict[str, Any]) -> str:
    """What is worth reading of one event, on one line."""
    said = [
        str(event[section][name])
        for section, name in _SUMMARY
        if isinstance(event.get(section), dict) and event[section].get(name)
    ]
    usage = event.get("resource_usage")
    if isinstance(usage, dict):
        said.append(f"{usage.get('input_tokens', 0):,} in, {usage.get('output_tokens', 0):,} out")
    for section in ("model_call", "tool_call", "step"):
        latency = (event.get(section) or {}).get("latency_ms")
        if latency is not None:
            said.append(readable.milliseconds(latency))
    run_id = (event.get("run") or {}).get("run_id")
    if run_id:
        said.append(f"run {run_id}")
    return " · ".join(said)


def line(event: dict[str, Any]) -> str:
    """One event for a terminal."""
    at = readable.instant(event.get("occurred_at"))
    clock = at.astimezone().strftime("%H:%M:%S.%f")[:-3] if isinstance(at, datetime) else "?"
    agent = (event.get("run") or {}).get("agent_id", "?")
    tenant = (event.get("tenant") or {}).get("tenant_id", "?")
    return f"{clock}  {tenant}/{agent}  {event.get('event_type', '?')}  {summary(event)}".rstrip()


def tail(data: Path | None, tenant: str | None, kind: str | None, agent: str | None, most: int | None, *, as_json: bool) -> None:
    """Prints events from now on, until Ctrl-C or ``most`` were printed."""

    async def work(client: Client, _: Place) -> None:
        position = await last_sequence(client, topology.EVENTS)
        reader = OrderedReader(client, Source(topology.EVENTS, (subjects.events_matching(tenant, kind),)), position)
        left = most
        output.note("waiting for events; Ctrl-C ends")
        try:
            while True:
                for message in await reader.fetch(200, 60.0):
                    for raw in lines(message.data):
                        event = orjson.loads(raw)
                        if agent is not None and (event.get("run") or {}).get("agent_id") != agent:
                            continue
                        if as_json:
                            output.write_json_line(event)
                        else:
                            output.write_line(line(event))
                        if left is not None:
                            left -= 1
                            if left <= 0:
                                return
        finally:
            await reader.close()

    run(data, work, on_disconnect=lambda: output.note("connection lost, trying again"))
