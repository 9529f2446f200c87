"""What each command does to an agent."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from agent_manager.commands import parameters, registry
from agent_manager.drivers import output
from agent_manager.drivers.driver import StopError
from agent_manager.healing import faults, incidents
from agent_manager.healing.verdict import Fit, Sick
from agent_manager.lifecycle.agent import Agent
from agent_manager.lifecycle.jobs import Done, Job, Outcome, Refused
from agent_manager.lifecycle.keeper import Keeper
from schemas.commands import FaultParams
from schemas.ids import derived_id
from schemas.model import Instant, Text, Wire
from schemas.sections import FaultKind
from service.instruments import RESTARTS

_STORED_S = 5.0
"""A change that sidecars read must be in NATS before it is called done."""
_LOOK_S = 0.1


class NoParams(Wire):
    """Commands without parameters take a reason, for the audit trail."""

    reason: Text | None = None


class ClearParams(Wire):
    """``params`` of ``clear_faults``."""

    kind: FaultKind | None = None
    reason: Text | None = None


class HealingParams(Wire):
    """``params`` of ``set_healing``."""

    enabled: bool
    reason: Text | None = None


class MaintenanceParams(Wire):
    """``params`` of ``set_maintenance``; no ``until`` ends it."""

    until: Instant | None = None
    reason: Text | None = None


async def carry_out(keeper: Keeper, job: Job) -> Outcome:
    """Carries ``job`` out on the keeper's agent; called in its task, so nothing else happens to the agent meanwhile."""
    agent = keeper.agent
    if agent.world.clock() >= job.command.expires_at:
        return Refused("expired", f"expired at {job.command.expires_at.isoformat()}, before its turn came")
    match job.command.command:
        case "status":
            found = parameters.read(NoParams, job)
            return found if isinstance(found, Refused) else Done(status(agent))
        case "inject_fault":
            return await _inject(agent, job)
        case "clear_faults":
            return await _clear(agent, job)
        case "register":
            return await registry.register(agent, job)
        case _ if agent.record is None:
            return Refused("refused", f"{agent.agent_id} is not run by this manager: it has no agent.yaml here")
        case "set_healing":
            return await _set_healing(agent, job)
        case "set_maintenance":
            return await _set_maintenance(agent, job)
        case "update":
            return await registry.update(agent, job)
        case "delete":
            return await registry.delete(agent, job)
        case "promote":
            return await registry.promote(agent, job)
        case "rollback":
            return await _swap(agent, job, await registry.rollback(agent, job))
        case "canary":
            return await _swap(agent, job, await registry.canary(agent, job))
    found = parameters.read(NoParams, job)
    if isinstance(found, Refused):
        return found
    try:
        return await _run(keeper, job)
    except StopError as error:
        return Refused("failed", f"could not be stopped: {error}")


async def _run(keeper: Keeper, job: Job) -> Outcome:
    """What starts and ends instances."""
    agent = keeper.agent
    if job.command.command == "stop":
        return await _stop(agent, job)
    if not agent.has_manifest:
        return Refused("refused", f"the manifest of {agent.agent_id} is gone; put its agent.yaml back")
    match job.command.command:
        case "start":
            return await _start(agent, job)
        case "restart":
            return await _restart(agent, job)
        case _:
            return await _recover(keeper, job)


def status(agent: Agent) -> dict[str, Any]:
    """Everything known of an agent, JSON-like."""
    active = faults.active(agent.world.faults.get(agent.key), agent.world.clock())
    parts: dict[str, BaseModel | None] = {"record": agent.record, "state": agent.state, "observation": agent.observation}
    told: dict[str, Any] = {name: part.model_dump(mode="json", exclude_none=True) for name, part in parts.items() if part}
    told["faults"] = [fault.model_dump(mode="json", exclude_none=True) for fault in active]
    return told


