"""``query.<name>``: a NATS micro service over the warehouse."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import structlog
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import Service

from processors.aggregate.answering import BUILD, Deadline, Reply, answer, refused
from processors.aggregate.settings import AggregateSettings
from processors.aggregate.warehouse import Warehouse
from service.instruments import LOOP_ERRORS, QUERY_ERRORS, QUERY_SECONDS
from streams import subjects
from streams.services import leave, respond

log = structlog.get_logger(__name__)

VERSION: Final = "1.0.0"
_HEADROOM: Final = 64 * 1024
_PAYLOAD: Final = 1024 * 1024
"""What a reply may have where the server has not said."""


class QueryService:
    """Answers queries on threads of their own. At most ``query_waiting`` wait for one; more are refused at once."""

    def __init__(self, client: Client, warehouse: Warehouse, settings: AggregateSettings) -> None:
        self._client = client
        self._warehouse = warehouse
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.query_threads, thread_name_prefix="query")
        self._service: Service | None = None
        self._asked: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to answer."""
        self._service = await micro.add_service(
            self._client, name="agentops-query", version=VERSION, description="Named, read-only questions to the warehouse"
        )
        for name in BUILD:
            await self._service.add_endpoint(name=name, subject=subjects.query(name), handler=self._handler(name))

    async def stop(self) -> None:
        """Answers what is being asked, and no more."""
        service, self._service = self._service, None
        await leave(service, self._client)
        if self._asked:
            await asyncio.wait(self._asked, timeout=1.0)
        for task in self._asked:
            task.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _handler(self, name: str) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            # Endpoints handle one request at a time; tasks let a slow question not hold up a quick one.
            task = asyncio.create_task(self._answer(name, request), name=f"query-{name}")
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

        return handle

    async def _in_time(self, name: str, asked: bytes, deadline: Deadline, most_bytes: int) -> Reply:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(deadline.seconds, deadline.pass_by)
        try:
            return await loop.run_in_executor(
                self._threads,
                lambda: answer(self._warehouse, name, asked, now=datetime.now(UTC), deadline=deadline, most_bytes=most_bytes),
            )
        finally:
            timer.cancel()

    async def _answer(self, name: str, request: Request) -> None:
        began = time.monotonic()
        settings = self._settings
        deadline_s = settings.audit_deadline_s if name == "audit" else settings.query_deadline_s
        most_bytes = (self._client.max_payload or _PAYLOAD) - _HEADROOM
        try:
            if len(self._asked) > settings.query_waiting:
                reply = refused(name, "too many queries at once: try again in a moment")
            else:
                reply = await self._in_time(name, request.data, Deadline(deadline_s), most_bytes)
        except Exception as error:
            LOOP_ERRORS.labels("query").inc()
            log.exception("query.failed", query=name)
            reply = refused(name, f"the query failed: {type(error).__name__}")
        if reply.failed:
            QUERY_ERRORS.labels(name).inc()
        QUERY_SECONDS.labels(name).observe(time.monotonic() - began)
        await respond(request, reply.data, reply.headers)
