"""One HTTP application on one port, patient with a predecessor that is just leaving it."""

import asyncio
import logging
import time
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service.instruments import CONNECTIONS_REFUSED
from sidecar.patience import Patience, PatientSite

PATIENCE_S: Final = 3.0
"""For ports and spool of a sidecar that is just ending."""
IDLE_S: Final = 75.0
"""A connection whose next request's head is not complete after so long is closed."""


class CannotStartError(RuntimeError):
    """The sidecar could not begin. The message says why and what to do."""


def reachable(host: str) -> str:
    """An address at which who listens at ``host`` is reached from here."""
    return "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104


class _Strangers(logging.Filter):
    """Leaves out of the log what is a sender's doing: what is no HTTP is quoted there, keys with it, and whoever leaves fills it."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            CONNECTIONS_REFUSED.labels("malformed").inc()
            return False
        return not isinstance(error, ConnectionError)


_STRANGERS: Final = _Strangers()


class Listener:
    """One HTTP application on one port."""

    def __init__(
        self, application: web.Application, host: str, port: int, what: str, *, bears: Patience | None = None, **options: Any
    ) -> None:
        self._bears = bears or Patience()
        options.setdefault("keepalive_timeout", IDLE_S)
        options["logger"] = logger = logging.getLogger(__name__)
        logger.addFilter(_STRANGERS)
        # Of the rest the runner alone knows what to do with this one.
        self._options = {"access_log": None} | {name: value for name, value in options.items() if name != "handler_cancellation"}
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5, **options)
        self._host = host
        self._what = what
        self._site: PatientSite | None = None
        self.port = port

    async def start(self) -> None:
        """Listens; raises CannotStartError where the port stays taken."""
        await self._runner.setup()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self._site = PatientSite(self._runner, self._host, self.port, self._bears, self._options)
            try:
                await self._site.start()
            except OSError as error:
                if self.port == 0 or time.monotonic() > deadline:
                    await self._runner.cleanup()
                    raise CannotStartError(
                        f"cannot listen on {self._host}:{self.port} for the {self._what} ({error.strerror}): "
                        "stop what listens there, or choose another port"
                    ) from error
                await asyncio.sleep(0.1)
            else:
                self.port = int(self._runner.addresses[0][1])
                return

    async def refuse(self) -> None:
        """Takes no new connections; what is in flight goes on."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def stop(self) -> None:
        """Closes."""
        await self._runner.cleanup()
