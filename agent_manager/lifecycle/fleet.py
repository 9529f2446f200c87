"""Every agent the manager knows, each with its keeper."""

import asyncio
from datetime import timedelta

import structlog

from agent_manager.discovery.manifest import ManifestProblem
from agent_manager.lifecycle.agent import Agent, World
from agent_manager.lifecycle.keeper import CarryOut, Keeper
from schemas.sections import AgentStatus
from schemas.state import AgentRecord, Observation
from streams.kv import agent_key

log = structlog.get_logger(__name__)


class Fleet:
    """Agents by key. Keepers run from ``begin`` to ``close``."""

    def __init__(self, world: World, carry_out: CarryOut) -> None:
        self.world = world
        self.problems: tuple[ManifestProblem, ...] = ()
        """What was wrong with manifests at the last look."""
        self._carry_out = carry_out
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running = False

    def keepers(self) -> list[Keeper]:
        """Every keeper, by key."""
        return [self._keepers[key] for key in sorted(self._keepers)]

    def find(self, tenant: str, agent: str) -> Keeper | None:
        """The keeper of one agent."""
        return self._keepers.get(agent_key(tenant, agent))

    def named(self, agent: str, tenant: str | None) -> list[Keeper]:
        """The keepers of agents with this id, of one tenant or of all."""
        return [
            keeper
            for keeper in self._keepers.values()
            if keeper.agent.agent_id == agent and tenant in {None, keeper.agent.tenant_id}
        ]

    def _keeper(self, tenant: str, agent: str) -> Keeper:
        key = agent_key(tenant, agent)
        keeper = self._keepers.get(key)
        if keeper is None:
            self._keepers[key] = keeper = Keeper(Agent(tenant, agent, self.world), self._carry_out)
            if self._running:
                self._run(key, keeper)
        return keeper

    def _run(self, key: str, keeper: Keeper) -> None:
        self._tasks[key] = asyncio.create_task(keeper.run(), name=f"keeper-{key}")

    def introduced(self, tenant: str, agent: str) -> Keeper:
        """The keeper of one agent, known or about to be registered."""
        return self._keeper(tenant, agent)

    async def remembered(self, record: AgentRecord) -> None:
        """An agent the registry knows: adopted if it runs. Whether its manifest is still there is seen later."""
        agent = self._keeper(record.tenant_id, record.agent_id).agent
        if agent.state is None:
            agent.described(record)
            agent.has_manifest = False
        agent.record = record
        state = agent.state
        assert state is not None
        instance = await self.world.driver.adopt(record, state)
        if instance is not None:
            agent.adopted(instance)
        elif state.pid is not None:
            log.warning("agent.not_found", agent_id=record.agent_id, pid=state.pid)
            agent.note(pid=None, process_created_at=None)

    def described(self, record: AgentRecord) -> None:
        """A manifest was found."""
        self._keeper(record.tenant_id, record.agent_id).agent.described(record)

    def manifests_seen(self, keys: set[str]) -> None:
        """Only these have a manifest. One that runs on without is left alone, but not started again."""
        here = {key.partition(".")[2] for key in keys}
        for key, keeper in self._keepers.items():
            agent = keeper.agent
            if agent.record is None or key in keys or not agent.has_manifest:
                continue
            agent.has_manifest = False
            log.warning("manifest.gone", agent_id=agent.agent_id, tenant_id=agent.tenant_id)
            if agent.agent_id in here:
                # It moved to another tenant: two of it must not run.
                agent.note(desired="stopped", reason="its manifest names another tenant now")
                agent.wake.set()

    def heard(self, key: str, observation: Observation | None) -> None:
        """Health has judged an agent, ours or not."""
        tenant, _, agent = key.partition(".")
        if observation is None and key not in self._keepers:
            return
        self._keeper(tenant, agent).agent.heard(observation)

    def wake_all(self) -> None:
        """Something changed for all of them."""
        for keeper in self._keepers.values():
            keeper.agent.wake.set()

    def clock_jumped(self, by: timedelta) -> None:
        """The clock was set by so much."""
        for keeper in self._keepers.values():
            keeper.clock_jumped(by)
        self.wake_all()

    def begin(self) -> None:
        """Keepers start keeping."""
        self._running = True
        for key, keeper in self._keepers.items():
            if key not in self._tasks:
                self._run(key, keeper)

    async def close(self) -> None:
        """Keepers stop where they are; agents run on."""
        self._running = False
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def stop_agents(self, within_s: float) -> None:
        """Stops every agent at once, after ``close``. What is desired stays desired: the next manager resumes it."""

        async def one(agent: Agent) -> None:
            patience = agent.record.stop_timeout_s if agent.record else within_s
            await agent.end(min(patience, max(0.1, within_s - 2.0)))
            status: AgentStatus = "stopped"
            agent.note(status=status, reason="stopped with the manager")

        managed = [keeper.agent for keeper in self._keepers.values() if keeper.agent.record is not None]
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(one(agent) for agent in managed), return_exceptions=True)
        except TimeoutError:
            log.error("agents.stop_slow", after_s=within_s)
