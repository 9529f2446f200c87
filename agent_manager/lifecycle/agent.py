"""One agent as the manager holds it: what it should be, what was heard of it, its instance, and what can be done to it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from agent_manager.drivers.driver import Driver, Exit, Instance, LaunchError
from agent_manager.healing import faults
from agent_manager.healing.roll import Roll
from agent_manager.healing.verdict import Fit, Verdict, judge
from agent_manager.lifecycle import states
from agent_manager.lifecycle.book import Book
from agent_manager.lifecycle.reconcile import Absent, Alive, Ended, Seen, status_of
from agent_manager.outbox import Outbox
from agent_manager.registry.register import Register
from schemas.budgets import BudgetFlag
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from streams.kv import agent_key

log = structlog.get_logger(__name__)

_STORED_S = 1.0
"""A launch is noted in NATS first, but a NATS that is away does not keep an agent down for longer than this."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things may take."""

    tick: timedelta
    patience: timedelta
    verify: timedelta


@dataclass(frozen=True, slots=True)
class World:
    """What an agent's task acts through."""

    driver: Driver[Instance]
    states: Book[AgentState]
    faults: Book[FaultSet]
    outbox: Outbox
    registry: Register
    timings: Timings
    data: Path
    clock: Callable[[], datetime]
    draw: Callable[[], float]
    """A number in [0, 1)."""
    calm: Callable[[], bool]
    """Whether silence may be held against an agent."""
    awake_since: Callable[[], datetime]
    """When we last came back from being away, or began."""
    roll: Roll
    """How all agents stand."""
    flags: Mapping[str, BudgetFlag]
    """Exhausted budgets that refuse, as they are now."""


