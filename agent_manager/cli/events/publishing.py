"""Events from a file to ``telemetry.``: each kept until its PubAck, a bounded number under way."""

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.events.lines import BadLine, Line, as_is, checked, numbered
from agent_manager.cli.failure import CommandFailedError
from schemas.ids import derived_id
from streams import subjects
from streams.messages import CONTENT_TYPE, JSON, MESSAGE_ID, NDJSON
from streams.micro_batches import split

IN_FLIGHT: Final = 512
"""Messages without their acknowledgement; then reading the file waits."""
_ACK_S: Final = 10.0
_GROUP: Final = 2000
_SHOWN: Final = 50


@dataclass(slots=True)
class Outcome:
    """What became of a file."""

    events: int = 0
    """Stored by JetStream now, or before."""
    messages: int = 0
    repeated: int = 0
    """Messages the server had already (same id within its window)."""
    rejected: list[BadLine] = field(default_factory=list)
    unconfirmed: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Message:
    subject: str
    data: bytes
    events: int
    headers: dict[str, str]
    first: int
    """Line number."""


def _single(line: Line) -> _Message:
    headers = {CONTENT_TYPE: JSON} | ({MESSAGE_ID: line.message_id} if line.message_id else {})
    return _Message(line.subject, line.data, 1, headers, line.number)


def _batches(lines: Iterable[Line]) -> Iterator[_Message]:
    """Micro-batches by agent; order within one agent is kept. A batch's id is derived from its events' ids."""
    held: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        held.setdefault((line.tenant_id, line.agent_id), []).append(line)
    for (tenant, agent), mine in held.items():
        done = 0
        for batch in split(line.data for line in mine):
            part = mine[done : done + batch.count]
            done += batch.count
            headers = {CONTENT_TYPE: NDJSON, MESSAGE_ID: str(derived_id("batch", *(line.message_id or "" for line in part)))}
            yield _Message(subjects.telemetry(tenant, agent, "batch"), batch.data, batch.count, headers, part[0].number)


class Publisher:
    """Publishes with at most IN_FLIGHT messages unacknowledged."""

    def __init__(self, client: Client, outcome: Outcome) -> None:
        self._client = client
        self._js = client.jetstream()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcome = outcome

    async def send(self, message: _Message) -> None:
        """Begins to send; waits while there is no room."""
        await self._room.acquire()
        task = asyncio.create_task(self._one(message), name=f"line-{message.first}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, message: _Message) -> None:
        try:
            for attempt in range(3):
                try:
                    ack = await self._js.publish(message.subject, message.data, timeout=_ACK_S, headers=message.headers)
                except nats.js.errors.APIError as error:
                    self._failed(message, f"refused: {error.description}")
                    return
                except nats.errors.MaxPayloadError:
                    self._failed(message, f"{len(message.data):,} bytes are more than the server takes")
                    return
                except (nats.errors.Error, TimeoutError, OSError) as error:
                    # The same id again is harmless: the server knows it.
                    if attempt == 2:
                        self._failed(message, f"no acknowledgement ({type(error).__name__})")
                    continue
                self._outcome.events += message.events
                self._outcome.messages += 1
                self._outcome.repeated += bool(ack.duplicate)
                return
        finally:
            self._room.release()

    def _failed(self, message: _Message, why: str) -> None:
        self._outcome.unconfirmed.append(f"line {message.first}: {why}")

    async def finish(self) -> None:
        """Waits for every acknowledgement."""
        while self._tasks:
            await asyncio.wait(self._tasks)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as file:
            yield file
    except OSError as error:
        raise CommandFailedError(
            f"{name} cannot be read: {error.strerror}", "Give the path of an NDJSON file, or - for standard input"
        ) from error


async def _publish(client: Client, file: BinaryIO, *, validate: bool, batch: bool, tenant: str, agent: str) -> Outcome:
    outcome = Outcome()
    began = time.monotonic()
    publisher = Publisher(client, outcome)
    group: list[Line] = []

    async def send_group() -> None:
        for message in _batches(group):
            await publisher.send(message)
        group.clear()

    lines = numbered(file)
    while True:
        # A pipe may be slow: reading it must not hold up acknowledgements.
        read = await asyncio.to_thread(next, lines, None)
        if read is None:
            break
        line = checked(*read) if validate else as_is(*read, tenant, agent)
        if isinstance(line, BadLine):
            outcome.rejected.append(line)
            if len(outcome.rejected) <= _SHOWN:
                for sentence in line.sentences():
                    output.note(sentence)
        elif batch:
            group.append(line)
            if len(group) >= _GROUP:
                await send_group()
        else:
            await publisher.send(_single(line))
    await send_group()
    await publisher.finish()
    outcome.elapsed_s = time.monotonic() - began
    return outcome


def publish(data: Path | None, name: str, *, validate: bool, batch: bool, tenant: str, agent: str, as_json: bool) -> None:
    """Publishes every good line; raises CommandFailedError when a line was rejected or not confirmed."""

    async def work(client: Client, _: Place) -> Outcome:
        with _opened(name) as file:
            return await _publish(client, file, validate=validate, batch=batch, tenant=tenant, agent=agent)

    outcome = run(data, work)
    if as_json:
        output.write_json(
            {
                "published": outcome.events, "messages": outcome.messages, "repeated": outcome.repeated,
                "rejected": [
                    {"line": bad.number, "reason": bad.reason, "errors": [error.model_dump(mode="json") for error in bad.errors]}
                    for bad in outcome.rejected
                ],
                "unconfirmed": outcome.unconfirmed, "elapsed_s": round(outcome.elapsed_s, 3),
            }
        )  # fmt: skip
    else:
        again = f", {outcome.repeated} of them already known" if outcome.repeated else ""
        speed = f" ({outcome.events / outcome.elapsed_s:,.0f}/s)" if outcome.elapsed_s > 0.5 else ""
        output.write_line(f"published {readable.number(outcome.events, 'event')} in {outcome.elapsed_s:.2f} s{speed}{again}")
    for sentence in outcome.unconfirmed[:_SHOWN]:
        output.note(sentence)
    if outcome.rejected:
        raise CommandFailedError(
            f"{readable.number(len(outcome.rejected), 'line')} not sent, being no events",
            "Correct the fields named above and publish the file again: what is stored already is recognised",
        )
    if outcome.unconfirmed:
        raise CommandFailedError(
            f"{readable.number(len(outcome.unconfirmed), 'message')} not confirmed",
            "Publish the file again: what is stored already is recognised",
        )
