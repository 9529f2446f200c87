"""Watching versions: which have been well for long enough, and which trials are over or to be taken back."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog

from agent_manager.healing.verdict import Fit
from agent_manager.lifecycle import telling
from agent_manager.lifecycle.fleet import Fleet
from agent_manager.lifecycle.jobs import Job, Refused
from agent_manager.lifecycle.keeper import Keeper
from agent_manager.outbox import audit_record
from agent_manager.registry.trial import Pass, TakeBack, judged
from schemas.commands import Command
from schemas.ids import derived_id
from schemas.versions import Canary

log = structlog.get_logger(__name__)

_BY: Final = "canary"
_LASTING: Final = timedelta(minutes=5)


class Trials:
    """Looks at every managed agent, every ``every_s``."""

    def __init__(self, fleet: Fleet, good_after: timedelta, every_s: float) -> None:
        self._fleet = fleet
        self._good_after = good_after
        self._every_s = every_s
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                await asyncio.sleep(self._every_s)
                for keeper in self._fleet.keepers():
                    if keeper.agent.record is not None:
                        self._look(keeper)
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _look(self, keeper: Keeper) -> None:
        agent, now = keeper.agent, keeper.agent.world.clock()
        registry, instance = agent.world.registry, agent.instance
        verdict = agent.verdict(now)
        if (
            instance is not None
            and isinstance(verdict, Fit)
            and now - max(verdict.since, instance.started_at) >= self._good_after
        ):
            registry.good(agent.key, instance.version, now)
        history = registry.versions(agent.key)
        if history is None or history.canary is None or agent.key in self._under_way:
            return
        state = agent.state
        if state is None or state.desired == "stopped":
            return
        found = judged(
            history.canary,
            agent.seen(),
            running=instance.version if instance else None,
            error_rate=agent.observation.metrics.error_rate if agent.observation else None,
            patience=agent.world.timings.patience,
            now=now,
        )
        if isinstance(found, Pass):
            log.info("canary.passed", agent_id=agent.agent_id, version=history.canary.version)
            registry.passed(agent.key, found.reason, now)
            self._record(keeper, "canary_passed", f"{history.canary.version}: {found.reason}", now, success=True)
        elif isinstance(found, TakeBack):
            log.warning("canary.taken_back", agent_id=agent.agent_id, version=history.canary.version, reason=found.reason)
            self._under_way[agent.key] = asyncio.create_task(
                self._take_back(keeper, history.canary, found.reason, now), name=f"take-back-{agent.key}"
            )

    async def _take_back(self, keeper: Keeper, trial: Canary, reason: str, now: datetime) -> None:
        """By the way every command goes: in the agent's own task, in its turn."""
        agent = keeper.agent
        try:
            identity = str(derived_id("take-back", agent.key, trial.version, trial.began_at.isoformat(), now.isoformat()))
            command = Command(
                command_id=identity,
                command="rollback",
                agent_id=agent.agent_id,
                params={"version": trial.previous, "reason": f"{trial.version} was on trial: {reason}"},
                timestamp=now,
                expires_at=now + _LASTING,
            )
            job = Job(command, _BY, identity, asyncio.get_running_loop().create_future())
            if not keeper.submit(job):
                return
            outcome = await job.outcome
            told = f"{trial.version} taken back: {reason}"
            if isinstance(outcome, Refused):
                told += f"; {trial.previous} did not come up: {outcome.message}"
            self._record(keeper, "canary_taken_back", told, agent.world.clock(), success=not isinstance(outcome, Refused))
        finally:
            self._under_way.pop(agent.key, None)

    @staticmethod
    def _record(keeper: Keeper, action: str, reason: str, at: datetime, *, success: bool) -> None:
        agent = keeper.agent
        agent.world.outbox.put(
            audit_record(
                telling.automatic(
                    tenant=agent.tenant_id, agent=agent.agent_id, actor=_BY, action=action, success=success, reason=reason, at=at
                )
            )
        )
