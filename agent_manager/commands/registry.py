"""What commands change in the registry: an agent's record, its versions, and how far they are trusted."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from agent_manager.commands import parameters
from agent_manager.lifecycle.agent import Agent
from agent_manager.lifecycle.jobs import Done, Job, Outcome, Refused
from agent_manager.registry import promotion, releases
from agent_manager.registry.evaluations import latest_score
from agent_manager.registry.promotion import Evidence
from agent_manager.registry.register import By
from schemas.ids import derived_id
from schemas.state import AgentRecord
from schemas.versions import (
    Asked,
    Canary,
    CanaryParams,
    PromoteParams,
    RegisterParams,
    RollbackParams,
    UpdateParams,
)
from streams.subjects import RESERVED_AGENT_ID

_FIXED = frozenset({"agent_id", "tenant_id", "created_at", "updated_at", "updated_by"})
_NOT_STORED = "NATS did not store the change in time; it is written as soon as NATS is back"


@dataclass(frozen=True, slots=True)
class Swap:
    """The registry says so already; the process is still to follow."""

    why: str
    told: dict[str, Any]


async def register(agent: Agent, job: Job) -> Outcome:
    """A version of an agent, new or known."""
    params = parameters.read(RegisterParams, job)
    if isinstance(params, Refused):
        return params
    now = agent.world.clock()
    # Who and when are the manager's to say.
    said = params.record | {"updated_at": now.isoformat(), "updated_by": job.by, "agent_id": agent.agent_id}
    record = _record(said | {"tenant_id": agent.tenant_id}, "params.record")
    if isinstance(record, Refused):
        return record
    for name, mine in (("agent_id", agent.agent_id), ("tenant_id", agent.tenant_id)):
        if params.record.get(name, mine) != mine:
            return Refused("invalid", f"params.record.{name} is {params.record[name]!r}, the command's subject names {mine}")
    if agent.agent_id == RESERVED_AGENT_ID:
        return Refused("invalid", f"{agent.agent_id} is reserved for the manager's own subjects")
    return await _put(agent, job, params, record, current=params.current)


async def update(agent: Agent, job: Job) -> Outcome:
    """Some fields of the current record, the rest as it was."""
    params = parameters.read(UpdateParams, job)
    if isinstance(params, Refused):
        return params
    if fixed := sorted(_FIXED & params.fields.keys()):
        return Refused("invalid", f"params.fields.{fixed[0]} cannot be changed")
    if unknown := sorted(params.fields.keys() - AgentRecord.model_fields.keys()):
        return Refused(
            "invalid", f"params.fields.{unknown[0]} is no field of an agent; known are {', '.join(AgentRecord.model_fields)}"
        )
    assert agent.record is not None, "judged before"
    said = agent.record.model_dump(mode="json") | params.fields
    record = _record(said, "params.fields")
    return record if isinstance(record, Refused) else await _put(agent, job, params, record, current=True)


def _record(said: dict[str, Any], where: str) -> AgentRecord | Refused:
    try:
        return AgentRecord.model_validate_json(json.dumps(said))
    except ValidationError as error:
        return parameters.refused(error, where)


async def _put(agent: Agent, job: Job, params: Asked, record: AgentRecord, *, current: bool) -> Outcome:
    world = agent.world
    kept = world.registry.record(agent.key)
    before = kept if current else getattr(releases.release(world.registry.versions(agent.key), record.version), "record", None)
    fields = [] if before is None else [one.field for one in releases.differences(before, record)]
    history = world.registry.versions(agent.key)
    if not current and history is not None and history.current == record.version:
        return Refused("refused", f"{record.version} is the current version; what is kept for later needs a version of its own")
    told = {"version": record.version, "current": current or kept is None, "new": kept is None, "changed": fields}
    if params.dry_run:
        return Done(told | {"dry_run": True})
    written = world.registry.put(record, current=current, by=By(job.by, params.reason or ""), now=world.clock())
    if told["current"]:
        agent.described(written)
    return Done(told) if await world.registry.stored(agent.key) else Refused("failed", _NOT_STORED)


async def delete(agent: Agent, job: Job) -> Outcome:
    """An agent that does not run and that no manifest describes is forgotten; its history stays."""
    params = parameters.read(Asked, job)
    if isinstance(params, Refused):
        return params
    history = agent.world.registry.versions(agent.key)
    if agent.has_manifest and (history is None or history.source == "folder"):
        return Refused("refused", f"its agent.yaml is in {_folder(agent)} and would bring it back: remove that first")
    agent.look()
    if agent.instance is not None and agent.ended is None:
        return Refused("refused", f"{agent.agent_id} runs; stop it first")
    told = {"version": agent.record.version if agent.record else None, "versions": list(releases.versions(history))}
    if params.dry_run:
        return Done(told | {"dry_run": True})
    agent.world.registry.delete(agent.key, by=By(job.by, params.reason or ""), now=agent.world.clock())
    agent.forgotten()
    return Done(told) if await agent.world.registry.stored(agent.key) else Refused("failed", _NOT_STORED)


def _folder(agent: Agent) -> str:
    return agent.record.working_directory if agent.record else "its folder"


def _unknown(agent: Agent, version: str) -> Refused:
    known = ", ".join(releases.versions(agent.world.registry.versions(agent.key))) or "none"
    return Refused("refused", f"{agent.agent_id} has no version {version!r} at hand; there are: {known}")


async def promote(agent: Agent, job: Job) -> Outcome:
    """A version rises a stage, where every check passes."""
    params = parameters.read(PromoteParams, job)
    if isinstance(params, Refused):
        return params
    world, now = agent.world, agent.world.clock()
    history = world.registry.versions(agent.key)
    version = params.version or (history.current if history else "")
    chosen = releases.release(history, version)
    if chosen is None:
        return _unknown(agent, version)
    agent.look()
    score = None
    if params.min_score is not None:
        try:
            score = await latest_score(world.outbox.client, agent.tenant_id, agent.agent_id, params.suite, chosen.registered_at)
        except TimeoutError:
            return Refused("timeout", "the evaluations could not be read from EVENTS in time")
    done = promotion.checks(chosen, _evidence(agent, score, now), params, now)
    told = {"version": version, "from": chosen.stage, "to": params.to, "checks": [one.model_dump(mode="json") for one in done]}
    if params.dry_run:
        return Done(told | {"dry_run": True, "would_pass": all(one.passed for one in done)})
    failed = [f"{one.name}: {one.message}" for one in done if not one.passed]
    if failed:
        return Refused("refused", f"{version} stays at {chosen.stage}: {'; '.join(failed)}", told)
    world.registry.promote(agent.key, version, params.to, by=By(job.by, params.reason or ""), now=now)
    return Done(told) if await world.registry.stored(agent.key) else Refused("failed", _NOT_STORED)


def _evidence(agent: Agent, score: float | None, now: datetime) -> Evidence:
    alive = agent.instance is not None and agent.ended is None
    return Evidence(
        running=agent.instance.version if alive and agent.instance else None,
        started_at=agent.instance.started_at if alive and agent.instance else None,
        verdict=agent.verdict(now),
        error_rate=agent.observation.metrics.error_rate if agent.observation else None,
        score=score,
    )


async def rollback(agent: Agent, job: Job) -> Done | Refused | Swap:
    """An earlier version becomes the current one; without a version the last good one before it."""
    params = parameters.read(RollbackParams, job)
    if isinstance(params, Refused):
        return params
    history = agent.world.registry.versions(agent.key)
    if params.version is None:
        good = releases.previous_good(history)
        if good is None:
            return Refused("refused", f"{agent.agent_id} has no earlier version that is known to be good; name one")
        version = good.version
    else:
        version = params.version
    return await _change_to(agent, job, params, version, "rollback", f"rolled back to {version}")


async def canary(agent: Agent, job: Job) -> Done | Refused | Swap:
    """A version on trial in place of the current one; taken back by itself when it is not well."""
    params = parameters.read(CanaryParams, job)
    if isinstance(params, Refused):
        return params
    if params.percent != 100:
        return Refused(
            "invalid",
            f"params.percent is {params.percent}: the {agent.record.driver if agent.record else ''} driver runs one instance of an agent, so a trial takes 100",
        )
    now = agent.world.clock()
    history = agent.world.registry.versions(agent.key)
    if history is not None and history.canary is not None and history.canary.version != params.version:
        return Refused("refused", f"{history.canary.version} is on trial until {history.canary.until.isoformat()}")
    previous = history.canary.previous if history and history.canary else history.current if history else ""
    trial = Canary(
        version=params.version,
        previous=previous,
        began_at=now,
        until=now + timedelta(seconds=params.duration_s),
        max_error_rate=params.max_error_rate,
        by=job.by,
    )
    return await _change_to(agent, job, params, params.version, "canary", f"{params.version} tried", canary=trial)


def _runs(agent: Agent, version: str) -> bool:
    return agent.instance is not None and agent.ended is None and agent.instance.version == version


def _by(agent: Agent, job: Job) -> bool:
    """Whether the present instance is this very command's."""
    return agent.instance is not None and agent.instance.instance_id == str(derived_id("instance", job.identity))


async def _change_to(
    agent: Agent, job: Job, params: Asked, version: str, change: Any, why: str, **more: Any
) -> Done | Refused | Swap:
    registry = agent.world.registry
    history = registry.versions(agent.key)
    chosen = releases.release(history, version)
    if chosen is None or history is None or agent.record is None:
        return _unknown(agent, version)
    fields = [one.field for one in releases.differences(agent.record, chosen.record)]
    told: dict[str, Any] = {"version": version, "previous": history.current, "changed": fields}
    if more.get("canary") is not None:
        told["until"] = more["canary"].until.isoformat()
    if params.dry_run:
        return Done(told | {"dry_run": True})
    # Delivered again after a crash in between, the command finds the version current and only sees to the process.
    if history.current != version or (more and history.canary is None):
        by = By(job.by, params.reason or "")
        agent.record = registry.make_current(agent.key, version, change, by=by, now=agent.world.clock(), **more)
    elif change == "rollback" and _runs(agent, version) and not _by(agent, job):
        return Refused("refused", f"{version} is the current version and runs")
    if not await registry.stored(agent.key):
        return Refused("failed", _NOT_STORED)
    return Swap(why, told)
