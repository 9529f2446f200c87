"""The NATS server of the system: ours, started again on the same port when it dies, or one that was given."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.running import Login
from agent_manager.cli.up.leftovers import end_nats_server
from agent_manager.cli.up.supervision import ending
from streams.embedded import EmbeddedServer, ServerError
from streams.settings import NatsSettings

_AGAIN_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
_LOOK_S: Final = 2.0
_LOOKS: Final = 3
"""So often in a row it must call itself unhealthy before it is started again."""
_ROOM_BYTES: Final = 64 * 1024**2
"""Less than this free, and starting again would not help."""


@dataclass(slots=True)
class OwnServer:
    """The embedded server, kept running until ``stop``."""

    directory: Path
    port: int | None
    say: Callable[[str], None]
    changed: Callable[[], None]
    restarts: int = 0
    _server: EmbeddedServer | None = None
    _stopping: bool = field(default=False, init=False)

    async def start(self) -> None:
        """Returns when it is healthy; raises CommandFailedError."""
        if await end_nats_server(self.directory):
            self.say("a NATS server left over from a killed `agentops up` was stopped first")
        self._server = EmbeddedServer(self.directory, self.port, dies_with_parent=True)
        try:
            await self._server.start()
        except ServerError as error:
            raise CommandFailedError(str(error)) from error

    @property
    def server(self) -> EmbeddedServer:
        """Once started."""
        assert self._server is not None, "start() first"
        return self._server

    def settings(self, user: str = "system") -> NatsSettings:
        """How ``user`` reaches it."""
        return self.server.settings(user)

    def users(self) -> dict[str, Login]:
        """Every login."""
        assert self.server.credentials is not None
        return {user: Login(user, password) for user, password in self.server.credentials.passwords.items()}

    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.server.process.pid if self.server.is_running() and self.server.process is not None else None

    async def keep(self) -> None:
        """Starts it again whenever it dies, on the port its clients know."""
        failures = 0
        while not self._stopping:
            process = self.server.process
            if process is not None:
                how = await self._ended(process)
                if self._stopping:
                    return
                self.say(f"nats-server {how}; started again; see {self.directory / 'nats-server.log'}")
            assert self.server.credentials is not None
            self.server.port = self.server.credentials.port
            try:
                await self.server.start()
            except ServerError as error:
                self.say(f"nats-server does not start: {error}")
                self.server.process = None
                await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])
                failures += 1
                continue
            failures = 0
            self.restarts += 1
            self.changed()

    async def _ended(self, process: asyncio.subprocess.Process) -> str:
        """Waits until the server is gone, or of no use any more: then ends it. Says how it came.

        After a failed write (a full disk, say) nats-server takes the stream out of service until it is started again,
        however much room there is by then.
        """
        ending_itself = asyncio.create_task(process.wait(), name="nats-server-ends")
        seen = 0
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                while not (await asyncio.wait({ending_itself}, timeout=_LOOK_S))[0]:
                    trouble = await self.server.trouble(http)
                    seen = seen + 1 if trouble else 0
                    if trouble is None or self._stopping:
                        continue
                    if shutil.disk_usage(self.directory).free < _ROOM_BYTES:
                        if seen == 1:
                            self.say(f"nats-server says {trouble}. The disk is full: make room in {self.directory}")
                    elif seen >= _LOOKS:
                        await self.server.stop()
                        return f"called itself unhealthy ({trouble})"
            return ending(ending_itself.result())
        finally:
            ending_itself.cancel()

    async def stop(self, within_s: float) -> None:
        """Ends it."""
        self._stopping = True
        if self._server is not None:
            await self._server.stop(within_s)
