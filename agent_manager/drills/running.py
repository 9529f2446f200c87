"""Running a drill: step by step, faults taken back whatever happens, and what came of it written down."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from agent_manager.cli.failure import CommandFailedError
from agent_manager.drills import conditions
from agent_manager.drills.conditions import Holds, Not
from agent_manager.drills.field import Field
from agent_manager.drills.plan import Condition, Drill, Inject, Step
from agent_manager.drills.score import Line, Report, wrong_restarts

_LOOK_S: Final = 0.2
_MONEY_S: Final = 5.0
"""Between two looks at what was spent: it asks the warehouse."""
_SETTLED_S: Final = 20.0
"""For the audit to find everything counted after the last step."""


class AbortedError(Exception):
    """An abort condition holds, or a step on which the rest depends failed. The message says which."""


@dataclass(slots=True)
class Running:
    """One drill under way. ``patience`` stretches every limit, for machines that are slow; what is told stays in real seconds."""

    drill: Drill
    ground: Field
    tenant: str | None = None
    patience: float = 1.0
    lines: list[Line] = field(default_factory=list)
    _targets: tuple[str, ...] = ()
    _injected_at: datetime | None = None
    _money_at: float = 0.0
    _clock: float = 0.0

    async def run(self) -> Report:
        """The whole drill; raises CommandFailedError only where it could not begin."""
        loop = asyncio.get_running_loop()
        self._clock = loop.time()
        await self.ground.look()
        self._targets = self.ground.targets(self.drill.targets, self.tenant)
        before, given_up = self.ground.restarts(), self.ground.given_up()
        await self.ground.listen()
        aborted = ""
        try:
            # A person asks for them: what earlier drills did to them is forgotten.
            await self._tell("start", {"reason": self._reason()})
            for step in self.drill.steps:
                await self._step(step)
        except (AbortedError, CommandFailedError) as error:
            aborted = str(error)
        finally:
            await self.ground.clear(self._targets)
        await self._end(before, given_up)
        return Report(
            name=self.drill.name,
            description=self.drill.description,
            targets=tuple(key.partition(".")[2] for key in self._targets),
            began_at=self.ground.began_at,
            ended_at=datetime.now(UTC),
            lines=tuple(self.lines),
            aborted=aborted,
        )

    def _reason(self) -> str:
        return f"drill {self.drill.name}"

    async def _tell(self, command: str, params: dict[str, JsonValue]) -> None:
        for response in await self.ground.tell(self._targets, command, params):  # type: ignore[arg-type]
            if response.status == "error":
                raise AbortedError(f"{response.agent_id}: {command} failed: {response.error.message if response.error else ''}")

    async def _step(self, step: Step) -> None:
        if step.inject is not None:
            await self._inject(step.inject)
        elif step.wait_for is not None:
            line = await self._until(step.wait_for, "wait for", scored=False)
            if line.outcome == "not done":
                raise AbortedError(f"{line.step} did not come about: {line.message}")
        elif step.expect is not None:
            await self._until(step.expect, "expect", scored=True)
        elif step.clear is not None:
            await self._tell("clear_faults", {} if step.clear == "all" else {"kind": step.clear})
            self.lines.append(Line(f"clear {step.clear}", "done"))
        elif step.pause is not None:
            end = asyncio.get_running_loop().time() + step.pause
            while (left := end - asyncio.get_running_loop().time()) > 0:
                await self._watch(min(left, _LOOK_S))
            self.lines.append(Line(f"pause {step.pause:g} s", "done"))

    async def _inject(self, asked: Inject) -> None:
        given = asked.model_dump(exclude_none=True, exclude={"fault", "duration"})
        params = {"kind": asked.fault, "duration_s": asked.duration, "reason": self._reason(), **given}
        self._injected_at = datetime.now(UTC)
        await self._tell("inject_fault", params)
        self.lines.append(Line(f"inject {asked.fault}", "done"))

    async def _until(self, wanted: Condition, word: str, *, scored: bool) -> Line:
        loop = asyncio.get_running_loop()
        began = loop.time()
        limit = wanted.within if wanted.stays is not None else wanted.within * self.patience
        while True:
            await self._watch(_LOOK_S)
            found = conditions.met(wanted, self.ground.sight(self._targets, self._injected_at))
            took = loop.time() - began
            if wanted.stays is not None:
                if isinstance(found, Not) or took >= limit:
                    break
            elif isinstance(found, Holds) or took >= limit:
                break
        good = isinstance(found, Holds)
        done = "passed" if good else "failed"
        line = Line(
            f"{word} {wanted.told}",
            done if scored else "done" if good else "not done",  # type: ignore[arg-type]
            took_s=round(took, 2),
            limit_s=limit,
            message="" if isinstance(found, Holds) else found.reason,
        )
        self.lines.append(line)
        return line

    async def _watch(self, seconds: float) -> None:
        """A moment passes; raises AbortedError where an abort condition holds after it."""
        await asyncio.sleep(seconds)
        await self.ground.look()
        loop, abort = asyncio.get_running_loop(), self.drill.abort
        if loop.time() - self._clock > abort.after * self.patience:
            raise AbortedError(f"it took longer than {abort.after * self.patience:g} s")
        share = conditions.unhealthy_share(self.ground.fleet.observations, self._targets)
        if abort.unhealthy_share is not None and share > abort.unhealthy_share:
            raise AbortedError(f"{share:.0%} of the agents that are no targets are UNHEALTHY")
        if abort.spend_usd is not None and loop.time() - self._money_at > _MONEY_S:
            self._money_at = loop.time()
            if (spent := await self.ground.spent()) > abort.spend_usd:
                raise AbortedError(f"{spent} USD were spent")

    async def _end(self, before: dict[str, int], given_up: int) -> None:
        wanted = self.drill.finally_
        await self.ground.look()
        after = self.ground.restarts()
        if wanted.no_wrong_restart:
            wrong = wrong_restarts(before, after, self._targets)
            told = ", ".join(f"{key.partition('.')[2]} {count} times" for key, count in wrong.items())
            self.lines.append(Line("no wrong restart", "failed" if wrong else "passed", message=told))
        restarted = sum(after.get(key, 0) - before.get(key, 0) for key in self._targets)
        if wanted.most_restarts is not None:
            passed = restarted <= wanted.most_restarts
            told = f"{restarted}; at most {wanted.most_restarts}"
            self.lines.append(Line("restarts of targets", "passed" if passed else "failed", message=told))
        if wanted.no_event_lost:
            await self._nothing_lost(given_up)
        try:
            spent = await self.ground.spent()
        except CommandFailedError as error:
            outcome = "done" if wanted.most_spend_usd is None else "failed"
            self.lines.append(Line("spend", outcome, message=str(error)))  # type: ignore[arg-type]
            return
        if wanted.most_spend_usd is None:
            self.lines.append(Line("spend", "done", message=f"{spent:f} USD"))
        else:
            passed = spent <= wanted.most_spend_usd
            told = f"{spent:f} USD; at most {wanted.most_spend_usd:g}"
            self.lines.append(Line("spend", "passed" if passed else "failed", message=told))

    async def _nothing_lost(self, given_up: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        more = self.ground.given_up() - given_up
        wrong = f"sidecars gave up {more} events" if more > 0 else await self.ground.audited()
        while wrong and more <= 0 and loop.time() - began < _SETTLED_S * self.patience:
            # What is still on its way is not lost.
            await asyncio.sleep(1)
            wrong = await self.ground.audited()
        self.lines.append(
            Line("no event lost", "failed" if wrong else "passed", took_s=round(loop.time() - began, 2), message=wrong)
        )
