"""Moving a TELEMETRY that is still a work queue over to one that is kept until it is purged.

The server changes no stream's retention from or to a work queue, so the stream is made anew, with sequences that go on
behind what is covered. What is not covered waits meanwhile in a stream of its own. Interrupted anywhere it goes on where it
stood; what is then told twice, validate recognises.
"""

from collections.abc import Mapping

from nats.aio.client import Client
from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from streams import progress, subjects, topology
from streams.reader import OrderedReader, Source

_MOVING = "TELEMETRY_MOVING"
_AT_ONCE = 1000
_PATIENCE_S = 10.0


class CannotMoveError(RuntimeError):
    """TELEMETRY could not be moved. Nothing is lost; trying again goes on where it stood."""


async def is_moving(client: Client) -> bool:
    """Whether a move was begun and has not ended."""
    try:
        await client.jsm().stream_info(_MOVING)
    except NotFoundError:
        return False
    return True


async def must_move(client: Client) -> bool:
    """Whether TELEMETRY is a work queue, or on its way from being one."""
    try:
        info = await client.jsm().stream_info(topology.TELEMETRY)
    except NotFoundError:
        return await is_moving(client)
    return info.config.retention == RetentionPolicy.WORK_QUEUE or await is_moving(client)


async def move(client: Client, wanted: StreamConfig) -> str:
    """Makes TELEMETRY as ``wanted`` and keeps what is not covered; returns what was done, in words. Raises CannotMoveError."""
    manager = client.jsm()
    covered = await progress.covered(client, 0)
    try:
        info = await manager.stream_info(topology.TELEMETRY)
    except NotFoundError:
        info = None
    if info is not None and info.config.retention == RetentionPolicy.WORK_QUEUE:
        # Publishers are refused from here on, and keep their events.
        info.config.subjects = [subjects.RETIRED_TELEMETRY]
        await manager.update_stream(info.config)
        await _put_aside(client, covered)
        await manager.delete_stream(topology.TELEMETRY)
        info = None
    if info is None:
        anew = StreamConfig(**(wanted.__dict__ | {"first_seq": covered + 1}))
        await manager.add_stream(anew)
    moved = await _bring_back(client)
    await manager.delete_stream(_MOVING)
    return (
        f"made stream {topology.TELEMETRY} anew, no longer a work queue, from sequence {covered + 1} on; "
        f"messages not covered yet, taken along: {moved}"
    )


async def _put_aside(client: Client, covered: int) -> None:
    """Everything behind ``covered`` is in the waiting stream, in order."""
    manager, js = client.jsm(), client.jetstream()
    if await is_moving(client):
        await manager.delete_stream(_MOVING)
    await manager.add_stream(StreamConfig(name=_MOVING, subjects=[subjects.MOVING_TELEMETRY], description="TELEMETRY on its way"))
    state = (await manager.stream_info(topology.TELEMETRY)).state
    position, count = max(covered, state.first_seq - 1), 0
    while position < state.last_seq:
        try:
            message = await manager.get_msg(topology.TELEMETRY, position + 1, subjects.ALL_TELEMETRY, next=True)
        except NotFoundError:
            break
        assert message.seq is not None
        await js.publish(subjects.moving(message.subject or ""), message.data or b"", headers=_kept(message.headers))
        position, count = message.seq, count + 1
    held = (await manager.stream_info(_MOVING)).state.messages
    if held < count:
        raise CannotMoveError(f"{count} messages were put aside, but {held} are there")


async def _bring_back(client: Client) -> int:
    """Everything put aside is in TELEMETRY again, in order; returns how many."""
    js, last = client.jetstream(), (await client.jsm().stream_info(_MOVING)).state.last_seq
    reader, count = OrderedReader(client, Source(_MOVING)), 0
    try:
        while reader.position < last:
            messages = await reader.fetch(_AT_ONCE, _PATIENCE_S)
            if not messages:
                raise CannotMoveError(f"{_MOVING} does not answer: at {reader.position} of {last}")
            for message in messages:
                await js.publish(subjects.moved(message.subject), message.data, headers=_kept(message.headers))
                count += 1
    finally:
        await reader.close()
    return count


def _kept(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Headers without what held only at the first publishing."""
    return {name: value for name, value in (headers or {}).items() if not name.startswith("Nats-Expected")} or None