@dataclass(slots=True)
class Agent:
    """One agent. Only its keeper's task calls what changes it; ``heard`` and ``wake`` may come from anywhere."""

    tenant_id: str
    agent_id: str
    world: World
    record: AgentRecord | None = None
    """None: known only by what is observed, not managed here."""
    has_manifest: bool = False
    observation: Observation | None = None
    instance: Instance | None = None
    ended: Ended | None = None
    """How it went without being asked, since the last start."""
    confirmed: bool = False
    was_fit: bool = False
    watched_since: datetime | None = None
    """When the present instance was started or adopted by us."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> str:
        """Its key in every bucket."""
        return agent_key(self.tenant_id, self.agent_id)

    @property
    def state(self) -> AgentState | None:
        """What the manager says of it."""
        return self.world.states.get(self.key)

    def described(self, record: AgentRecord) -> None:
        """Its manifest was found; a first time decides whether it should run."""
        self.record, self.has_manifest = record, True
        if self.state is None:
            now = self.world.clock()
            self.world.states.put(
                self.key,
                AgentState(
                    agent_id=self.agent_id,
                    tenant_id=self.tenant_id,
                    desired="running" if record.autostart else "stopped",
                    status="stopped",
                    reason="registered",
                    healing_enabled=record.healing.enabled,
                    version=record.version,
                    updated_at=now,
                ),
            )
        self.wake.set()

    def forgotten(self) -> None:
        """It is not managed any more."""
        self.record, self.has_manifest, self.ended = None, False, None
        self.world.states.remove(self.key)

    def heard(self, observation: Observation | None) -> None:
        """Health has judged."""
        before, self.observation = self.observation, observation
        if before is None or observation is None or _telling(before) != _telling(observation) or not self._settled():
            self.wake.set()

    def _settled(self) -> bool:
        return self.confirmed and self.was_fit

    def note(self, **changes: Any) -> None:
        """Changes what is said of it; written only when it differs."""
        state = self.state
        assert state is not None, "managed agents have a state"
        if all(getattr(state, name) == value for name, value in changes.items()):
            return
        self.world.states.put(self.key, state.model_copy(update={**changes, "updated_at": self.world.clock()}))

    def verdict(self, now: datetime) -> Verdict:
        """What health says of the present instance."""
        started_at = self.instance.started_at if self.instance else None
        return judge(self.observation, started_at=started_at, verify_within=self.silence, now=now)

    def look(self) -> None:
        """Sees whether the instance still lives, and what is said of it."""
        now = self.world.clock()
        if self.instance is None:
            return
        exit_ = self.world.driver.observe(self.instance)
        if exit_ is not None and self.ended is None:
            self.ended = Ended(f"sidecar {exit_.reason}" if self.instance.driver == "local" else exit_.reason, exit_.at)
            log.warning("agent.ended", agent_id=self.agent_id, instance_id=self.instance.instance_id, reason=exit_.reason)
            self.note(pid=None, process_created_at=None)
        if exit_ is None:
            self.note(**self.world.driver.told(self.instance))
        if exit_ is None and isinstance(self.verdict(now), Fit):
            self.was_fit = self.confirmed = True

    def seen(self) -> Seen:
        """What ``look`` found."""
        if self.ended is not None:
            return self.ended
        if self.instance is None:
            return Absent()
        since = self.watched_since or self.instance.started_at
        return Alive(since, self.confirmed, self.was_fit, self.verdict(self.world.clock()))

    def show_status(self) -> None:
        """Says the state it is seen in, by legal moves."""
        state = self.state
        assert state is not None, "managed agents have a state"
        wanted, reason = status_of(self.seen(), gave_up=state.gave_up)
        if wanted == state.status == "stopped":
            return
        status = states.route(state.status, wanted)
        self.note(status=status, reason=reason if status == wanted else "")
        if status != wanted:
            self.wake.set()

    async def check(self) -> bool:
        """Whether the instance has answered, asking its door if it has not yet."""
        if self.instance is None or self.ended is not None:
            return False
        seen = self.observation
        if seen is not None and seen.status == "running" and seen.updated_at > self.instance.started_at:
            self.confirmed = True
        if not self.confirmed:
            self.confirmed = await self.world.driver.answers(self.instance)
        return self.confirmed

    async def reachable(self) -> bool:
        """Whether the instance's own sidecar answers at its door now; of what runs elsewhere nothing of the kind is known."""
        here = self.instance is not None and self.instance.driver == "local"
        return here and self.ended is None and self.instance is not None and await self.world.driver.answers(self.instance)

    def clock_jumped(self, by: timedelta) -> None:
        """The clock was set: what was noted by it moves along, so that as much time has passed as before."""
        if self.instance is not None:
            self.instance = replace(self.instance, started_at=self.instance.started_at + by)
        if self.watched_since is not None:
            self.watched_since += by
        if self.ended is not None:
            self.ended = replace(self.ended, at=self.ended.at + by)
        state = self.state
        if state is not None:
            self.note(recent_restarts=tuple(at + by for at in state.recent_restarts))

    async def launch(self, instance_id: str, reason: str, *, again: bool = False) -> None:
        """Starts a new instance, ``again``: in place of an earlier one. On failure ``ended`` says why. The plan is noted first."""
        assert self.record is not None, "only managed agents are launched"
        state = self.state
        assert state is not None, "managed agents have a state"
        self.note(status=states.route(state.status, "starting"), reason=reason, instance_id=instance_id)
        await self.world.states.stored(self.key, _STORED_S)
        self.instance, self.ended, self.confirmed, self.was_fit = None, None, False, False
        try:
            self.instance = instance = await self.world.driver.start(
                self.record, instance_id, state, restarted=reason if again else ""
            )
        except LaunchError as error:
            self.ended = Ended(f"could not be started: {error}", self.world.clock())
            log.error("agent.launch_failed", agent_id=self.agent_id, reason=str(error))
            self.note(pid=None, process_created_at=None)
            return
        self.watched_since = instance.started_at
        self._note_instance(instance)
        log.info("agent.launched", agent_id=self.agent_id, reason=reason, **self._where())

    def adopted(self, instance: Instance) -> None:
        """An earlier manager's instance lives."""
        self.instance, self.watched_since = instance, self.world.clock()
        self._note_instance(instance)
        log.info("agent.adopted", agent_id=self.agent_id, instance_id=instance.instance_id, **self._where())

    def _note_instance(self, instance: Instance) -> None:
        self.note(
            instance_id=instance.instance_id,
            started_at=instance.started_at,
            version=instance.version,
            **self.world.driver.told(instance),
        )

    def _where(self) -> dict[str, Any]:
        """Where the instance runs, for the log."""
        state = self.state
        assert state is not None, "managed agents have a state"
        named = {"pid": state.pid, "resource": state.resource, "revision": state.revision, "proxy_url": state.proxy_url}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def patience(self) -> timedelta:
        """How long a new instance may take to come up."""
        own = self.record.cloud_run if self.record and self.record.driver == "cloud_run" else None
        return self.world.timings.patience if own is None else timedelta(seconds=own.start_timeout_s)

    @property
    def silence(self) -> timedelta:
        """How long an instance may take to answer at all."""
        own = self.record is not None and self.record.driver != "local"
        return max(self.world.timings.verify, self.patience) if own else self.world.timings.verify

    async def end(self, patience_s: float | None = None, *, restarting: str = "") -> Exit | None:
        """Ends the instance and everything left of it; None when there was none. ``restarting``: why another follows at once.

        Raises StopError; the instance is then still there.
        """
        instance = self.instance
        if instance is None:
            self.ended = None
            return None
        if patience_s is None:
            patience_s = self.record.stop_timeout_s if self.record else 5.0
        exit_ = await self.world.driver.stop(instance, patience_s, restarting=restarting)
        self.instance, self.ended, self.confirmed, self.was_fit = None, None, False, False
        where = self._where()
        self.note(pid=None, process_created_at=None)
        log.info("agent.stopped", agent_id=self.agent_id, reason=exit_.reason, **where)
        return exit_

    def set_faults(self, wanted: tuple[Any, ...]) -> None:
        """Asks the sidecar for exactly these faults."""
        now = self.world.clock()
        self.world.faults.put(self.key, FaultSet(agent_id=self.agent_id, tenant_id=self.tenant_id, faults=wanted, updated_at=now))

    async def clear_faults(self, kind: str | None = None) -> tuple[str, ...]:
        """Takes faults back; returns the kinds that were active."""
        active = faults.active(self.world.faults.get(self.key), self.world.clock())
        kept, gone = faults.cleared(active, kind)
        if gone:
            self.set_faults(kept)
            await self.world.faults.stored(self.key, _STORED_S)
        return tuple(fault.kind for fault in gone)

    async def pause(self, seconds: float) -> None:
        """Waits for something to be heard, at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return
        finally:
            self.wake.clear()


def _telling(observation: Observation) -> tuple[object, ...]:
    return observation.health, observation.status, observation.since, observation.reason
