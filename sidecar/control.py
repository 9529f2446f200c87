"""What reaches the sidecar over NATS: its agent's faults, and the documented agent topics."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.commands import CommandError, CommandResponse
from schemas.sections import Fault
from schemas.state import FaultSet
from service.instruments import LOOP_ERRORS
from streams import subjects
from streams.kv import BucketMissingError, TypedBucket, agent_key
from streams.topology import FAULTS
from streams.waiting import Nats

log = structlog.get_logger(__name__)

_REFRESH_S: Final = 10.0
"""A watch that went quiet is noticed after at most this long."""
_AGAIN_S: Final = 2.0

Ask = Callable[[Sequence[Fault]], None]
Status = Callable[[], dict[str, Any]]


class FaultWatch:
    """Follows the agent's key in the bucket ``faults``: by watching, anew after every reconnect, and by reading it now and then."""

    def __init__(self, nats: Nats, tenant: str, agent: str, ask: Ask) -> None:
        self._nats = nats
        self._key = agent_key(tenant, agent)
        self._ask = ask
        self._revision = 0
        self._seen = 0

    async def run(self, client: Client) -> None:
        """Follows until cancelled."""
        while True:
            try:
                bucket = await TypedBucket.open(client, FAULTS, FaultSet)
                await self._follow(bucket)
            except (BucketMissingError, nats.errors.Error, TimeoutError) as error:
                log.warning("faults.unreachable", error=str(error))
            except Exception:
                LOOP_ERRORS.labels("faults-watch").inc()
                log.exception("faults.watch_failed")
            await asyncio.sleep(_AGAIN_S)

    async def _follow(self, bucket: TypedBucket[FaultSet]) -> None:
        # A watch whose server was killed recovers only after missed heartbeats: a reconnect begins a new one.
        while True:
            self._nats.reconnected.clear()
            watching = asyncio.create_task(self._watch(bucket), name="faults-watch")
            try:
                while not watching.done() and not self._nats.reconnected.is_set():
                    try:
                        async with asyncio.timeout(_REFRESH_S):
                            await self._nats.reconnected.wait()
                    except TimeoutError:
                        await self._refresh(bucket)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, bucket: TypedBucket[FaultSet]) -> None:
        async for entry in bucket.watch(self._key):
            self._seen += 1
            self._apply(entry.value, entry.revision)

    async def _refresh(self, bucket: TypedBucket[FaultSet]) -> None:
        if self._nats.client is None:
            return
        seen = self._seen
        try:
            entry = await bucket.get(self._key)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.debug("faults.not_read", error=repr(error))
            return
        if entry is not None:
            self._apply(entry.value, entry.revision)
        elif seen == self._seen:
            self._ask(())

    def _apply(self, value: FaultSet | None, revision: int) -> None:
        if revision >= self._revision:
            self._revision = revision
            self._ask(() if value is None else value.faults)


class AgentTopics:
    """``agent.<id>.command`` and ``.query`` answered, ``agent.status`` and ``agent.metrics`` told.

    Core NATS: nothing is kept for who is not listening; what must arrive travels on ``telemetry.``.
    """

    def __init__(self, nats: Nats, agent: str, status: Status) -> None:
        self._nats = nats
        self._agent = agent
        self._status = status

    async def listen(self, client: Client) -> None:
        """Subscribes; nats-py keeps subscriptions across reconnects."""
        await client.subscribe(subjects.agent_command(self._agent), cb=self._command)
        await client.subscribe(subjects.agent_query(self._agent), cb=self._query)

    async def _answer(self, message: Msg, response: CommandResponse) -> None:
        data = response.model_dump_json(exclude_none=True).encode()
        client = self._nats.client
        if client is None:
            return
        try:
            await client.publish(message.reply or subjects.agent_response(self._agent), data)
        except nats.errors.Error as error:
            log.warning("agent_topics.unanswered", error=repr(error))

    async def _command(self, message: Msg) -> None:
        try:
            asked = json.loads(message.data)
            # Echoed in the answer, which takes neither what is endless nor half characters.
            command = str(asked["command"])[:64].encode(errors="replace").decode()
        except (ValueError, TypeError, KeyError, RecursionError):
            await self._answer(message, self._error("", None, "invalid", "send a JSON object with a field `command`"))
            return
        command_id = asked.get("command_id")
        if command != "status":
            text = f"a sidecar answers `status` only; send {command!r} to the manager"
            await self._answer(message, self._error(command, command_id, "unknown_command", text))
            return
        await self._answer(message, self._success(command, command_id))

    async def _query(self, message: Msg) -> None:
        await self._answer(message, self._success("status", None))

    def _success(self, command: str, command_id: object) -> CommandResponse:
        return CommandResponse(
            status="success",
            command=command,
            agent_id=self._agent,
            command_id=_identifier(command_id),
            result=self._status(),
            timestamp=datetime.now(UTC),
        )

    def _error(self, command: str, command_id: object, code: Any, text: str) -> CommandResponse:
        return CommandResponse(
            status="error",
            command=command,
            agent_id=self._agent,
            command_id=_identifier(command_id),
            error=CommandError(code=code, message=text),
            timestamp=datetime.now(UTC),
        )

    async def tell_status(self, status: str, metadata: dict[str, Any]) -> None:
        """Publishes ``agent.status``."""
        await self._tell(subjects.AGENT_STATUS, {"agent_id": self._agent, "status": status, "metadata": metadata})

    async def tell_metrics(self, metrics: dict[str, Any], at: datetime) -> None:
        """Publishes ``agent.metrics``."""
        await self._tell(subjects.AGENT_METRICS, {"agent_id": self._agent, "metrics": metrics, "timestamp": at.isoformat()})

    async def _tell(self, subject: str, value: dict[str, Any]) -> None:
        client = self._nats.client
        if client is None:
            return
        try:
            await client.publish(subject, json.dumps(value).encode())
        except (nats.errors.Error, OSError) as error:
            log.debug("agent_topics.untold", subject=subject, error=repr(error))


def _identifier(given: object) -> str:
    return given if isinstance(given, str) and 0 < len(given) <= 128 and given.isprintable() else str(uuid4())
