"""``agentops snapshot export``: asks the aggregate, shows how far it is, and puts the file where it is wanted."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.snapshots.files import ending, found
from schemas.snapshots import SnapshotInfo, SnapshotProgress, SnapshotRequest
from streams import subjects

_SILENCE_S: Final = 60.0
"""A big table takes a while, and is told of only when it begins."""
_FIRST_S: Final = 10.0

Show = Callable[[SnapshotProgress], None]


async def ask(client: Client, name: str, show: Show) -> SnapshotInfo:
    """Asks for a snapshot and waits until it is written; raises CommandFailedError."""
    try:
        request = SnapshotRequest(name=name)
    except ValidationError as error:
        raise CommandFailedError(
            f"{name!r} is no name for a snapshot", "Use letters, digits, - and _, or leave it out for one made of the time"
        ) from error
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    try:
        await client.publish(subjects.WAREHOUSE_SNAPSHOT, request.model_dump_json().encode(), reply=inbox)
        patience_s = _FIRST_S
        while True:
            try:
                message = await answers.next_msg(timeout=patience_s)
            except (nats.errors.TimeoutError, TimeoutError) as error:
                raise CommandFailedError(
                    "the aggregate does not answer", "`agentops doctor` says whether it runs; a snapshot under way goes on"
                ) from error
            if (message.headers or {}).get("Status") == "503":
                raise CommandFailedError("nobody writes snapshots here", "Start the aggregate: `agentops processors aggregate`")
            told = SnapshotProgress.model_validate_json(message.data)
            if told.state == "failed":
                raise CommandFailedError(told.message or "the snapshot failed", "Nothing was written")
            if told.snapshot is not None:
                return told.snapshot
            show(told)
            patience_s = _SILENCE_S * 10
    finally:
        await answers.unsubscribe()


def wanted(file: Path | None, now: datetime) -> tuple[str, Path | None]:
    """The snapshot's name, and where it is to lie at last (None: where the aggregate puts it); raises CommandFailedError."""
    made = f"{now:%Y-%m-%dT%H-%M-%SZ}"
    if file is None:
        return made, None
    if file.is_dir():
        return made, file / ending(made)
    if file.parent == Path() and not file.suffix:
        return file.name, None
    if file.exists():
        raise CommandFailedError(f"{file} exists already", "Name another file, or move it away")
    if not file.parent.is_dir():
        raise CommandFailedError(f"there is no directory {file.parent}", "Make it, or name another")
    return made, file


def move(info: SnapshotInfo, to: Path) -> SnapshotInfo:
    """Puts the written file where it is wanted, whole; raises CommandFailedError where it is on another machine."""
    written = Path(info.path)
    if not written.exists():
        raise CommandFailedError(
            f"the snapshot was written on the aggregate's machine: {info.path}", f"Copy it from there to {to}"
        )
    half = to.with_name(f"{to.name}.partial")
    try:
        shutil.move(written, half)
        half.rename(to)
        written.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        half.unlink(missing_ok=True) if written.exists() else None
        raise CommandFailedError(
            f"{to}: {error.strerror or error}", f"The snapshot is in {written if written.exists() else half}"
        ) from error
    return info.model_copy(update={"path": str(to.resolve())})


def export(data: Path | None, file: Path | None, *, as_json: bool) -> None:
    """Writes one snapshot."""
    name, to = wanted(file, datetime.now(UTC))

    def show(told: SnapshotProgress) -> None:
        if as_json:
            return
        if told.table:
            output.note(f"{told.tables_done + 1}/{told.tables} {told.table} ({told.rows:,} rows so far)")

    async def work(client: Client, _: Place) -> SnapshotInfo:
        return await ask(client, name, show)

    info = run(data, work)
    if to is not None:
        info = move(info, to)
    if as_json:
        output.write_json(info.model_dump(mode="json"))
    else:
        output.write_line(f"{info.path}: {info.rows:,} rows, {readable.size(info.bytes)}")
        output.write_line("; ".join(f"{stream} up to {sequence:,}" for stream, sequence in sorted(info.offsets.items())))


_COLUMNS: Final = (
    Column("NAME"), Column("WRITTEN"), Column("ROWS", right=True), Column("SIZE", right=True), Column("HOLDS", wrap=True),
)  # fmt: skip


def list_(data: Path, *, as_json: bool) -> None:
    """The snapshots of the data directory, newest first."""
    infos, now = found(data), datetime.now(UTC)
    if as_json:
        output.write_json([info.model_dump(mode="json") for info in infos])
        return
    rows = [
        (
            info.name, readable.age(info.at.isoformat(), now), readable.count(info.rows), readable.size(info.bytes),
            ", ".join(f"{stream} to {sequence:,}" for stream, sequence in sorted(info.offsets.items())),
        )
        for info in infos
    ]  # fmt: skip
    output.write_table(_COLUMNS, rows, empty="no snapshots yet; `agentops snapshot export` writes one")
