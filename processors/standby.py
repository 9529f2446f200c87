"""One instance at work, the others ready: for processors whose output no coverage record fences.

Two at once would tell twice what is derived from a clock, write older state over newer, and undo each other's flags. The lease
keeps all but one from working. An instance that hung and wakes up knows by its own clock that its lease may be another's by now:
it asks for its turn before it writes, and steps back where it has lost it.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol

import nats.errors
import structlog
from nats.aio.client import Client

from processors.leases import Leases
from processors.runner import Processor, ProcessorContext
from service.instruments import FENCED
from streams.covering import FencedError

log = structlog.get_logger(__name__)

_ONLY: Final = 0
"""These processors have one partition."""
_LOOK_S: Final = 0.25
"""How often a standby looks whether a silent lease has become free."""
_DOUBT_S: Final = 0.1
_PARTING_S: Final = 1.0
"""How long an instance that is asked to stop waits to know whether it may still write."""
_AGAIN: Final = (nats.errors.Error, TimeoutError, OSError)


class Turn(Protocol):
    """Whose turn it is to write."""

    async def mine(self) -> None:
        """Returns when this instance is the one at work beyond doubt. Raises FencedError when it is not; it must write no more then."""


class OneAtWork:
    """A processor that is made and run while the lease is held, and stopped when it is lost. ``make`` takes its turn."""

    def __init__(self, name: str, context: ProcessorContext, make: Callable[[Turn], Processor]) -> None:
        self._name = name
        self._context = context
        self._make = make
        self._client: Client | None = None
        self._leases: Leases | None = None
        self._inner: Processor | None = None
        self._at_work = False
        self._waiting = {"lease": "not looked at yet"}
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def name(self) -> str:
        """The processor's own."""
        return self._name

    def waiting_for(self) -> dict[str, str]:
        """What keeps it from its work. Standing by is work."""
        return dict(self._waiting) if self._inner is None else self._inner.waiting_for()

    def standing(self) -> dict[str, str]:
        """Whether this instance is at work or stands by."""
        if self._leases is None:
            return {}
        if self._at_work:
            how = "active"
        elif self._inner is not None:
            how = "taking over"
        else:
            how = f"standby: {self._leases.holder(_ONLY)} is at work"
        return {f"partition {_ONLY}": how}

    async def start(self) -> None:
        """Connects, and begins to hear of the other instances."""
        self._stopping.clear()
        self._client = await self._context.connect(f"processor-{self._name}-lease")
        self._leases = Leases(self._client, self._name, self._context.instance)
        await self._leases.start()

    async def run(self) -> None:
        """Works while the lease is held, stands by while it is another's. Raises what the processor raises."""
        self._ended.clear()
        try:
            while await self._hold():
                if not await self._lead():
                    return
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Lets the processor finish, then gives the lease back."""
        self._stopping.set()
        # One that is about to start sees the stop itself; stopped half-way it would go on without a connection.
        if self._inner is not None and self._at_work:
            await self._inner.stop()
        await self._ended.wait()
        leases, self._leases = self._leases, None
        if leases is not None:
            await leases.stop()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def mine(self) -> None:
        """See ``Turn``. While NATS is away it waits: then nobody else can take over, and nothing can be written."""
        leases, loop = self._leases, asyncio.get_running_loop()
        if leases is not None and leases.sure(_ONLY):
            return
        began = loop.time()
        while leases is not None and leases.holds(_ONLY):
            if leases.sure(_ONLY):
                return
            if self._stopping.is_set() and loop.time() - began > _PARTING_S:
                raise FencedError("whose turn it is cannot be found out any more")
            await asyncio.sleep(_DOUBT_S)
        raise FencedError("another instance is at work")

    async def _hold(self) -> bool:
        """Stands by until the lease is held; False when asked to stop first."""
        leases, told = self._leases, False
        assert leases is not None, "start() first"
        while not self._stopping.is_set():
            try:
                if await leases.take(_ONLY):
                    return True
                self._waiting = {}
            except _AGAIN as error:
                self._waiting = {"lease": f"{type(error).__name__}: {error}"}
                await self._rest(_LOOK_S)
                continue
            if not told:
                told = True
                log.info("processor.standby", processor=self._name, behind=leases.holder(_ONLY))
            await leases.changed(_LOOK_S)
        return False

    async def _lead(self) -> bool:
        """Works as long as the lease is held; whether to stand by for it again."""
        inner = self._inner = self._make(self)
        tasks: list[asyncio.Task[None]] = []
        try:
            await inner.start()
            if self._stopping.is_set():
                return False
            self._at_work = True
            work = asyncio.create_task(inner.run(), name=self._name)
            tasks = [work, asyncio.create_task(self._lost(), name=f"{self._name}-lost")]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await inner.stop()
            await work
        except FencedError as error:
            if not self._stopping.is_set():
                FENCED.labels(self._name).inc()
                log.warning("processor.fenced", processor=self._name, reason=str(error))
                await self._rest(random.uniform(0.05, 0.5))
            return True
        else:
            # One that ends by itself is the supervisor's business.
            return self._leases is None or not self._leases.holds(_ONLY)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self._at_work = False
            await inner.stop()
            self._inner = None

    async def _lost(self) -> None:
        while self._leases is not None and self._leases.holds(_ONLY):
            await self._leases.changed(_LOOK_S)

    async def _rest(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return