def _result(agent: Agent, **more: Any) -> dict[str, Any]:
    state = agent.state
    assert state is not None
    told = {
        "status": state.status,
        "pid": state.pid,
        "agent_pid": None if state.pid is None else output.agent_pid(agent.world.data, agent.agent_id, state.pid),
        "instance_id": state.instance_id,
        "proxy_url": state.proxy_url,
        "sidecar_url": state.sidecar_url,
        "resource": state.resource,
        "revision": state.revision,
        "logs_url": state.logs_url,
        "started_at": None if state.started_at is None else state.started_at.isoformat(),
    }
    return {name: value for name, value in (told | more).items() if value is not None}


def _wanted_again(agent: Agent) -> None:
    """A person asks for it: earlier failures are forgotten."""
    agent.note(desired="running", gave_up=False, recent_restarts=())


def _instance_of(job: Job) -> str:
    return str(derived_id("instance", job.identity))


async def _up(agent: Agent) -> Outcome:
    """Waits until the instance answers; a start that ends early or never answers is told with its output."""
    deadline = agent.world.clock() + agent.patience
    while True:
        agent.look()
        if agent.ended is not None:
            local = agent.record is not None and agent.record.driver == "local"
            tail = output.tail(agent.world.data, agent.agent_id) if local else ""
            return Refused("failed", agent.ended.reason, {"output": tail} if tail else {})
        if await agent.check():
            agent.show_status()
            return Done(_result(agent))
        if agent.world.clock() >= deadline:
            patience = agent.patience.total_seconds()
            who = "its sidecar did not answer" if agent.instance and agent.instance.driver == "local" else "it did not come up"
            return Refused("timeout", f"started, but {who} within {patience:g} s", _result(agent))
        await agent.pause(_LOOK_S)


async def _start(agent: Agent, job: Job) -> Outcome:
    _wanted_again(agent)
    agent.look()
    if agent.instance is not None and agent.ended is None:
        outcome = await _up(agent)
        if isinstance(outcome, Done) and agent.instance.instance_id != _instance_of(job):
            return Done(outcome.result | {"already_running": True})
        return outcome
    await agent.end()
    await agent.launch(_instance_of(job), f"started by {job.by}")
    return await _up(agent)


async def _stop(agent: Agent, job: Job) -> Outcome:
    agent.note(desired="stopped", incident=None if incidents.is_open(_incident(agent)) else _incident(agent))
    exit_ = await agent.end()
    agent.show_status()
    agent.note(reason=f"stopped by {job.by}")
    if exit_ is None:
        return Done({"status": "stopped", "already_stopped": True})
    told = {"status": "stopped", "exit_code": exit_.code, "signal": exit_.signal, "reason": exit_.reason}
    return Done({name: value for name, value in told.items() if value is not None})


def _incident(agent: Agent) -> Any:
    return agent.state.incident if agent.state else None


async def _renew(agent: Agent, job: Job, reason: str) -> None:
    """A new instance in place of the present one; delivered twice, the command finds its own instance there."""
    _wanted_again(agent)
    agent.look()
    instance = agent.instance
    if instance is not None and agent.ended is None and instance.instance_id == _instance_of(job):
        return
    await agent.end(restarting=reason)
    state = agent.state
    assert state is not None
    RESTARTS.labels(agent.agent_id, "command").inc()
    agent.note(restarts=state.restarts + 1)
    await agent.launch(_instance_of(job), reason, again=True)


async def _restart(agent: Agent, job: Job) -> Outcome:
    await _renew(agent, job, f"restarted by {job.by}")
    return await _up(agent)


async def _swap(agent: Agent, job: Job, chosen: Done | Refused | registry.Swap) -> Outcome:
    """Another version in place of the present one, where one was chosen; an agent that is stopped gets it at its next start."""
    if not isinstance(chosen, registry.Swap):
        return chosen
    state = agent.state
    if state is None or state.desired == "stopped":
        return Done(chosen.told | {"restarted": False})
    await _renew(agent, job, f"{chosen.why} by {job.by}")
    outcome = await _up(agent)
    if isinstance(outcome, Refused):
        return Refused(outcome.code, f"version {chosen.told['version']} is current now, but: {outcome.message}", outcome.details)
    return Done(outcome.result | chosen.told | {"restarted": True})


