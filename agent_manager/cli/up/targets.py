"""``targets.json``: where each agent answers now, for the driver of the demo."""

import json
from collections.abc import Callable
from pathlib import Path

from nats.aio.client import Client

from schemas.state import AgentState
from streams import topology
from streams.kv import TypedBucket


def write(path: Path, targets: dict[str, str]) -> None:
    """Replaces the file whole: its reader never sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(targets, indent=1, sort_keys=True) + "\n")
    fresh.replace(path)


async def keep(client: Client, path: Path, changed: Callable[[dict[str, str]], None]) -> None:
    """Writes the file at every change of an agent's address, for ever."""
    bucket = await TypedBucket.open(client, topology.AGENT_STATES, AgentState)
    targets: dict[str, str] = {}
    written: dict[str, str] | None = None
    async for entry in bucket.watch():
        agent = entry.key.partition(".")[2]
        if entry.value is None or entry.value.proxy_url is None:
            targets.pop(agent, None)
        else:
            targets[agent] = entry.value.proxy_url
        if targets != written:
            written = dict(targets)
            write(path, written)
            changed(written)
