"""``streams apply``, ``streams check``, ``streams list``."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import StreamInfo

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from streams import topology
from streams.apply import CannotApplyError, Drift
from streams.apply import apply as apply_topology
from streams.apply import check as check_topology
from streams.moving import CannotMoveError

_NO_ROOM = 10047
"""JetStream's error code where streams may grow beyond what the server may store."""


def _no_jetstream(error: Exception) -> CommandFailedError:
    if isinstance(error, nats.js.errors.APIError) and error.err_code == _NO_ROOM:
        wanted = sum(stream.max_bytes or 0 for stream in topology.streams())
        return CommandFailedError(
            f"the server may store less than the {readable.size(wanted)} to which the streams may grow",
            "Raise max_file_store in its jetstream block: it is a limit, not what is taken at once",
        )
    return CommandFailedError(
        f"JetStream refuses: {error}", "Enable JetStream on the server (nats-server -js), and give this user $JS.API rights"
    )


def apply(data: Path | None, replicas: int, partitions: int | None, *, as_json: bool) -> None:
    """Creates and updates what differs."""

    async def work(client: Client, _: Place) -> list[str]:
        try:
            return await apply_topology(client, replicas, partitions)
        except (CannotApplyError, CannotMoveError) as error:
            raise CommandFailedError(str(error)) from error
        except (nats.js.errors.APIError, nats.js.errors.ServiceUnavailableError) as error:
            raise _no_jetstream(error) from error

    done = run(data, work)
    if as_json:
        output.write_json({"done": done})
    else:
        for line in done or ["nothing to do: the server agrees with the topology"]:
            output.write_line(line)


def check(data: Path | None, replicas: int, partitions: int | None, *, as_json: bool) -> None:
    """Names every difference; raises CommandFailedError when there is one."""

    async def work(client: Client, _: Place) -> list[Drift]:
        try:
            return await check_topology(client, replicas, partitions)
        except CannotApplyError as error:
            raise CommandFailedError(str(error)) from error
        except (nats.js.errors.APIError, nats.js.errors.ServiceUnavailableError) as error:
            raise _no_jetstream(error) from error

    drifts = run(data, work)
    if as_json:
        output.write_json({"agrees": not drifts, "drifts": [asdict(drift) for drift in drifts]})
    else:
        for drift in drifts:
            output.write_line(f"{drift.kind} {drift.name}: {drift.problem}")
    if drifts:
        raise CommandFailedError(
            f"{readable.number(len(drifts), 'difference')} between the server and the topology",
            "`agentops streams apply` makes it agree",
        )
    if not as_json:
        output.write_line("the server agrees with the topology")


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One line of ``streams list``."""

    stream: str
    kind: str
    messages: int
    bytes: int
    limit_bytes: int | None
    first_sequence: int
    last_sequence: int
    last_at: str | None
    consumers: int


def row(info: StreamInfo, kind: str) -> StreamRow:
    """What the server says about one stream."""
    name, state, limit = info.config.name or "?", info.state, info.config.max_bytes
    last_at = getattr(state, "last_ts", None)
    return StreamRow(
        name.removeprefix("KV_"), kind, state.messages, state.bytes, limit if limit and limit > 0 else None, state.first_seq, state.last_seq,
        str(last_at) if last_at and state.messages else None, state.consumer_count,
    )  # fmt: skip


_COLUMNS = (
    Column("NAME"), Column("IS", rank=2), Column("MESSAGES", right=True), Column("SIZE", right=True), Column("OF", right=True),
    Column("FIRST", right=True, rank=4), Column("LAST", right=True, rank=3), Column("LAST WRITTEN", rank=5),
    Column("CONSUMERS", right=True, rank=1),
)  # fmt: skip


def list_(data: Path | None, *, as_json: bool) -> None:
    """Every stream and bucket of the topology that exists."""

    async def work(client: Client, _: Place) -> list[StreamRow]:
        manager, rows = client.jsm(), []
        names = [(stream.name or "", "stream") for stream in topology.streams()] + [
            (f"KV_{bucket.bucket}", "bucket") for bucket in topology.buckets()
        ]
        for name, kind in names:
            try:
                rows.append(row(await manager.stream_info(name), kind))
            except nats.js.errors.NotFoundError:
                output.note(f"{kind} {name.removeprefix('KV_')} does not exist; `agentops streams apply` creates it")
        return rows

    rows, now = run(data, work), datetime.now(UTC)
    if as_json:
        output.write_json([asdict(one) for one in rows])
        return
    cells = [
        [
            one.stream, one.kind, readable.count(one.messages), readable.size(one.bytes), readable.size(one.limit_bytes),
            readable.count(one.first_sequence), readable.count(one.last_sequence), readable.age(one.last_at, now), str(one.consumers),
        ]
        for one in rows
    ]  # fmt: skip
    output.write_table(_COLUMNS, cells, empty="no streams")
