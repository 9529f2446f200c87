"""Large warehouses for the queries: made once, kept, and lent as copies that fit the streams of a system that is starting."""

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

import duckdb
import orjson
from nats.aio.client import Client

from benchmarks import bulk_load
from processors.aggregate import migrating
from processors.aggregate.warehouse import naive
from streams import topology

_FRESH: Final = timedelta(hours=6)
"""An older one has too little in the last 24 hours to be asked for them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A warehouse that was made."""

    path: Path
    until: datetime
    sequences: dict[str, int]
    """The last applied, by stream."""

    @property
    def bytes(self) -> int:
        """Of the file."""
        return self.path.stat().st_size


def _made_by() -> str:
    """Changes whenever another file would be made."""
    sources = Path(bulk_load.__file__).read_bytes(), *(each.sql.encode() for each in migrating.load())
    return sha256(b"\0".join(sources)).hexdigest()


def _known(path: Path, now: datetime) -> Kept | None:
    told = path.with_suffix(".json")
    if not path.exists() or not told.exists():
        return None
    about = orjson.loads(told.read_bytes())
    until = datetime.fromisoformat(about["until"])
    if about["made_by"] != _made_by() or not timedelta(0) <= now - until <= _FRESH:
        return None
    return Kept(path, until, about["sequences"])


def kept(directory: Path, events: int, say: Callable[[str], None]) -> Kept:
    """A warehouse of ``events`` events until about now, made where there is none in ``directory``: minutes for millions."""
    now = datetime.now(UTC)
    path = directory / f"warehouse-{events}.duckdb"
    known = _known(path, now)
    if known is not None:
        return known
    making = directory / "making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        bulk_load.bulk_load(making / path.name, events, until=now, tell=lambda text: say(f"making a warehouse: {text}"))
        connection = duckdb.connect(str(making / path.name), read_only=True)
        try:
            rows = connection.execute("SELECT stream, applied_sequence FROM offsets").fetchall()
        finally:
            connection.close()
        sequences = {str(stream): int(sequence) for stream, sequence in rows}
        (making / path.name).replace(path)
        path.with_suffix(".json").write_bytes(
            orjson.dumps({"until": now.isoformat(), "sequences": sequences, "made_by": _made_by()})
        )
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Kept(path, now, sequences)


def lend(warehouse: Kept, directory: Path) -> Callable[[Client], Awaitable[None]]:
    """What prepares a system whose files lie in ``directory`` to go on with a copy of ``warehouse``.

    Its EVENTS and LEDGER begin behind the sequences the warehouse has applied, as streams do whose old messages have aged
    out, and the copy is told when they were created.
    """

    async def prepare(client: Client) -> None:
        path = directory / "warehouse" / "agentops.duckdb"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(warehouse.path, path)
        created: dict[str, datetime] = {}
        for stream in topology.streams():
            if stream.name in warehouse.sequences:
                stream.first_seq = warehouse.sequences[stream.name] + 1
                found = (await client.jsm().add_stream(stream)).created
                assert found is not None
                created[stream.name] = found
        connection = duckdb.connect(str(path))
        try:
            for name, moment in created.items():
                connection.execute("UPDATE offsets SET stream_created = ? WHERE stream = ?", [naive(moment), name])
        finally:
            connection.close()

    return prepare
