"""Where Phoenix and MLflow are installed: on demand, apart from everything else, and kept."""

import asyncio
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PYPROJECT: Final = Path(__file__).resolve().parents[2] / "pyproject.toml"
_EXTRA: Final = "bench"
_TELLS: Final = 2


class NotInstalledError(RuntimeError):
    """The peers are not there and could not be installed. The message says what was tried; trying again may help."""


def wanted() -> list[str]:
    """What the extra ``bench`` asks for."""
    extras = tomllib.loads(_PYPROJECT.read_text())["project"]["optional-dependencies"]
    found: list[str] = extras.get(_EXTRA, [])
    return found


async def _run(*command: str, within_s: float) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        async with asyncio.timeout(within_s):
            told, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise NotInstalledError(f"not installed within {within_s:g} s") from error
    if process.returncode != 0:
        lines = [line for line in told.decode("utf-8", "replace").splitlines() if line.startswith("ERROR")] or ["no reason told"]
        raise NotInstalledError(f"pip could not install them: {' '.join(lines[-_TELLS:])[:300]}")


async def interpreter(kept: Path, *, install: bool, say: Callable[[str], None], within_s: float = 900) -> Path:
    """The Python that has the peers; installed into ``kept`` where it is missing and may be. Raises NotInstalledError."""
    directory = kept / ".venv-bench"
    python, done = directory / "bin" / "python", directory / "installed.txt"
    asked = "\n".join(wanted())
    if python.exists() and done.exists() and done.read_text() == asked:
        return python
    if not install:
        raise NotInstalledError("not installed: `make bench` installs them")
    if not asked:
        raise NotInstalledError(f"pyproject.toml has no extra {_EXTRA!r}")
    say("installing Phoenix and MLflow (a gigabyte, once)")
    kept.mkdir(parents=True, exist_ok=True)
    await _run(sys.executable, "-m", "venv", str(directory), within_s=120)
    await _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted(), within_s=within_s)
    done.write_text(asked)
    return python
