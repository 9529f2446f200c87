"""Spent budgets by which doors refuse."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from schemas.budgets import BudgetFlag
from sidecar.flags import Flags, Whose

HEADER: Final = "X-Agentops-Denied"


class Denials(Flags[BudgetFlag]):
    """Whether this agent may spend, by the flags known now. Each ends at its ``until`` even if nobody says so."""

    def __init__(self, tenant: str, agent: str, *, workspace: str | None = None, project: str | None = None, path: Path) -> None:
        self._whose = Whose(tenant, agent, workspace, project)
        super().__init__(BudgetFlag, tenant, path, "denials")

    def concern_us(self, flag: BudgetFlag) -> bool:
        """Whether it refuses this agent's own calls."""
        return self._whose.concerns(flag)

    def refusal(self, now: datetime, project: str | None = None) -> BudgetFlag | None:
        """The flag by which a call is refused ``now``: of several the one that stands longest.

        ``project``: the one the call is for, where it is not the agent's own.
        """
        if not self._flags:
            return None
        standing = [flag for flag in self._flags.values() if flag.until > now and self._whose.concerns(flag, project)]
        return max(standing, key=lambda flag: flag.until, default=None)


def retry_after_s(flag: BudgetFlag, now: datetime | None = None) -> int:
    """For ``Retry-After``: whole seconds until the flag ends, at least one."""
    left = (flag.until - (now or datetime.now(UTC))).total_seconds()
    return max(1, int(left) + 1)
