"""Running a service's event loop to its end, also where a task will not end."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

import structlog

log = structlog.get_logger(__name__)

_FIRST_S: Final = 0.5
_AGAIN_S: Final = 0.2

Result = TypeVar("Result")


async def end(tasks: Iterable[asyncio.Task[Any]], within_s: float) -> None:
    """Cancels ``tasks`` and waits for them; tells of those that have not ended ``within_s``.

    Cancels more than once: on Python 3.11 a client that reconnects may lose a cancellation, and try for ever.
    """
    deadline, pause_s, left = time.monotonic() + within_s, _FIRST_S, {task for task in tasks if not task.done()}
    while left and time.monotonic() < deadline:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=min(pause_s, within_s))
        pause_s = _AGAIN_S
    for task in left:
        log.error("service.task_left", task=task.get_name(), coroutine=repr(task.get_coro()))


async def _end_all(within_s: float) -> None:
    await end(asyncio.all_tasks() - {asyncio.current_task()}, within_s)


def run(
    main: Coroutine[Any, Any, Result], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    within_s: float = 5.0,
) -> Result:  # fmt: skip
    """``asyncio.run`` for a service that must end when it is asked to: what does not end ``within_s`` is told in the log, and left."""
    loop = loop_factory()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(_end_all(within_s))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
