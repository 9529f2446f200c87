"""One process, some processors: a crash of one is its own affair."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from processors.runner import HaltedError, Supervised, pause_s
from streams.covering import FencedError
from tests.conftest import until


@dataclass
class Played:
    """A processor that ends each of its lives as told."""

    name: str
    ends: list[Exception | None]
    log: list[str] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self.log.append("start")
        self.stopping.clear()

    async def run(self) -> None:
        end = self.ends.pop(0) if self.ends else None
        if end is not None:
            raise end
        await self.stopping.wait()

    async def stop(self) -> None:
        self.log.append("stop")
        self.stopping.set()

    def waiting_for(self) -> dict[str, str]:
        return {}


async def test_a_crashed_processor_is_closed_and_started_again_and_so_is_a_fenced_one() -> None:
    played = Played("cost", [RuntimeError("boom"), FencedError("another")])
    supervised = Supervised(played)
    assert supervised.waiting_for() == {"cost": "not started yet"}
    task = asyncio.create_task(supervised.keep())
    await until(lambda: supervised.waiting_for() == {"cost": "RuntimeError: boom"}, "it says why")
    await until(lambda: supervised.waiting_for() == {"cost": "another"}, "it says that it is fenced")
    await until(lambda: supervised.waiting_for() == {}, "running again")
    await supervised.stop(task, 1)
    assert played.log == ["start", "stop", "start", "stop", "start", "stop"]


async def test_a_halted_processor_stays_halted_and_says_why() -> None:
    supervised = Supervised(Played("cost", [HaltedError("too many dead letters")]))
    await asyncio.create_task(supervised.keep())
    assert supervised.waiting_for() == {"cost": "halted: too many dead letters"}


async def test_a_processor_that_will_not_stop_is_cancelled() -> None:
    class Stubborn(Played):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    supervised = Supervised(Stubborn("cost", []))
    task = asyncio.create_task(supervised.keep())
    await until(lambda: supervised.waiting_for() == {}, "running")
    await supervised.stop(task, 0.1)
    assert task.done()


async def test_a_processor_that_loses_a_cancellation_is_cancelled_again() -> None:
    class Deaf(Played):
        async def run(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.log.append("lost")
            await asyncio.Event().wait()

    played = Deaf("cost", [])
    supervised = Supervised(played)
    task = asyncio.create_task(supervised.keep())
    await until(lambda: supervised.waiting_for() == {}, "running")
    async with asyncio.timeout(3):
        await supervised.stop(task, 0.1)
    assert task.done()
    assert "lost" in played.log


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_are_bounded_and_are_spread(failures: int, chance: float) -> None:
    assert 0.25 <= pause_s(failures, chance) <= 30
    assert pause_s(failures, chance) <= pause_s(failures + 1, chance)
