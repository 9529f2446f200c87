"""How the streams stand: where they begin and end, what is missing between, and the range of each that is audited."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import StreamInfo

from streams.auditing.report import AuditImpossibleError
from streams.auditing.scope import Range, Scope
from streams.reader import position_at

MOST_DELETED: Final = 200_000
"""Sequences the server is asked to name one by one; where more are gone, only their number is told."""
_ASK_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One stream, and the range of it that is audited."""

    name: str
    subjects: tuple[str, ...]
    first: int
    last: int
    range: Range
    created: datetime
    max_age: timedelta
    """Zero: nothing ages out."""
    began_at: int
    """The sequence it was created to begin with."""
    deleted: frozenset[int] = frozenset()
    """Sequences in the range that are gone though what was stored before and after them stands."""
    deleted_more: int = 0
    """How many more are gone somewhere in the stream, where there are too many to be named."""

    @property
    def standing(self) -> Range:
        """The part of the range that has not gone from the head of the stream."""
        return Range(max(self.range.after, self.first - 1), self.range.last)

    @property
    def gone(self) -> Range:
        """The part of the range that lies before the head of the stream."""
        return Range(self.range.after, min(self.range.last, self.first - 1))


async def info(client: Client, name: str) -> StreamInfo:
    """What the server says of a stream; raises AuditImpossibleError."""
    try:
        return await client.jsm().stream_info(name)
    except (nats.js.errors.NotFoundError, nats.errors.Error, TimeoutError) as error:
        raise AuditImpossibleError(
            f"stream {name} does not answer ({type(error).__name__}): `agentops doctor` says more"
        ) from error


async def look(client: Client, name: str, scope: Scope) -> Standing:
    """How stream ``name`` stands now."""
    told = await info(client, name)
    state, config = told.state, told.config
    found = await _range(client, name, scope, state.last_seq)
    deleted: frozenset[int] = frozenset()
    more = 0
    if state.num_deleted:
        if state.num_deleted <= MOST_DELETED:
            deleted = frozenset(seq for seq in await _deleted(client, name) if found.after < seq <= found.last)
        else:
            more = state.num_deleted
    return Standing(
        name=name,
        subjects=tuple(config.subjects or ()),
        first=state.first_seq,
        last=state.last_seq,
        range=found,
        created=told.created or datetime.now(UTC),
        max_age=timedelta(seconds=config.max_age or 0),
        began_at=config.first_seq or 1,
        deleted=deleted,
        deleted_more=more,
    )


async def _range(client: Client, name: str, scope: Scope, last: int) -> Range:
    after, until = 0, last
    if name in scope.sequences:
        first, end = scope.sequences[name]
        after, until = first - 1, min(last, end if end is not None else last)
    if last and scope.since is not None:
        after = max(after, await position_at(client, name, scope.since))
    if last and scope.until is not None:
        until = min(until, await position_at(client, name, scope.until))
    if scope.most is not None:
        after = max(after, until - scope.most)
    return Range(min(after, until), until)


async def _deleted(client: Client, name: str) -> list[int]:
    """The sequences that are gone between the first message and the last; nats-py cannot ask for them."""
    request = json.dumps({"deleted_details": True}).encode()
    reply = await client.request(f"$JS.API.STREAM.INFO.{name}", request, timeout=_ASK_S)
    answer = json.loads(reply.data)
    return [int(seq) for seq in answer.get("state", {}).get("deleted") or ()]
