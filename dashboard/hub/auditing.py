"""The audit the page shows: of the last hour, every few minutes while somebody looks."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client

from dashboard.model import audit as shown
from service.instruments import LOOP_ERRORS
from streams import audit
from streams.audit import AuditImpossibleError, Scope

log = structlog.get_logger(__name__)

RANGE: Final = timedelta(hours=1)
MOST: Final = 50_000
"""Messages of each stream: a very busy hour is cut to its newest, so that the page never waits for its own audit."""
_AGAIN_S: Final = 20.0
"""After one that could not be made."""


@dataclass(slots=True)
class Auditor:
    """Decides when, and makes it. Nobody looking, nothing read."""

    every_s: float
    _due: float = 0.0

    def due(self, clock_s: float) -> bool:
        """Whether it is time."""
        return clock_s >= self._due

    async def look(self, client: Client, now_ms: int) -> dict[str, Any]:
        """One audit, as the page shows it; never raises for what NATS or the warehouse do."""
        pause_s = self.every_s
        try:
            report = await audit.run(client, scope=Scope(since=datetime.now(UTC) - RANGE, most=MOST))
        except AuditImpossibleError as error:
            pause_s, answer = min(_AGAIN_S, self.every_s), shown.impossible(str(error), now_ms)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            pause_s, answer = min(_AGAIN_S, self.every_s), shown.impossible(f"NATS: {type(error).__name__}", now_ms)
        except Exception as error:
            LOOP_ERRORS.labels("dashboard-audit").inc()
            log.exception("hub.audit_broke", error=repr(error))
            answer = shown.impossible(f"the audit broke: {type(error).__name__}", now_ms)
        else:
            answer = shown.told(report, now_ms)
            level = log.info if report.ok else log.warning
            level("audit.made", ok=report.ok, errors=answer["errors"], took_s=report.took_s)
        self._due = time.monotonic() + pause_s
        return answer
