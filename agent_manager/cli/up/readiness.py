"""Waiting until every part does its work, and what those that do not are waiting for."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from agent_manager.cli.up.plan import Alive, Answering, Child, Listening
from agent_manager.cli.up.supervision import Supervised

_LOOK_S = 0.15


@dataclass(frozen=True, slots=True)
class Ready:
    """It does its work."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """It does not, and why."""

    reason: str


def answer(status: int, body: object) -> Ready | NotReady:
    """What an answer of ``/readyz`` says. Pure."""
    if status == httpx.codes.OK:
        return Ready()
    waiting = body.get("waiting_for") if isinstance(body, dict) else None
    if isinstance(waiting, dict) and waiting:
        return NotReady("; ".join(f"{part}: {why}" for part, why in waiting.items()))
    return NotReady(f"answers {status}")


async def look(http: httpx.AsyncClient, child: Child) -> Ready | NotReady:
    """Whether ``child`` is ready now."""
    match child.ready:
        case Alive():
            return Ready()
        case Listening(port):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return NotReady("does not listen yet")
            writer.close()
            return Ready()
        case Answering(url):
            try:
                response = await http.get(url)
                body = response.json() if response.status_code != httpx.codes.OK else None
            except (httpx.HTTPError, ValueError):
                return NotReady("does not answer yet")
            return answer(response.status_code, body)


async def _one(
    http: httpx.AsyncClient, supervised: Supervised, deadline: float, told: Callable[[str, Ready | NotReady], None]
) -> Ready | NotReady:
    while True:
        seen: Ready | NotReady = NotReady("is not running") if supervised.pid() is None else await look(http, supervised.child)
        told(supervised.child.name, seen)
        if isinstance(seen, Ready) or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(_LOOK_S)


async def wait(parts: list[Supervised], patience_s: float, told: Callable[[str, Ready | NotReady], None]) -> dict[str, str]:
    """Waits for all of them; returns what is not ready after ``patience_s``, with the reason. ``told`` hears every look."""
    deadline = time.monotonic() + patience_s
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
        seen = await asyncio.gather(*(_one(http, part, deadline, told) for part in parts))
    return {part.child.name: one.reason for part, one in zip(parts, seen, strict=True) if isinstance(one, NotReady)}
