"""Where durable commands arrive, are handed to their agent, answered, recorded and acknowledged."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import nats.errors
import structlog
from nats.aio.client import Client

from agent_manager.commands import reading
from agent_manager.commands.reading import Unreadable
from agent_manager.journal import Journal
from agent_manager.lifecycle.fleet import Fleet
from agent_manager.lifecycle.jobs import Done, Job, Outcome, Refused
from agent_manager.outbox import Outbox, audit_record
from schemas.commands import AuditRecord, Command, CommandError, CommandResponse
from schemas.ids import derived_id
from service.instruments import COMMAND_SECONDS, COMMANDS, LOOP_ERRORS
from streams import subjects

log = structlog.get_logger(__name__)

ACK_WAIT_S = 10.0
"""What is not acknowledged is delivered again after this; held commands are renewed three times as often."""
_STORED_S = 1.0
_UNKNOWN = "unknown"


class Delivery(Protocol):
    """A message of the command stream, as FastStream's ``NatsMessage`` has it."""

    async def ack(self) -> None:
        """It is dealt with."""

    async def in_progress(self) -> None:
        """It is being dealt with: do not deliver it again yet."""


@dataclass(slots=True)
class _Held:
    """A command between its delivery and its acknowledgement."""

    delivery: Delivery
    """The latest: acknowledging an earlier one is of no use."""
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Desk:
    """Carries every command out once.

    How many are held at a time is bounded by the consumer's ``max_ack_pending``; the rest waits in the stream.
    """

    client: Client
    fleet: Fleet
    journal: Journal
    outbox: Outbox
    _held: dict[str, _Held] = field(default_factory=dict)
    _waiting: dict[str, list[asyncio.Future[bytes]]] = field(default_factory=dict)

    def expect(self, identity: str) -> asyncio.Future[bytes]:
        """The response to a command that is on its way here."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(identity, []).append(future)
        return future

    def forget(self, identity: str, future: asyncio.Future[bytes]) -> None:
        """Nobody waits for it any more."""
        futures = self._waiting.get(identity, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(identity, None)

    async def received(self, body: bytes, subject: str, sequence: int, delivery: Delivery) -> None:
        """One delivery. Returns once the command waits for its agent's turn, so that agents do not wait for each other."""
        command = reading.read(body, subject, str(derived_id("command", subject, str(sequence))))
        identity = reading.identity(subject, command.command_id)
        if (held := self._held.get(identity)) is not None:
            held.delivery = delivery
            return
        if (known := self.journal.outcome(identity)) is not None:
            log.info("command.repeated", command_id=command.command_id, agent_id=command.agent_id)
            await self._answer(identity, subject, command.command_id, known)
            await delivery.ack()
            return
        now = self.fleet.world.clock()
        self._held[identity] = held = _Held(delivery)
        asked = reading.sender(subject)
        outcome: Outcome | asyncio.Future[Outcome]
        if isinstance(command, Unreadable):
            details = {"errors": [one.model_dump(exclude_none=True) for one in command.errors]} if command.errors else {}
            outcome = Refused(command.code, command.message, details)
        elif now >= command.expires_at:
            outcome = Refused("expired", f"expired at {command.expires_at.isoformat()}")
        else:
            outcome = self._submit(command, asked.user, asked.tenant, identity)
        held.task = asyncio.create_task(self._see_through(identity, subject, command, outcome, now), name=f"command-{identity}")

    def _submit(self, command: Command, user: str, tenant: str, identity: str) -> Outcome | asyncio.Future[Outcome]:
        keeper = self.fleet.find(tenant, command.agent_id)
        if keeper is None and command.command == "register":
            keeper = self.fleet.introduced(tenant, command.agent_id)
        if keeper is None:
            return Refused("unknown_agent", f"no agent {command.agent_id!r} of tenant {tenant!r}")
        job = Job(command, user, identity, asyncio.get_running_loop().create_future())
        if not keeper.submit(job):
            return Refused("refused", f"too many commands wait for {command.agent_id}")
        return job.outcome

    async def _see_through(
        self,
        identity: str,
        subject: str,
        command: Command | Unreadable,
        outcome: Outcome | asyncio.Future[Outcome],
        began: datetime,
    ) -> None:
        try:
            finished = outcome if isinstance(outcome, Done | Refused) else await outcome
            await self._finish(identity, subject, command, finished, began)
        except Exception:
            LOOP_ERRORS.labels("desk").inc()
            log.exception("command.unfinished", command_id=command.command_id, agent_id=command.agent_id)
        finally:
            self._held.pop(identity, None)

    async def _finish(
        self, identity: str, subject: str, command: Command | Unreadable, outcome: Outcome, began: datetime
    ) -> None:
        asked = reading.sender(subject)
        keeper = self.fleet.find(asked.tenant, command.agent_id)
        if keeper is not None:
            # Whoever is answered may look at once: let them find what they are told.
            await self.fleet.world.states.stored(keeper.agent.key, _STORED_S)
        now = self.fleet.world.clock()
        name = command.command
        response = respond(command, outcome, now)
        audit = AuditRecord(
            audit_id=str(derived_id("audit", identity)),
            at=now,
            tenant_id=asked.tenant,
            agent_id=asked.agent,
            actor=asked.user,
            action=name,
            params=dict(command.params) if isinstance(command, Command) else {},
            outcome=response.status,
            reason=response.error.message if response.error else "",
            command_id=command.command_id,
            duration_ms=(now - began).total_seconds() * 1000,
        )
        data = response.model_dump_json(exclude_none=True).encode()
        self.journal.finish(identity, data, (audit_record(audit),), now)
        self.outbox.wake()
        label = name if isinstance(command, Command) else _UNKNOWN
        COMMANDS.labels(label, response.status).inc()
        COMMAND_SECONDS.labels(label).observe((now - began).total_seconds())
        log.info(
            "command.finished",
            command=name,
            command_id=command.command_id,
            agent_id=command.agent_id,
            by=asked.user,
            status=response.status,
            error=response.error.message if response.error else None,
        )
        await self._answer(identity, subject, command.command_id, data)
        await self._held[identity].delivery.ack()

    async def _answer(self, identity: str, subject: str, command_id: str, data: bytes) -> None:
        for future in self._waiting.pop(identity, []):
            if not future.done():
                future.set_result(data)
        try:
            await self.client.publish(subjects.command_response(command_id), data)
            await self.client.publish(subjects.command_response_to(reading.sender(subject).user, command_id), data)
        except (nats.errors.Error, OSError) as error:
            log.warning("command.response_lost", command_id=command_id, error=repr(error))

    async def renew(self) -> None:
        """For ever tells NATS that held commands are being dealt with."""
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            for held in list(self._held.values()):
                try:
                    await held.delivery.in_progress()
                except (nats.errors.Error, OSError) as error:
                    log.debug("command.not_renewed", error=repr(error))

    async def close(self) -> None:
        """Gives up what is held: it stays in the stream for the next manager."""
        tasks = [held.task for held in self._held.values() if held.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def respond(command: Command | Unreadable, outcome: Outcome, now: datetime) -> CommandResponse:
    """``outcome`` in the words of the wire."""
    done = isinstance(outcome, Done)
    return CommandResponse(
        status="success" if done else "error",
        command=command.command,
        agent_id=command.agent_id,
        command_id=command.command_id,
        result=outcome.result if isinstance(outcome, Done) else None,
        error=None
        if isinstance(outcome, Done)
        # It may quote what was asked; an answer that cannot be made would bring the command back for ever.
        else CommandError(code=outcome.code, message=outcome.message[:8192].replace("\x00", "\ufffd"), details=outcome.details),
        timestamp=now,
    )
