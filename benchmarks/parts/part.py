"""What a part is, and what it is given."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.forms import Form
from benchmarks.system import System

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a part works with."""

    form: Form
    directory: Path
    """Of this part alone, removed afterwards."""
    kept: Path
    """Stays: what takes long to make."""
    say: Callable[[str], None]
    """Progress."""
    soak_minutes: float = 60
    soak_rate: int = 1_000
    """Events a second."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part."""

    name: str
    about: str
    keys: tuple[str, ...]
    """Of the results, it alone writes these."""
    run: Callable[[Bench], Awaitable[Figures]]
    unasked: bool = True
    """Whether it runs when nobody names it."""
    ours: bool = True
    """Whether it must succeed: what others' software does is not ours to promise."""


async def softly(say: Callable[[str], None], measured: Coroutine[Any, Any, Any]) -> Figures:
    """The figures of one measurement (a dataclass), or why there are none: one that fails does not take the others along."""
    try:
        return asdict(await measured)
    except Exception as error:  # noqa: BLE001
        reason = f"{type(error).__name__}: {error}"
        say(f"failed: {reason}")
        return {"failed": reason}


class Running:
    """``async with Running(system)``: started, and stopped whatever happens."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def __aenter__(self) -> System:
        try:
            await self._system.start()
        except BaseException:
            await self._system.stop()
            raise
        return self._system

    async def __aexit__(self, *_: object) -> None:
        await self._system.stop()
