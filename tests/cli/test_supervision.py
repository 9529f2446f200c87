"""Children of ``agentops up``, one at a time."""

import asyncio
from pathlib import Path

import psutil
import pytest

from agent_manager.cli.up.plan import Alive, Child
from agent_manager.cli.up.supervision import Supervised, last_words
from tests.conftest import until


async def test_a_child_that_was_just_being_started_when_all_had_to_stop_does_not_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child("sleeper", ("-c", "import time; time.sleep(600)"), {}, Alive(), 0)
    supervised = Supervised(child, tmp_path, lambda _: None, lambda: None)
    plain = asyncio.create_subprocess_exec
    born = asyncio.Event()
    go_on = asyncio.Event()
    pids: list[int] = []

    async def slow(*arguments: str, **options: object) -> asyncio.subprocess.Process:
        process = await plain(*arguments, **options)  # type: ignore[arg-type]
        pids.append(process.pid)
        born.set()
        await go_on.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    keeping = asyncio.create_task(supervised.keep())
    await born.wait()
    assert await supervised.stop(1)
    go_on.set()
    async with asyncio.timeout(5):
        await keeping
    await until(lambda: not psutil.pid_exists(pids[0]), "it is gone")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"event": "manager.ready", "level": "info"}', ""),
        ('{"event": "up.loop_failed", "level": "error", "error": "no room"}', "up loop failed: no room"),
        ("MemoryError", "MemoryError"),
        ("", ""),
    ],
)
def test_the_last_words_of_a_child_are_told_if_they_say_something(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "child.log").write_text(f"begin\n{line}\n" if line else "")
    assert last_words(tmp_path / "child.log") == words
