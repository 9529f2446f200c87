"""The official Firestore emulator as a child process."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from service.ports import free_port
from tests.conftest import until

_USUAL = Path("/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")


def jar() -> Path:
    """Where it is; skips the test where there is none, and fails in CI, unless that has found and said so."""
    found = Path(os.environ.get("FIRESTORE_EMULATOR_JAR") or _USUAL)
    if found.is_file() and shutil.which("java"):
        return found
    why = f"no Firestore emulator: {found} and java are needed (FIRESTORE_EMULATOR_JAR names another)"
    if os.environ.get("CI") and not os.environ.get("AGENTOPS_NO_FIRESTORE_EMULATOR"):
        pytest.fail(why)
    pytest.skip(why)


class Emulator:
    """Start it, stop it, start it again: it keeps nothing."""

    def __init__(self, log: Path) -> None:
        self.jar = jar()
        self.log = log
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                "java", "-Duser.language=en", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(self.jar),
                "com.google.cloud.datastore.emulator.firestore.CloudFirestore", "--host=127.0.0.1", f"--port={self.port}",
                f"--websocket_port={free_port()}", stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

        async def up() -> bool:
            async with httpx.AsyncClient() as http:
                try:
                    return (await http.get(f"http://{self.host}/")).text.strip() == "Ok"
                except httpx.HTTPError:
                    return False

        await until(up, "the emulator is up", 30)

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def emulator(log: Path) -> AsyncIterator[Emulator]:
    made = Emulator(log)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
