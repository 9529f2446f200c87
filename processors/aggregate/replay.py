"""``python -m processors.aggregate.replay``: a warehouse built from the streams, into a new file. Tells progress as lines of JSON.

It only reads the streams. The file has its name once it is whole; until then it is ``FILE.partial``, with a note beside it of
what it is to become, by which the next replay goes on where one that was killed had come to.
"""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import nats.errors
import nats.js.errors
import orjson
import uvloop
from nats.aio.client import Client
from pydantic import ValidationError

from processors.aggregate.batches import STREAMS
from processors.aggregate.partial import BeingWrittenError, FileExistsAlreadyError, PartialFile
from processors.aggregate.rebuilding import NotDeliveringError, Progress, ReplayFailedError, Tell, rebuild
from processors.aggregate.replaying import OTHERWISE, Begun, Extent, Impossible, Read, decide, go_on, may_go_on
from processors.aggregate.settings import AggregateSettings
from processors.aggregate.warehouse import (
    Offset,
    Resources,
    Warehouse,
    WarehouseLockedError,
    WarehouseUnusableError,
)
from service import logs
from service.signals import stop_event
from streams.connect import CannotConnectError, connect
from streams.reader import position_at
from streams.settings import NatsSettings

_FAILED: Final = 1
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be built."""

    into: Path
    snapshot: Path | None = None
    since: datetime | None = None
    until: datetime | None = None
    without_head: bool = False
    start_over: bool = False

    def begun(self) -> Begun:
        """The note for who is to go on. Raises OSError where the snapshot cannot be looked at."""
        snapshot = None
        if self.snapshot is not None:
            file = self.snapshot.stat()
            snapshot = f"{self.snapshot.resolve()}|{file.st_size}|{file.st_mtime_ns}"
        return Begun(since=self.since, until=self.until, without_head=self.without_head, snapshot=snapshot)


async def _extent(client: Client, stream: str, wanted: Wanted) -> Extent:
    try:
        info = await client.jsm().stream_info(stream)
    except nats.js.errors.NotFoundError as error:
        raise ReplayFailedError(f"stream {stream} does not exist", "`agentops streams apply` creates it") from error
    assert info.created is not None
    return Extent(
        stream, info.state.first_seq, info.state.last_seq, info.created, info.config.first_seq or 1,
        await position_at(client, stream, wanted.since) if wanted.since is not None else None,
        await position_at(client, stream, wanted.until) if wanted.until is not None else None,
    )  # fmt: skip


def _copy(snapshot: Path, to: Path) -> None:
    """Copies a snapshot that nobody has open; raises ReplayFailedError."""
    advice = "Name a file that `agentops snapshot export` has written"
    if not snapshot.is_file():
        raise ReplayFailedError(f"there is no snapshot {snapshot}", "`agentops snapshot list` names those there are")
    if snapshot.with_name(f"{snapshot.name}.wal").exists():
        raise ReplayFailedError(f"{snapshot} is a warehouse in use, no snapshot", advice)
    try:
        duckdb.connect(str(snapshot), read_only=True).close()
    except duckdb.Error as error:
        raise ReplayFailedError(f"{snapshot} cannot be read ({str(error).splitlines()[0]})", advice) from error
    shutil.copyfile(snapshot, to)


def _unfinished(file: PartialFile, wanted: Wanted) -> bool:
    """Whether there is something to go on with; raises ReplayFailedError where that is another replay's. Removes what is of no use."""
    if wanted.start_over or not file.partial.exists() or not file.about.exists():
        file.remove()
        return False
    try:
        begun = Begun.model_validate_json(file.about.read_bytes())
    except ValidationError as error:
        raise ReplayFailedError(
            f"{file.about} does not say what {file.partial} is to become", f"Remove both, {OTHERWISE}"
        ) from error
    answer = may_go_on(begun, wanted.begun())
    if answer is not None:
        raise ReplayFailedError(answer.reason, answer.advice)
    return True


def _note(file: PartialFile, wanted: Wanted) -> None:
    """From now on another may go on with the file."""
    file.about_new.write_text(wanted.begun().model_dump_json(exclude_none=True))
    file.about_new.replace(file.about)


async def _plan(
    client: Client, wanted: Wanted, offsets: Mapping[str, Offset], *, unfinished: bool
) -> list[tuple[Read, datetime]]:
    """What is to be read of each stream; raises ReplayFailedError where that gives no whole warehouse."""
    found: list[tuple[Read, datetime]] = []
    for stream in STREAMS:
        extent = await _extent(client, stream, wanted)
        deciding = go_on if unfinished else decide
        answer = deciding(extent, offsets.get(stream), without_head=wanted.without_head)
        if isinstance(answer, Impossible):
            raise ReplayFailedError(answer.reason, answer.advice)
        found.append((answer, extent.created))
    return found


