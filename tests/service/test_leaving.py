import asyncio
import subprocess
import sys


async def test_leaving_writes_what_was_said_and_waits_for_nothing() -> None:
    code = (
        "import atexit, sys; atexit.register(print, 'late'); print('said', end=''); from service.leaving import leave; leave(3)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    told, _ = await process.communicate()
    assert (process.returncode, told) == (3, b"said")
