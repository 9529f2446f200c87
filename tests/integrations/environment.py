"""Where the frameworks are installed: apart from AgentOps, as they are beside a real agent, and kept.

An agent's process has nothing of ours in it, and its packages are not ours to choose: they need other versions of some of
ours. Made when a test first needs it, from locks with hashes, and again when those change.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).resolve().parent
VENV: Final = HERE.parents[1] / ".venv-integrations"
LOCK: Final = HERE / "frameworks.lock"
BESIDE_LOCK: Final = HERE / "beside.lock"
BESIDE: Final = VENV / "beside"
"""A folder for ``PYTHONPATH``: the last release of openai-v2 works with an older ``opentelemetry-util-genai`` only, and
OpenLLMetry's package answers to the same name as OpenTelemetry's own."""
_WITHIN_S: Final = 900


class NotInstalledError(Exception):
    """The frameworks are not there and could not be installed; the message says why. Trying again may help."""


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotInstalledError(f"{' '.join(command[:4])} … did not end within {_WITHIN_S} s") from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise NotInstalledError(f"{' '.join(command[:4])} … failed: {' '.join(lines[-3:])[:500]}")


def _install() -> Path:
    python, stamp = VENV / "bin" / "python", VENV / "installed.sha256"
    wanted = hashlib.sha256(sys.version.encode() + LOCK.read_bytes() + BESIDE_LOCK.read_bytes()).hexdigest()
    VENV.mkdir(exist_ok=True)
    with (VENV / "installing.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return python
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes"]
        _run(sys.executable, "-m", "venv", str(VENV))
        _run(*pip, "-r", str(LOCK))
        _run(*pip, "--no-deps", "--upgrade", "--target", str(BESIDE), "-r", str(BESIDE_LOCK))
        stamp.write_text(wanted)
    return python


def interpreter() -> Path:
    """The Python that has the frameworks. Where there is no package index the test is skipped, in CI it fails."""
    try:
        return _install()
    except NotInstalledError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the frameworks are not installed: {error}")
