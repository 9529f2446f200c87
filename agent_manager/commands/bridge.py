"""The documented request and reply topics, for trusted callers: a way into the durable path, and questions answered."""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import structlog
from pydantic import ValidationError

from agent_manager.commands import actions, reading
from agent_manager.commands.desk import Desk, respond
from agent_manager.commands.reading import BridgeCommand, Unreadable
from agent_manager.lifecycle.jobs import Refused
from agent_manager.lifecycle.keeper import Keeper
from agent_manager.outbox import audit_record
from schemas.commands import AuditRecord
from schemas.errors import field_errors
from schemas.ids import derived_id, is_token
from streams import subjects
from streams.publish import NotStoredError, publish

log = structlog.get_logger(__name__)

USER: Final = "bridge"
"""Who commands from the bridge are recorded as: NATS does not say who sent them."""
_ANSWER_S: Final = 60.0
_TTL: Final = "Nats-TTL"


@dataclass(slots=True)
class Bridge:
    """``agent.manager.command`` and ``agent.manager.query``."""

    desk: Desk
    started_at: datetime

    async def command(self, body: bytes) -> bytes:
        """Puts a command on the durable path and answers with its response; also said on ``agent.manager.response``."""
        data = await self._command(body)
        await self.desk.client.publish(subjects.MANAGER_RESPONSE, data)
        return data

    async def _command(self, body: bytes) -> bytes:
        now = self.desk.fleet.world.clock()
        fresh = uuid4().hex
        try:
            asked = BridgeCommand.model_validate_json(body)
        except ValidationError as error:
            errors = field_errors(error)
            message = "; ".join(one.told() for one in errors[:3])
            return self._refused(Unreadable("invalid", message, fresh, "unknown", "unknown", errors), now)
        command_id = asked.command_id if asked.command_id and is_token(asked.command_id) else fresh
        found = self.desk.fleet.named(asked.agent_id, asked.tenant_id)
        if not found:
            message = f"no agent {asked.agent_id!r}"
            return self._refused(Unreadable("unknown_agent", message, command_id, asked.command, asked.agent_id), now)
        if len(found) > 1:
            tenants = ", ".join(sorted(keeper.agent.tenant_id for keeper in found))
            message = f"several tenants have an agent {asked.agent_id!r} ({tenants}): name tenant_id"
            return self._refused(Unreadable("invalid", message, command_id, asked.command, asked.agent_id), now)
        subject = subjects.command(found[0].agent.tenant_id, USER, asked.agent_id)
        identity = reading.identity(subject, command_id)
        if (known := self.desk.journal.outcome(identity)) is not None:
            return known
        full = reading.complete(asked, command_id, now)
        ttl = max(1, int(((asked.expires_at or now + reading.LASTING) - now).total_seconds()) + 1)
        answer = self.desk.expect(identity)
        try:
            data = json.dumps(full).encode()
            await publish(self.desk.client, subject, data, message_id=identity, headers={_TTL: f"{ttl}s"})
            async with asyncio.timeout(_ANSWER_S):
                return await answer
        except NotStoredError as error:
            unread = Unreadable(
                "failed", f"the command stream did not take it: {error}", command_id, asked.command, asked.agent_id
            )
            return self._refused(unread, now)
        except TimeoutError:
            message = f"no outcome within {_ANSWER_S:g} s; it is still answered on {subjects.command_response(command_id)}"
            unread = Unreadable("timeout", message, command_id, asked.command, asked.agent_id)
            return respond(unread, Refused(unread.code, unread.message), now).model_dump_json(exclude_none=True).encode()
        finally:
            self.desk.forget(identity, answer)

    def _refused(self, unread: Unreadable, now: datetime) -> bytes:
        details = {"errors": [one.model_dump(exclude_none=True) for one in unread.errors]} if unread.errors else {}
        response = respond(unread, Refused(unread.code, unread.message, details), now)
        self.desk.outbox.put(
            audit_record(
                AuditRecord(
                    audit_id=str(derived_id("audit", USER, unread.command_id)),
                    at=now,
                    tenant_id=subjects.UNKNOWN,
                    agent_id=unread.agent_id if is_token(unread.agent_id) else subjects.UNKNOWN,
                    actor=USER,
                    action=unread.command,
                    outcome="error",
                    reason=response.error.message if response.error else "",
                    command_id=unread.command_id,
                )
            )
        )
        return response.model_dump_json(exclude_none=True).encode()

    def query(self, body: bytes) -> bytes:
        """Answers ``{"query": "agents"|"agent"|"status", "agent_id"?, "tenant_id"?}``."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            return _json({"error": {"code": "invalid", "message": 'send {"query": "agents"|"agent"|"status"}'}})
        agent, tenant = asked.get("agent_id"), asked.get("tenant_id")
        match asked.get("query"):
            case "agents":
                return _json({"agents": [_row(keeper) for keeper in self.desk.fleet.keepers()]})
            case "agent" if isinstance(agent, str):
                found = self.desk.fleet.named(agent, tenant if isinstance(tenant, str) else None)
                if len(found) != 1:
                    said = f"no agent {agent!r}" if not found else f"several tenants have an agent {agent!r}: name tenant_id"
                    return _json({"error": {"code": "unknown_agent", "message": said}})
                return _json({"agent": actions.status(found[0].agent)})
            case "agent":
                return _json({"error": {"code": "invalid", "message": "agent_id is missing"}})
            case "status":
                return _json(self._status())
            case other:
                said = f"no query {str(other)[:64]!r}; there are agents, agent, status"
                return _json({"error": {"code": "invalid", "message": said}})

    def _status(self) -> dict[str, Any]:
        fleet = self.desk.fleet
        counts: dict[str, int] = {}
        for keeper in fleet.keepers():
            status = _row(keeper).get("status") or "unknown"
            counts[status] = counts.get(status, 0) + 1
        return {
            "service": "agent_manager",
            "started_at": self.started_at.isoformat(),
            "agents": counts,
            "manifest_problems": [str(problem) for problem in fleet.problems],
        }


def _row(keeper: Keeper) -> dict[str, Any]:
    agent = keeper.agent
    record, state, seen = agent.record, agent.state, agent.observation
    row: dict[str, Any] = {"agent_id": agent.agent_id, "tenant_id": agent.tenant_id, "managed": record is not None}
    if record is not None:
        row |= {"name": record.name, "version": record.version}
    if state is not None:
        row |= {
            "desired": state.desired,
            "status": state.status,
            "reason": state.reason,
            "pid": state.pid,
            "proxy_url": state.proxy_url,
            "restarts": state.restarts,
            "gave_up": state.gave_up,
            "healing_enabled": state.healing_enabled,
        }
    if seen is not None:
        row.setdefault("status", seen.status)
        row |= {"health": seen.health, "latency_ms": seen.metrics.latency_ms, "error_rate": seen.metrics.error_rate}
    return row


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, default=str).encode()
