"""The command line as a person calls it: a process of its own."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.embedded import EmbeddedServer
from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def failed(self, code: int = 1) -> str:
        """The one sentence of a failure; never a traceback."""
        assert self.code == code, (self.code, self.out, self.err)
        assert "Traceback" not in self.err
        return self.err


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "AGENTOPS_", "OPENAI_", "COLUMNS"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | more


def operator(server: EmbeddedServer) -> dict[str, str]:
    """The environment of the operator of ``server``."""
    settings = server.settings("operator")
    assert settings.user is not None
    assert settings.password is not None
    return {"NATS_URL": settings.url, "NATS_USER": settings.user, "NATS_PASSWORD": settings.password.get_secret_value()}


async def begin(*arguments: str, variables: Mapping[str, str], directory: Path | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent_manager.cli", *arguments, env=environment(**variables), cwd=directory or ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def agentops(*arguments: str, variables: Mapping[str, str], given: bytes = b"", directory: Path | None = None) -> Said:
    process = await begin(*arguments, variables=variables, directory=directory)
    async with asyncio.timeout(30 * PATIENCE):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())