async def _recover(keeper: Keeper, job: Job) -> Outcome:
    """Clears faults, restarts, and waits for HEALTHY."""
    agent = keeper.agent
    now = agent.world.clock()
    verdict = agent.verdict(now)
    incident = _incident(agent)
    if not incidents.is_open(incident) and isinstance(verdict, Sick):
        incident = incidents.opened(began_at=verdict.began_at, detected_at=now, reason=verdict.reason)
    if incidents.is_open(incident):
        agent.note(incident=incidents.acted(incident, at=now, action=f"recover by {job.by}"))
    cleared = await agent.clear_faults()
    await _renew(agent, job, f"recovered by {job.by}")
    outcome = await _up(agent)
    if isinstance(outcome, Refused):
        return outcome
    deadline = now + agent.silence
    while True:
        agent.look()
        if agent.ended is not None:
            return Refused("failed", agent.ended.reason)
        verdict = agent.verdict(agent.world.clock())
        if isinstance(verdict, Fit):
            took = (agent.world.clock() - now).total_seconds()
            return Done(_result(agent, health="HEALTHY", cleared=list(cleared), took_s=round(took, 3)))
        if keeper.has_waiting():
            return Refused("failed", f"restarted, not yet HEALTHY ({verdict.reason}) when the next command came", _result(agent))
        if agent.world.clock() >= deadline:
            limit = agent.silence / timedelta(seconds=1)
            return Refused("timeout", f"restarted, but not HEALTHY within {limit:g} s: {verdict.reason}", _result(agent))
        await agent.pause(_LOOK_S * 5)


async def _set_healing(agent: Agent, job: Job) -> Outcome:
    params = parameters.read(HealingParams, job)
    if isinstance(params, Refused):
        return params
    agent.note(healing_enabled=params.enabled)
    await agent.world.states.stored(agent.key, _STORED_S)
    return Done({"healing_enabled": params.enabled})


async def _set_maintenance(agent: Agent, job: Job) -> Outcome:
    params = parameters.read(MaintenanceParams, job)
    if isinstance(params, Refused):
        return params
    if params.until is not None and params.until <= agent.world.clock():
        return Refused(
            "invalid", f"params.until: must lie ahead (found {params.until.isoformat()}); give a later moment, or none to end it"
        )
    agent.note(maintenance_until=params.until)
    await agent.world.states.stored(agent.key, _STORED_S)
    return Done({"maintenance_until": None if params.until is None else params.until.isoformat()})


async def _inject(agent: Agent, job: Job) -> Outcome:
    params = parameters.read(FaultParams, job)
    if isinstance(params, Refused):
        return params
    now = agent.world.clock()
    fault = faults.requested(params, fault_id=str(derived_id("fault", job.identity)), by=job.by, now=now)
    wanted = faults.added(faults.active(agent.world.faults.get(agent.key), now), fault)
    agent.set_faults(wanted)
    if not await agent.world.faults.stored(agent.key, _STORED_S):
        return Refused("failed", "NATS did not store the fault in time; it is asked for as soon as NATS is back")
    return Done({"fault": fault.model_dump(mode="json", exclude_none=True), "active": [one.kind for one in wanted]})


async def _clear(agent: Agent, job: Job) -> Outcome:
    params = parameters.read(ClearParams, job)
    if isinstance(params, Refused):
        return params
    gone = await agent.clear_faults(params.kind)
    if not await agent.world.faults.stored(agent.key, _STORED_S):
        return Refused("failed", "NATS did not store the change in time; it is written as soon as NATS is back")
    active = faults.active(agent.world.faults.get(agent.key), agent.world.clock())
    return Done({"cleared": list(gone), "active": [one.kind for one in active]})
