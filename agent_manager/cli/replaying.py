# ruff: noqa: PLC0415 - rich costs a tenth of a second that --json need not pay
"""``agentops replay``: runs the rebuilding of a warehouse as a child process and shows how far it is."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent_manager.cli import output, readable, when
from agent_manager.cli.connection import find
from agent_manager.cli.failure import FAILED, INTERRUPTED, CommandFailedError
from agent_manager.cli.snapshots.files import directory, ending
from service.signals import die_with_parent
from streams.settings import NatsSettings

_MODULE: Final = "processors.aggregate.replay"
_LINE: Final = 1024 * 1024

Show = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as they were typed."""

    into: Path
    begin: str | None = None
    end: str | None = None
    snapshot: str | None = None
    without_head: bool = False
    start_over: bool = False


def arguments(asked: Asked, data: Path, now: datetime) -> list[str]:
    """Those of the child; raises CommandFailedError for what can be told without it."""
    found = ["--into", str(asked.into)]
    if asked.into.is_dir():
        raise CommandFailedError(f"{asked.into} is a directory", "Name a file in it, such as agentops.duckdb")
    if asked.into.exists():
        raise CommandFailedError(f"{asked.into} exists already", "Name another file, or move it away")
    for option, text in (("--from", asked.begin), ("--until", asked.end)):
        if text is not None:
            try:
                found += [option, when.moment(text, now).isoformat()]
            except when.NotATimeError as error:
                raise CommandFailedError(f"{option}: {error}") from error
    if asked.snapshot is not None:
        named = directory(data) / ending(asked.snapshot)
        given = Path(asked.snapshot)
        chosen = given if given.exists() or not named.exists() else named
        if not chosen.exists():
            raise CommandFailedError(
                f"there is no snapshot {asked.snapshot}, neither as a file nor in {directory(data)}",
                "`agentops snapshot list` names those there are",
            )
        found += ["--snapshot", str(chosen)]
    if asked.without_head:
        found.append("--without-head")
    if asked.start_over:
        found.append("--start-over")
    return found


def environment(settings: NatsSettings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The child's: it logs in as we do."""
    found = dict(inherited) | {"NATS_URL": settings.url}
    if settings.user is not None:
        found["NATS_USER"] = settings.user
    if settings.password is not None:
        found["NATS_PASSWORD"] = settings.password.get_secret_value()
    return found


async def _run(command: list[str], settings: NatsSettings, show: Show) -> tuple[int, Mapping[str, Any]]:
    """Runs the child to its end, showing each line it tells; returns its exit code and its last line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _MODULE, *command, env=environment(settings, os.environ), stdout=asyncio.subprocess.PIPE, limit=_LINE,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    last: Mapping[str, Any] = {}
    assert process.stdout is not None
    try:
        async for raw in process.stdout:
            with contextlib.suppress(ValueError):
                last = json.loads(raw)
                show(last)
        return await process.wait(), last
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise


def _bar(total_hint: str) -> tuple[Any, Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("messages"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    task = progress.add_task(total_hint, total=None)

    def show(line: Mapping[str, Any]) -> None:
        match line.get("state"):
            case "note":
                progress.console.print(output.visible(str(line.get("message"))))
            case "copying":
                progress.update(task, description="copying the snapshot")
            case "reading":
                progress.update(
                    task, description=str(line.get("stream")), total=line.get("of"), completed=line.get("messages", 0)
                )
            case "summing":
                progress.update(task, description="summing up", total=line.get("of"), completed=line.get("messages", 0))

    return progress, show


def replay(data: Path | None, asked: Asked, *, as_json: bool) -> None:
    """Builds the file; raises CommandFailedError when it could not be built."""
    place = find(data, os.environ)
    command = arguments(asked, place.data, datetime.now(UTC))
    if as_json:
        code, last = asyncio.run(_run(command, place.settings, output.write_json_line))
    else:
        progress, show = _bar("reading")
        with progress:
            code, last = asyncio.run(_run(command, place.settings, show))
    if code == INTERRUPTED:
        raise CommandFailedError("stopped", f"{asked.into} was not written", INTERRUPTED)
    if code or last.get("state") != "done":
        told = str(last.get("message") or f"the replay ended with exit code {code} before it was done")
        raise CommandFailedError(told, str(last.get("advice") or "No file was written; try again"), FAILED)
    if not as_json:
        output.write_line(
            f"{asked.into}: {last['events']:,} events of {last['messages']:,} messages in {readable.size(last['bytes'])}, {last['took_s']:.1f} s"
        )
        if last.get("unreadable"):
            output.note(
                f"{last['unreadable']:,} lines could not be read; they are dead letters of the aggregate (`agentops dead list`)"
            )
        output.write_line(
            "to use it: stop the system, put it in the place of warehouse/agentops.duckdb (remove a .wal beside that), start again"
        )
