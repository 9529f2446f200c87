"""Looking through the agent folders again and again, and telling registry and fleet what was found."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from agent_manager.discovery.folders import Folders
from agent_manager.lifecycle.fleet import Fleet
from agent_manager.registry.register import Register
from streams.kv import agent_key

log = structlog.get_logger(__name__)


class Lookout:
    """Looks now, and every ``interval_s``. A problem is told once, until it is another."""

    def __init__(
        self, folders: Folders, register: Register, fleet: Fleet, interval_s: float, clock: Callable[[], datetime]
    ) -> None:
        self._folders = folders
        self._register = register
        self._fleet = fleet
        self._interval_s = interval_s
        self._clock = clock
        self._told: frozenset[str] = frozenset()

    def look(self) -> None:
        """One look."""
        found = self._folders.look(self._clock())
        by_command = self._register.by_command()
        seen = [*(self._register.take(record, self._clock()) for record in found.records), *by_command]
        for kept in seen:
            keeper = self._fleet.find(kept.tenant_id, kept.agent_id)
            if keeper is None or keeper.agent.record != kept or not keeper.agent.has_manifest:
                self._fleet.described(kept)
        if found.complete:
            self._fleet.manifests_seen({agent_key(record.tenant_id, record.agent_id) for record in seen})
        self._fleet.problems = found.problems
        for problem in found.problems:
            if str(problem) not in self._told:
                log.error(
                    "manifest.refused",
                    file=problem.file,
                    field=problem.field,
                    value=problem.value,
                    problem=problem.message,
                    advice=problem.advice,
                )
        self._told = frozenset(str(problem) for problem in found.problems)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            self.look()
