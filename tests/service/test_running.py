import asyncio
import contextlib
import gc

import pytest
from structlog.testing import capture_logs

from service.running import run


def test_the_result_is_handed_on_and_an_error_raised() -> None:
    async def fails() -> None:
        raise ValueError("no")

    assert run(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ValueError, match="no"):
        run(fails())


def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost: list[int] = []
    ended: list[int] = []

    async def losing() -> None:
        try:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if lost:
                        raise
                    lost.append(1)
        finally:
            ended.append(1)

    async def main() -> None:
        main.task = asyncio.create_task(losing())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    with capture_logs() as told:
        run(main())
    assert (lost, ended, told) == ([1], [1], [])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_that_never_ends_is_told_and_left() -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    async def main() -> None:
        main.task = asyncio.create_task(stubborn(), name="stubborn")  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    with capture_logs() as told:
        run(main(), within_s=0.3)
    assert [(entry["event"], entry["task"]) for entry in told] == [("service.task_left", "stubborn")]
    main.__dict__.clear()
    gc.collect()
