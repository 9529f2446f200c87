"""``warehouse.snapshot``: writes a snapshot when asked, and tells how far it is."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from processors.aggregate.partial import BeingWrittenError, FileExistsAlreadyError
from processors.aggregate.snapshots import Copied, Told, export
from processors.aggregate.warehouse import Warehouse, WarehouseUnusableError
from schemas.errors import field_errors
from schemas.snapshots import SnapshotInfo, SnapshotProgress, SnapshotRequest
from service.instruments import LOOP_ERRORS
from streams import subjects
from streams.messages import CONTENT_TYPE, JSON

log = structlog.get_logger(__name__)

_QUEUE: Final = "aggregate"
_STOP_S: Final = 2.0


class SnapshotDoor:
    """Takes one request at a time; another meanwhile is refused."""

    def __init__(self, client: Client, warehouse: Warehouse, directory: Path) -> None:
        self._client = client
        self._warehouse = warehouse
        self._directory = directory
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._subscription: Subscription | None = None
        self._at_work: asyncio.Task[None] | None = None
        self._cursor: duckdb.DuckDBPyConnection | None = None

    async def start(self) -> None:
        """Begins to answer. What a killed process has left half written is removed."""
        for left in self._directory.glob("*.partial*"):
            left.unlink(missing_ok=True)
        self._subscription = await self._client.subscribe(subjects.WAREHOUSE_SNAPSHOT, queue=_QUEUE, cb=self._asked)
        await self._client.flush()

    async def stop(self) -> None:
        """Ends; a snapshot under way is given up and leaves no file."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self._client.is_connected:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()
        if self._cursor is not None:
            self._cursor.interrupt()
        if self._at_work is not None:
            await asyncio.wait({self._at_work}, timeout=_STOP_S)
        await asyncio.to_thread(self._thread.shutdown)

    async def _asked(self, message: Msg) -> None:
        if self._at_work is not None and not self._at_work.done():
            await self._tell(message.reply, _failed("another snapshot is being written: ask again when it is done"))
            return
        self._at_work = asyncio.create_task(self._write(message), name="snapshot")

    async def _write(self, message: Msg) -> None:
        try:
            request = SnapshotRequest.model_validate_json(message.data)
        except ValidationError as error:
            [first, *_] = field_errors(error)
            await self._tell(message.reply, _failed(first.told()))
            return
        at, path = datetime.now(UTC), self._directory / f"{request.name}.duckdb"
        loop = asyncio.get_running_loop()
        log.info("snapshot.begun", file=str(path))

        def told(table: str, done: int, tables: int, rows: int) -> None:
            progress = SnapshotProgress(state="copying", table=table, tables_done=done, tables=tables, rows=rows)
            asyncio.run_coroutine_threadsafe(self._tell(message.reply, progress), loop)

        try:
            copied = await loop.run_in_executor(self._thread, self._export, path, at, told)
            info = SnapshotInfo(
                name=request.name, path=str(path.resolve()), at=at, bytes=copied.bytes, rows=copied.rows, offsets=copied.offsets
            )
            path.with_suffix(".json").write_text(info.model_dump_json(indent=1) + "\n", encoding="utf-8")
        except (FileExistsAlreadyError, BeingWrittenError, WarehouseUnusableError) as error:
            await self._tell(message.reply, _failed(str(error)))
        except (duckdb.Error, OSError) as error:
            log.warning("snapshot.failed", file=str(path), error=str(error))
            why = "the aggregate is stopping" if isinstance(error, duckdb.InterruptException) else str(error).splitlines()[0]
            await self._tell(message.reply, _failed(f"{path} could not be written ({why})"))
        except Exception as error:
            LOOP_ERRORS.labels("snapshot").inc()
            log.exception("snapshot.failed", file=str(path))
            await self._tell(message.reply, _failed(f"the snapshot failed: {type(error).__name__}"))
        else:
            log.info("snapshot.written", file=str(path), rows=copied.rows, bytes=copied.bytes)
            await self._tell(message.reply, SnapshotProgress(state="done", rows=copied.rows, snapshot=info))

    def _export(self, path: Path, at: datetime, told: Told) -> Copied:
        cursor = self._cursor = self._warehouse.cursor()
        try:
            return export(cursor, path, at, told)
        finally:
            self._cursor = None
            cursor.close()

    async def _tell(self, reply: str, progress: SnapshotProgress) -> None:
        if not reply:
            return
        try:
            await self._client.publish(reply, progress.model_dump_json(exclude_none=True).encode(), headers={CONTENT_TYPE: JSON})
        except (nats.errors.Error, OSError) as error:
            log.debug("snapshot.reply", error=repr(error))


def _failed(message: str) -> SnapshotProgress:
    return SnapshotProgress(state="failed", message=message)