async def _fill(
    client: Client, file: PartialFile, wanted: Wanted, settings: AggregateSettings, progress: Progress, *, unfinished: bool
) -> dict[str, int]:
    """Fills the file; returns how far each stream is applied in it."""
    at = datetime.now(UTC)
    warehouse = Warehouse.open(file.partial, at, Resources(settings.threads, settings.memory, settings.wal))
    try:
        plan = await _plan(client, wanted, warehouse.offsets(), unfinished=unfinished)
        progress.total = sum(read.messages for read, _ in plan)
        for read, _ in plan:
            if read.note is not None:
                progress.tell({"state": "note", "message": read.note})
        if unfinished:
            held = sum(offset.messages for offset in warehouse.offsets().values())
            progress.tell(
                {
                    "state": "note",
                    "message": f"goes on where it was stopped: {held:,} messages are in {file.partial}",
                    "held": held,
                }
            )
            progress.say("summing", at_once=True)
            await asyncio.to_thread(warehouse.fold)
        else:
            _note(file, wanted)
        for read, created in plan:
            await rebuild(client, warehouse, read, created, settings, progress)
        progress.say("summing", at_once=True)
        await asyncio.to_thread(warehouse.fold)
        return {name: offset.applied_sequence for name, offset in warehouse.offsets().items()}
    finally:
        await asyncio.to_thread(warehouse.close)


async def _build(client: Client, wanted: Wanted, settings: AggregateSettings, progress: Progress) -> dict[str, int]:
    with PartialFile(wanted.into, goes_on=True) as file:
        # What another one left is no business of one that may not go on with it.
        file.keep()
        unfinished = _unfinished(file, wanted)
        file.keep(unfinished)
        if wanted.snapshot is not None and not unfinished:
            progress.tell({"state": "copying", "snapshot": str(wanted.snapshot)})
            await asyncio.to_thread(_copy, wanted.snapshot, file.partial)
        try:
            offsets = await _fill(client, file, wanted, settings, progress, unfinished=unfinished)
        except (nats.errors.Error, TimeoutError, NotDeliveringError):
            file.keep()
            raise
        except asyncio.CancelledError:
            file.keep(False)
            raise
        file.finish()
    return offsets


async def replay(client: Client, wanted: Wanted, settings: AggregateSettings, tell: Tell) -> None:
    """Builds the warehouse. Raises ReplayFailedError, and then there is no file; perhaps an unfinished one to go on with."""
    began, progress = time.monotonic(), Progress(tell)
    try:
        offsets = await _build(client, wanted, settings, progress)
        size = wanted.into.stat().st_size
    except (FileExistsAlreadyError, BeingWrittenError, WarehouseLockedError, WarehouseUnusableError) as error:
        raise ReplayFailedError(str(error)) from error
    except duckdb.Error as error:
        raise ReplayFailedError(
            f"the file could not be written: {str(error).splitlines()[0]}", "Look at the room on the disk"
        ) from error
    except (nats.errors.Error, TimeoutError) as error:
        raise ReplayFailedError(
            f"NATS does not answer ({type(error).__name__})", "Look at `agentops doctor`; the same command then goes on from here"
        ) from error
    except OSError as error:
        raise ReplayFailedError(f"{wanted.into}: {error.strerror or error}", "Choose another place, or make room") from error
    progress.say(
        "done", at_once=True, file=str(wanted.into), bytes=size, offsets=offsets, took_s=round(time.monotonic() - began, 3)
    )


def _tell(line: Mapping[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    sys.stdout.flush()


async def _main(wanted: Wanted) -> int:
    asked, settings = stop_event(), AggregateSettings()
    try:
        client = await connect(NatsSettings(), "agentops-replay", patience_s=10)
    except CannotConnectError as error:
        _tell({"state": "failed", "message": str(error), "advice": "Start NATS, or set NATS_URL"})
        return _FAILED
    work = asyncio.create_task(replay(client, wanted, settings, _tell), name="replay")
    stopping = asyncio.create_task(asked.wait(), name="replay-stop")
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
            return _INTERRUPTED
        work.result()
    except ReplayFailedError as error:
        _tell({"state": "failed", "message": str(error), "advice": error.advice})
        return _FAILED
    finally:
        stopping.cancel()
        await client.close()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until the file is whole; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m processors.aggregate.replay", description="Build a warehouse from the streams."
    )
    parser.add_argument("--into", type=Path, required=True, metavar="FILE", help="the file to write; it must not exist")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="a snapshot to start from")
    parser.add_argument(
        "--from", dest="since", type=datetime.fromisoformat, metavar="TIME", help="what was stored since then (RFC 3339)"
    )
    parser.add_argument("--until", type=datetime.fromisoformat, metavar="TIME", help="what was stored before (RFC 3339)")
    parser.add_argument("--without-head", action="store_true", help="go without what no longer stands at the head of a stream")
    parser.add_argument(
        "--start-over", action="store_true", help="remove an unfinished replay into this file instead of going on with it"
    )
    given = parser.parse_args(arguments)
    logs.configure("replay", level="ERROR")
    # Many short calls of one thread beside the reader's: with the usual 5 ms it would wait for the interpreter after each.
    sys.setswitchinterval(0.0005)
    try:
        return uvloop.run(
            _main(Wanted(given.into, given.snapshot, given.since, given.until, given.without_head, given.start_over))
        )
    except BrokenPipeError:
        # Whoever wanted to know is gone.
        return _FAILED


if __name__ == "__main__":
    sys.exit(main())
