"""Waiting until every part does its work, and what those that do not are waiting for."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from agent_manager.cli.up.plan import Alive, Answering, Child, Listening
from agent_manager.cli.up.supervision import Supervised
from service.leaving import CANNOT_START

_LOOK_S = 0.15


@dataclass(frozen=True, slots=True)
class Ready:
    """It does its work."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """It does not, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class CannotStart:
    """It never will as things are, and why: a person must look."""

    reason: str


Seen = Ready | NotReady | CannotStart


class CannotStartError(Exception):
    """A part can never become ready. Trying again does not help."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")


def answer(status: int, body: object) -> Seen:
    """What an answer of ``/readyz`` says. Pure."""
    if status == httpx.codes.OK:
        return Ready()
    waiting = body.get("waiting_for") if isinstance(body, dict) else None
    if isinstance(waiting, dict) and waiting:
        for part, why in waiting.items():
            if str(why).startswith(CANNOT_START):
                return CannotStart(f"{part} {why}")
        return NotReady("; ".join(f"{part}: {why}" for part, why in waiting.items()))
    return NotReady(f"answers {status}")


async def look(http: httpx.AsyncClient, child: Child) -> Seen:
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
        if supervised.refusal is not None:
            raise CannotStartError(supervised.child.name, supervised.refusal)
        seen = NotReady("is not running") if supervised.pid() is None else await look(http, supervised.child)
        if isinstance(seen, CannotStart):
            raise CannotStartError(supervised.child.name, seen.reason)
        told(supervised.child.name, seen)
        if isinstance(seen, Ready) or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(_LOOK_S)


async def wait(parts: list[Supervised], patience_s: float, told: Callable[[str, Ready | NotReady], None]) -> dict[str, str]:
    """Waits for all of them; returns what is not ready after ``patience_s``, with the reason. ``told`` hears every look.

    Raises CannotStartError as soon as one says that it never will be.
    """
    deadline = time.monotonic() + patience_s
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
        looking = [asyncio.create_task(_one(http, part, deadline, told), name=f"ready-{part.child.name}") for part in parts]
        try:
            seen = await asyncio.gather(*looking)
        finally:
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
    return {part.child.name: one.reason for part, one in zip(parts, seen, strict=True) if isinstance(one, NotReady)}
