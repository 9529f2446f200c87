"""``dead list``, ``dead show``, ``dead replay``."""

import json
import sys
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats.js.errors
import orjson
from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.dead.choosing import Wanted, chosen, first_error
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.fleet.orders import person
from agent_manager.cli.when import NotATimeError, moment
from streams import dead_letters, replays
from streams.dead_letters import Kept, NotReplayableError
from streams.publish import NotStoredError
from streams.replays import Replayed

_COLUMNS = (
    Column("LETTER"), Column("RECEIVED", rank=2), Column("REASON"), Column("TENANT", rank=3), Column("KIND", rank=1),
    Column("EVENTS", right=True, rank=4), Column("REPLAYED", rank=1), Column("PROBLEM", wrap=True),
)  # fmt: skip


def wanted(ids: list[str] | None, reason: str | None, kind: str | None, since: str | None, *, waiting: bool = False) -> Wanted:
    """The choice as typed; raises CommandFailedError for an unreadable time."""
    try:
        at = moment(since, datetime.now(UTC)) if since else None
    except NotATimeError as error:
        raise CommandFailedError(f"--since: {error}", code=2) from error
    return Wanted(tuple(ids or ()), reason, kind, at, waiting)


async def _read(client: Client, tenant: str | None, which: Wanted, known: Container[str] = ()) -> list[Kept]:
    try:
        return chosen([kept async for kept in dead_letters.read(client, tenant=tenant)], which, known)
    except nats.js.errors.NotFoundError as error:
        raise CommandFailedError("stream EVENTS does not exist", "Run `agentops streams apply`") from error


def _as_json(kept: Kept, replayed: Replayed | None) -> dict[str, Any]:
    at = None if replayed is None else replayed.at.isoformat()
    by = None if replayed is None else replayed.by
    letter = kept.letter.model_dump(mode="json", exclude={"original"})
    return {"sequence": kept.sequence, **letter, "replayed_at": at, "replayed_by": by}


def list_(data: Path | None, tenant: str | None, which: Wanted, limit: int, *, as_json: bool) -> None:
    """The newest letters last, as one reads a log."""

    async def work(client: Client, _: Place) -> tuple[list[Kept], Mapping[str, Replayed]]:
        again = await replays.read(client)
        return await _read(client, tenant, which, again), again

    letters, again = run(data, work)
    shown = letters[-limit:]
    if as_json:
        output.write_json([_as_json(kept, again.get(kept.letter.letter_id)) for kept in shown])
        return
    cells = [
        [
            kept.letter.letter_id[:13], readable.clock(kept.letter.received_at), kept.letter.reason, kept.letter.tenant_id, kept.letter.kind,
            readable.count(kept.letter.events),
            readable.clock(again[kept.letter.letter_id].at) if kept.letter.letter_id in again else readable.NOTHING, first_error(kept),
        ]
        for kept in shown
    ]  # fmt: skip
    output.write_table(_COLUMNS, cells, empty="no dead letters")
    if len(letters) > len(shown):
        output.note(f"{len(letters) - len(shown):,} older ones are left out; --limit shows more")


def _one(letters: list[Kept], given: str) -> Kept:
    if not letters:
        raise CommandFailedError(f"there is no dead letter {given!r}", "`agentops dead list` shows them")
    if len(letters) > 1:
        raise CommandFailedError(
            f"{len(letters)} letters begin with {given!r}",
            f"Give more of the id: {', '.join(kept.letter.letter_id for kept in letters[:5])}",
        )
    return letters[0]


def _original(kept: Kept) -> bytes | None:
    try:
        return dead_letters.original(kept.letter)
    except NotReplayableError:
        return None


def show(data: Path | None, given: str, *, original: bool, as_json: bool) -> None:
    """One letter with every problem and its original bytes."""

    async def work(client: Client, _: Place) -> tuple[Kept, Replayed | None]:
        kept = _one(await _read(client, None, Wanted((given,))), given)
        return kept, (await replays.read(client)).get(kept.letter.letter_id)

    kept, again = run(data, work)
    raw, letter = _original(kept), kept.letter
    if original:
        if raw is None:
            raise CommandFailedError(
                f"the original of letter {letter.letter_id} was not kept", f"Only its SHA-256 is known: {letter.original_sha256}"
            )
        sys.stdout.buffer.write(raw)
        return
    if as_json:
        output.write_json(_as_json(kept, again) | {"original": None if raw is None else raw.decode(errors="replace")})
        return
    output.write_facts(
        [
            ("letter", letter.letter_id), ("received", readable.clock(letter.received_at)), ("refused by", letter.processor), ("reason", letter.reason),
            *((f"problem {number}", error.told()) for number, error in enumerate(letter.errors, 1)),
            ("event", f"{letter.event_type or '?'} {letter.event_id or ''}".strip()),
            ("source", f"{letter.source_subject} (sequence {letter.source_sequence}, position {letter.position})"),
            *([("replayed", f"{readable.clock(again.at)} by {again.by}")] if again is not None else []),
            ("size", f"{readable.size(letter.original_bytes)}, SHA-256 {letter.original_sha256}"),
        ]
    )  # fmt: skip
    output.write_line("")
    output.write_line(_pretty(raw) if raw is not None else "(the original was not kept)")


def _pretty(raw: bytes) -> str:
    try:
        return json.dumps(orjson.loads(raw), indent=2, ensure_ascii=False)
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")


def replay(data: Path | None, tenant: str | None, which: Wanted, *, as_json: bool) -> None:
    """Publishes the originals again where they came from; raises CommandFailedError when one could not be."""

    async def work(client: Client, place: Place) -> tuple[list[str], list[str]]:
        known = await replays.read(client) if which.waiting else {}
        letters = await _read(client, tenant, which, known)
        for given in which.ids:
            _one([kept for kept in letters if kept.letter.letter_id.startswith(given)], given)
        done, failed = [], []
        for kept in letters:
            try:
                await dead_letters.replay(client, kept)
                done.append(kept.letter)
            except (NotReplayableError, NotStoredError) as error:
                failed.append(str(error))
        try:
            await replays.record(client, done, actor=place.user, person=person(), now=datetime.now(UTC))
        except NotStoredError as error:
            failed.append(f"they were replayed, but `dead list` will not say so: AUDIT does not take it ({error})")
        return [letter.letter_id for letter in done], failed

    done, failed = run(data, work)
    if as_json:
        output.write_json({"replayed": done, "failed": failed})
    else:
        output.write_line(
            f"replayed {readable.number(len(done), 'dead letter')}{'; what is still wrong dies again, under the same reason' if done else ''}"
        )
    if failed:
        raise CommandFailedError("\n".join(failed))
