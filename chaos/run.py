"""One run: start, load, trouble, settle, judge."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import nats.errors

from chaos import judging, prices
from chaos.disks import Disk
from chaos.figures import Figures
from chaos.journal import Follower
from chaos.progress import Progress
from chaos.recovery import Recovery
from chaos.schedule import SERVER, Action, plan
from chaos.system import Load, System
from chaos.troubles import Troubles
from chaos.verdict import Case, Violation
from processors.runner import ALL
from streams import topology

PRODUCERS: Final = ("producer1", "producer2", "producer3")
_LOOK_S: Final = 0.5
_SETTLE_S: Final = 180.0
_FINISH_S: Final = 100.0
_LONGEST_LATE_S: Final = 600.0
_EVER: Final = {"since": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    seed: int
    seconds: float
    rate: float
    """Events a second."""
    data: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    figures: Figures
    violations: tuple[Violation, ...]


@dataclass(slots=True)
class Run:
    """One run over ``disks``."""

    options: Options
    disks: Sequence[Disk]
    progress: Progress
    system: System = field(init=False)
    troubles: Troubles = field(init=False)
    journals: Follower = field(init=False)
    recovery: Recovery = field(default_factory=Recovery)
    missed: int = 0
    _began: float = 0.0
    _last: str = ""

    def __post_init__(self) -> None:
        self.system = System(self.options.data, self.progress.detail)
        self.troubles = Troubles(self.system, self.disks)
        self.journals = Follower(self.system.journals)

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def all(self) -> Outcome:
        """The whole run. Ends every process it started, whatever happens."""
        try:
            self.progress.now("chaos: starting")
            await self.system.start()
            await self._trouble()
            return await self._judge(*await self._settle())
        finally:
            await self.system.stop()

    async def _trouble(self) -> None:
        """Load and troubles, for the time asked for."""
        options = self.options
        late_s = min(_LONGEST_LATE_S, options.seconds / 3)
        self._began = time.monotonic()
        self.system.load(Load(PRODUCERS, options.seed, options.rate, late_s))
        actions = plan(options.seed, options.seconds, ALL, PRODUCERS)
        watching = asyncio.create_task(self._watch(), name="watch")
        try:
            async with asyncio.TaskGroup() as group:
                for action in actions:
                    await asyncio.sleep(max(0.0, action.at_s - self._now()))
                    group.create_task(self._one(action), name=str(action))
                await asyncio.sleep(max(0.0, options.seconds - self._now()))
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _one(self, action: Action) -> None:
        self.progress.detail(str(action))
        self._last = f"{action.kind} {action.target}"
        if not await self.troubles.happen(action):
            self.missed += 1
        elif action.kind != "clock":
            # A wrong clock is nothing to recover from.
            self.recovery.over(
                self._now(), f"{action.kind} {action.target} at {action.at_s:.0f} s", self.journals.look().billable
            )

    async def _look(self) -> tuple[int, int] | None:
        """Events and ledger entries in the warehouse; takes notice of recoveries."""
        applied = await self.system.applied()
        if applied is None:
            return None
        for each in self.recovery.reached(self._now(), applied.entries):
            self.progress.detail(f"{self._now():7.1f} s  behind us: {each.what}, {each.seconds:.1f} s")
        return applied.events, applied.entries

    async def _watch(self) -> None:
        while True:
            seen, book = await self._look(), self.journals.look()
            stored = "the warehouse does not answer" if seen is None else f"{seen[1]:,} of {book.billable:,} model calls charged"
            counts = self.troubles.counts
            done = " ".join(f"{kind} {counts[kind]}" for kind in ("kill", "stop", "zombie", "disk_full") if counts[kind])
            self.progress.now(
                f"chaos: {self._now():.0f} of {self.options.seconds:.0f} s, {len(book.events):,} acked, {stored}; {done}; {self._last}"
            )
            await asyncio.sleep(_LOOK_S)

    async def _settle(self) -> tuple[float, str | None]:
        """Lets the producers finish and the processors catch up; returns how long that took, and what was still open then."""
        began = self._now()
        self.progress.now("chaos: the producers finish")
        ended = await asyncio.gather(*(self.system.end(name, _FINISH_S) for name in PRODUCERS))
        if not all(ended):
            self.progress.line(
                "chaos: a producer could not get rid of what it held; what it had no acknowledgement for does not count"
            )
        deadline = time.monotonic() + _SETTLE_S + self.options.seconds / 20
        while (why := await self._open()) is not None and time.monotonic() < deadline:
            self.progress.now(f"chaos: settling, {why}")
            await asyncio.sleep(_LOOK_S)
        return self._now() - began, why

    async def _open(self) -> str | None:
        """What is still under way; None when nothing is."""
        seen, book = await self._look(), self.journals.look()
        if seen is None:
            return "the warehouse does not answer"
        try:
            infos = {name: await self.system.client.jsm().stream_info(name) for name in ("TELEMETRY", "EVENTS", "LEDGER")}
        except (nats.errors.Error, TimeoutError, OSError) as error:
            return f"the streams do not answer ({type(error).__name__})"
        if waiting := infos[topology.TELEMETRY].state.messages:
            return f"{waiting:,} messages wait for validate"
        applied = await self.system.applied()
        for name in (topology.EVENTS, topology.LEDGER):
            behind = infos[name].state.last_seq - (applied.sequences.get(name, 0) if applied else 0)
            if behind > 0:
                return f"{behind:,} messages of {name} wait for the warehouse"
        if seen[1] < book.billable:
            return f"{book.billable - seen[1]:,} model calls wait for their charge"
        return f"{self.recovery.waiting} troubles are not behind us" if self.recovery.waiting else None

    async def _judge(self, settled_s: float, unsettled: str | None) -> Outcome:
        case = Case(self.journals.look(), prices.expected)
        await judging.hear(self.system.client, case, lambda text: self.progress.now(f"chaos: {text}"))
        spent = judging.spent(await self.system.ask("spend", by=["tenant"], **_EVER))
        self.progress.now("chaos: agentops audit")
        audit = await self.system.command("audit")
        violations = case.violations(spent, audit, unsettled)
        book = self.journals.book
        return Outcome(
            Figures(
                seed=self.options.seed, seconds=self.options.seconds, acknowledged=len(book.events), repeats=book.repeats,
                dead=case.dead, entries=case.entries, seen_again=case.seen_again, reversed=case.reversed, total=case.ledger_sum, done=dict(self.troubles.counts),
                targets=(*ALL, SERVER, *PRODUCERS), missed=self.missed, longest=self.recovery.longest, settled_s=settled_s,
                lost=case.lost(), doubled=case.doubled(), violations=len(violations),
                sums_equal=case.expected_sum == case.ledger_sum == spent,
            ),
            violations,
        )  # fmt: skip
