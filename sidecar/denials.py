"""Spent budgets by which doors refuse: kept current from NATS, remembered on disk, asked by every door that spends money."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from pydantic import BaseModel, ValidationError

from schemas.budgets import BudgetFlag
from service.instruments import LOOP_ERRORS
from streams.kv import BucketMissingError, TypedBucket
from streams.topology import BUDGET_FLAGS

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 2.0
HEADER: Final = "X-Agentops-Denied"


class _Page(BaseModel):
    flags: dict[str, BudgetFlag] = {}


class Denials:
    """Whether this agent may spend, by the flags known now. Each ends at its ``until`` even if nobody says so.

    A small file remembers them, so that a sidecar restarted while NATS is away goes on refusing.
    """

    def __init__(self, tenant: str, agent: str, *, workspace: str | None = None, project: str | None = None, path: Path) -> None:
        self._whose = {"tenant": None, "agent": agent, "workspace": workspace, "project": project}
        self._tenant = tenant
        self._path = path
        self._flags: dict[str, BudgetFlag] = {}
        try:
            self._flags = dict(_Page.model_validate_json(path.read_bytes()).flags)
        except FileNotFoundError:
            pass
        except (ValidationError, OSError) as error:
            log.warning("denials.memory_unreadable", path=path.name, error=str(error))

    def refusal(self, now: datetime) -> BudgetFlag | None:
        """The flag by which a call is refused ``now``: of several the one that stands longest."""
        if not self._flags:
            return None
        standing = [flag for flag in self._flags.values() if flag.until > now]
        return max(standing, key=lambda flag: flag.until, default=None)

    def _concerns_us(self, flag: BudgetFlag) -> bool:
        wanted = self._whose[flag.scope]
        return flag.tenant_id == self._tenant and flag.of == wanted and (flag.scope == "tenant" or wanted is not None)

    def tell(self, key: str, flag: BudgetFlag | None) -> None:
        """The flag under ``key`` is now this one; None: there is none."""
        if flag is not None and self._concerns_us(flag):
            if self._flags.get(key) != flag:
                log.warning("denials.refusing", budget=key, until=flag.until.isoformat(), reason=flag.reason)
                self._flags[key] = flag
                self._write()
        elif self._flags.pop(key, None) is not None:
            log.info("denials.ended", budget=key)
            self._write()

    def only(self, keys: set[str]) -> None:
        """Every flag but these is gone."""
        for key in [key for key in self._flags if key not in keys]:
            self.tell(key, None)

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(_Page(flags=self._flags).model_dump_json())
            draft.replace(self._path)
        except OSError as error:
            log.error("denials.memory_unwritable", path=self._path.name, error=str(error))


class DenialWatch:
    """Follows the tenant's keys in bucket ``budget_flags``."""

    def __init__(self, tenant: str, denials: Denials) -> None:
        self._tenant = tenant
        self._denials = denials

    async def run(self, client: Client) -> None:
        """Follows until cancelled; while NATS is away what was known stands."""
        while True:
            try:
                bucket = await TypedBucket.open(client, BUDGET_FLAGS, BudgetFlag)
                self._denials.only(await bucket.keys())
                async for entry in bucket.watch(f"{self._tenant}.>"):
                    self._denials.tell(entry.key, entry.value)
            except (BucketMissingError, nats.errors.Error, TimeoutError, OSError) as error:
                log.warning("denials.unreachable", error=str(error))
            except Exception:
                LOOP_ERRORS.labels("denials-watch").inc()
                log.exception("denials.watch_failed")
            await asyncio.sleep(_AGAIN_S)


def retry_after_s(flag: BudgetFlag, now: datetime | None = None) -> int:
    """For ``Retry-After``: whole seconds until the flag ends, at least one."""
    left = (flag.until - (now or datetime.now(UTC))).total_seconds()
    return max(1, int(left) + 1)
