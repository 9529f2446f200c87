"""The one task of an agent: carries out its commands in order, and in between keeps it as it should be."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Literal
from uuid import uuid4

import structlog

from agent_manager.healing import incidents, maintenance
from agent_manager.healing.backoff import remembered
from agent_manager.healing.verdict import Fit, Sick
from agent_manager.healing.withholding import FleetUnwell, NeedsOthers, OutOfEarshot, UnderMaintenance, Withheld, money_spent
from agent_manager.lifecycle import telling
from agent_manager.lifecycle.agent import Agent
from agent_manager.lifecycle.jobs import Job, Outcome, Refused
from agent_manager.lifecycle.reconcile import (
    Alive,
    Circumstances,
    Ended,
    GiveUp,
    Leave,
    Restart,
    Seen,
    Start,
    Stop,
    decide,
    standing,
)
from agent_manager.outbox import audit_record, event_record
from service.instruments import DETECT_SECONDS, LOOP_ERRORS, RECOVER_SECONDS, RESTARTS

log = structlog.get_logger(__name__)

CarryOut = Callable[["Keeper", Job], Awaitable[Outcome]]

MOST_WAITING = 100
"""Commands that may wait for one agent; beyond it a command is refused."""
_COMING_UP_S = 0.1
"""How often a new instance is asked whether it answers."""


class Keeper:
    """Keeps one agent. Everything that changes the agent happens in ``run``'s task, one thing at a time."""

    def __init__(self, agent: Agent, carry_out: CarryOut) -> None:
        self.agent = agent
        self._carry_out = carry_out
        self._jobs: deque[Job] = deque()
        self._draw = agent.world.draw()
        self._verify_by: datetime | None = None
        self._acted_at: datetime | None = None
        self._withheld: type[Withheld] | None = None

    def submit(self, job: Job) -> bool:
        """Queues a command; False when too many wait already."""
        if len(self._jobs) >= MOST_WAITING:
            return False
        self._jobs.append(job)
        self.agent.wake.set()
        return True

    def clock_jumped(self, by: timedelta) -> None:
        """The clock was set by so much."""
        self.agent.clock_jumped(by)
        if self._verify_by is not None:
            self._verify_by += by
        if self._acted_at is not None:
            self._acted_at += by

    def has_waiting(self) -> bool:
        """Whether another command waits behind the present one."""
        return bool(self._jobs)

    async def run(self) -> None:
        """For ever."""
        agent = self.agent
        while True:
            wake_at: datetime | None = None
            try:
                if self._jobs:
                    await self._job(self._jobs.popleft())
                elif agent.record is not None:
                    wake_at = await self._turn()
            except Exception:
                LOOP_ERRORS.labels("keeper").inc()
                log.exception("keeper.failed", agent_id=agent.agent_id)
                await asyncio.sleep(1)
            if not self._jobs:
                await agent.pause(self._rest_s(wake_at))

    def _rest_s(self, wake_at: datetime | None) -> float:
        agent = self.agent
        rest = agent.world.timings.tick.total_seconds()
        if agent.record is None:
            return 60.0
        if agent.instance is not None and agent.ended is None and not agent.confirmed:
            rest = min(rest, _COMING_UP_S)
        if wake_at is not None:
            rest = min(rest, max(0.001, (wake_at - agent.world.clock()).total_seconds()))
        return rest

    async def _job(self, job: Job) -> None:
        try:
            outcome = await self._carry_out(self, job)
        except asyncio.CancelledError:
            # The manager is going: the command was not acknowledged, and the next manager carries it out.
            job.outcome.cancel()
            raise
        except Exception as error:
            LOOP_ERRORS.labels("command").inc()
            log.exception("command.crashed", agent_id=self.agent.agent_id, command_id=job.command.command_id)
            outcome = Refused("failed", f"{type(error).__name__}: {error}")
        if self.agent.record is not None:
            self.agent.look()
            self.agent.show_status()
        if not job.outcome.done():
            job.outcome.set_result(outcome)

    async def _turn(self) -> datetime | None:
        """Observe, decide, act, record; returns when to look again at the latest."""
        agent = self.agent
        agent.look()
        await agent.check()
        seen, now = agent.seen(), agent.world.clock()
        self._follow(seen, now)
        state = agent.state
        assert state is not None
        assert agent.record is not None
        stands = standing(state.desired, seen, state.recent_restarts, gave_up=state.gave_up)
        agent.world.roll.stands(agent.key, stands, agent.record.dependencies)
        withheld = await self._why_not(seen, now)
        decision = decide(state.desired, seen, self._circumstances(withheld), now)
        self._tell_withheld(decision.withheld if isinstance(decision, Leave) else None, now)
        wake_at: datetime | None = None
        match decision:
            case Leave():
                wake_at = decision.wake_at
            case Start():
                # An earlier manager may have been killed between noting a launch and launching.
                planned = state.instance_id if state.status == "starting" else None
                await agent.launch(planned or uuid4().hex, decision.reason)
            case Stop():
                await agent.end()
            case Restart():
                await self._heal(decision)
            case GiveUp():
                self._give_up(decision, now)
        agent.show_status()
        return wake_at

    async def _why_not(self, seen: Seen, now: datetime) -> Withheld | None:
        """What speaks against restarting an agent that is in trouble."""
        agent = self.agent
        state, record, roll = agent.state, agent.record, agent.world.roll
        assert state is not None
        assert record is not None
        verdict = seen.verdict if isinstance(seen, Alive) else None
        if not isinstance(seen, Ended) and not isinstance(verdict, Sick):
            return None
        until = maintenance.ends_at(record.maintenance, state.maintenance_until, now)
        if until is not None:
            return UnderMaintenance(until)
        if down := roll.down(agent.key):
            return NeedsOthers(down)
        if spent := money_spent(agent.world.flags.values(), record, now):
            return spent
        if isinstance(verdict, Sick) and verdict.absent and await agent.reachable():
            return OutOfEarshot()
        unwell = roll.unwell()
        gone = isinstance(seen, Ended) or (isinstance(verdict, Sick) and verdict.ended)
        if unwell is None or (gone and not state.recent_restarts) or roll.trial_due(now):
            return None
        return FleetUnwell(*unwell)

    def _tell_withheld(self, withheld: Withheld | None, now: datetime) -> None:
        """Says once that nothing is done about it, and why."""
        kind = None if withheld is None else type(withheld)
        agent = self.agent
        if kind is self._withheld and (kind is not None or agent.state is None or agent.state.withheld is None):
            return
        self._withheld = kind
        if withheld is None:
            agent.note(withheld=None)
            return
        log.warning("healing.withheld", agent_id=agent.agent_id, reason=withheld.reason)
        agent.note(withheld=withheld.reason)
        self._record("withhold", success=True, reason=withheld.reason, cause="healing")
        roll = agent.world.roll
        if isinstance(withheld, FleetUnwell) and not roll.held:
            roll.held = True
            assert agent.record is not None
            agent.world.outbox.put(event_record(telling.fleet_unwell(agent.record, withheld, roll.limits, now)))

    def _circumstances(self, withheld: Withheld | None) -> Circumstances:
        agent = self.agent
        state, record = agent.state, agent.record
        assert state is not None
        assert record is not None
        return Circumstances(
            policy=record.healing,
            healing_enabled=state.healing_enabled,
            gave_up=state.gave_up,
            restarts=state.recent_restarts,
            draw=self._draw,
            calm=agent.world.calm(),
            has_manifest=agent.has_manifest,
            patience=agent.patience,
            silence=agent.silence,
            awake_since=agent.world.awake_since(),
            withheld=withheld,
        )

    def _follow(self, seen: Seen, now: datetime) -> None:
        """Opens and closes the incident, forgets old restarts, checks on a verification."""
        agent = self.agent
        state, record = agent.state, agent.record
        assert state is not None
        assert record is not None
        incident = state.incident
        verdict = seen.verdict if isinstance(seen, Alive) else None
        quiet = maintenance.ends_at(record.maintenance, state.maintenance_until, now) is not None
        if state.desired == "running" and not quiet and not incidents.is_open(incident):
            began = None
            if isinstance(verdict, Sick):
                began, reason = verdict.began_at, verdict.reason
            elif isinstance(seen, Ended):
                began, reason = seen.at, seen.reason
            if began is not None:
                incident = incidents.opened(began_at=began, detected_at=now, reason=reason)
                DETECT_SECONDS.observe(incident.time_to_detect_s or 0.0)
                log.warning("incident.opened", agent_id=agent.agent_id, reason=reason, time_to_detect_s=incident.time_to_detect_s)
                agent.note(incident=incident)
        if isinstance(verdict, Fit):
            if incident is not None and incidents.is_open(incident):
                acted = incident.acted_at or incident.detected_at
                incident = incidents.recovered(incident, at=verdict.since if verdict.since > acted else now)
                RECOVER_SECONDS.observe(incident.time_to_recover_s or 0.0)
                log.info("incident.recovered", agent_id=agent.agent_id, time_to_recover_s=incident.time_to_recover_s)
                agent.note(incident=incident)
            if self._verify_by is not None:
                self._verified(success=True, now=now, reason="HEALTHY again")
        elif self._verify_by is not None and now >= self._verify_by:
            self._verified(success=False, now=now, reason=f"not HEALTHY {agent.silence.total_seconds():g} s after it")
        healthy_since = None
        if isinstance(verdict, Fit) and agent.instance is not None:
            healthy_since = max(verdict.since, agent.instance.started_at)
        kept = remembered(state.recent_restarts, record.healing, healthy_since=healthy_since, now=now)
        if kept != state.recent_restarts:
            agent.note(recent_restarts=kept)

    def _verified(self, *, success: bool, now: datetime, reason: str) -> None:
        self._verify_by = None
        took = (now - self._acted_at).total_seconds() * 1000 if self._acted_at else None
        (log.info if success else log.warning)("healing.verified", agent_id=self.agent.agent_id, success=success, reason=reason)
        self._record("verify", success=success, reason=reason, duration_ms=took, cause="healing")

    async def _heal(self, decision: Restart) -> None:
        """Clears faults where health asked for it, restarts, and has it verified."""
        agent = self.agent
        began = agent.world.clock()
        state = agent.state
        assert state is not None
        RESTARTS.labels(agent.agent_id, decision.cause).inc()
        agent.world.roll.tried(began)
        log.warning("healing.restart", agent_id=agent.agent_id, reason=decision.reason, attempt=decision.attempt)
        cleared = await agent.clear_faults() if decision.cause == "unhealthy" else ()
        why = telling.healed(decision.reason)
        await agent.end(restarting=why)
        self._draw = agent.world.draw()
        at = agent.world.clock()
        incident = state.incident
        if incident is not None and incidents.is_open(incident):
            incident = incidents.acted(incident, at=at, action=f"restarted by self-healing ({decision.attempt})")
        agent.note(restarts=state.restarts + 1, recent_restarts=(*state.recent_restarts, at), incident=incident)
        await agent.launch(uuid4().hex, why, again=True)
        now = agent.world.clock()
        self._acted_at, self._verify_by = began, now + agent.silence
        what = f"{decision.reason}; cleared {', '.join(cleared)}" if cleared else decision.reason
        took = (now - began).total_seconds() * 1000
        cause: Literal["healing", "reconcile"] = "healing" if decision.cause == "unhealthy" else "reconcile"
        self._record("restart", success=agent.ended is None, reason=what, duration_ms=took, cause=cause)

    def _give_up(self, decision: GiveUp, now: datetime) -> None:
        agent = self.agent
        log.error("healing.gave_up", agent_id=agent.agent_id, reason=decision.reason)
        agent.note(gave_up=True)
        assert agent.record is not None
        agent.world.outbox.put(event_record(telling.gave_up(agent.record, decision.reason, decision.restarts, now)))
        self._record("give_up", success=False, reason=decision.reason, cause="healing")

    def _record(
        self, action: str, *, success: bool, reason: str, cause: Literal["healing", "reconcile"], duration_ms: float | None = None
    ) -> None:
        agent = self.agent
        agent.world.outbox.put(
            audit_record(
                telling.automatic(
                    tenant=agent.tenant_id,
                    agent=agent.agent_id,
                    actor=cause,
                    action=action,
                    success=success,
                    reason=reason,
                    at=agent.world.clock(),
                    duration_ms=duration_ms,
                )
            )
        )
