"""Google's clients are loaded when the first agent needs them, and beside the loop: that takes seconds."""

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent_manager.drivers.driver import Driver, ExitNotice, LaunchError

_DRIVER: Final = "agent_manager.drivers.cloud_run.driver"
_API: Final = "agent_manager.drivers.cloud_run.api"


@dataclass(frozen=True, slots=True)
class Loading:
    """Makes the driver."""

    endpoint: str | None
    """Where an Admin API without logins answers; None: Google's own."""
    patience_s: float
    poll_s: float
    notice: ExitNotice
    operating: Callable[[str, str, str | None], None]
    clock: Callable[[], datetime]

    async def __call__(self) -> Driver[Any]:
        """The driver; raises LaunchError where Google's clients are not installed."""
        try:
            api = await asyncio.to_thread(importlib.import_module, _API)
            driver = await asyncio.to_thread(importlib.import_module, _DRIVER)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("google"):
                raise
            msg = "Google's clients are not installed where the manager runs: `pip install 'agentops[google]'`"
            raise LaunchError(msg) from error
        made: Driver[Any] = driver.CloudRunDriver(
            api.AdminApi(self.endpoint, self.patience_s), self.notice, self.operating, self.clock, self.poll_s
        )
        return made
