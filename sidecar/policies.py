"""Policies by which doors refuse model calls."""

from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from schemas.policies import PolicyFlag
from sidecar.flags import Flags, Whose


class Policies(Flags[PolicyFlag]):
    """Which model calls this agent may not make, by the flags known now."""

    def __init__(self, tenant: str, agent: str, *, workspace: str | None = None, project: str | None = None, path: Path) -> None:
        self._whose = Whose(tenant, agent, workspace, project)
        super().__init__(PolicyFlag, tenant, path, "policies")

    def concern_us(self, flag: PolicyFlag) -> bool:
        """Whether it refuses calls of this agent's own."""
        return self._whose.concerns(flag)

    def refusal(self, provider: str, model: str | None, now: datetime, project: str | None = None) -> PolicyFlag | None:
        """The first flag by which a call of this model is refused; one whose model is not known meets every flag of its provider."""
        for _, flag in sorted(self._flags.items()):
            if (flag.until is None or flag.until > now) and self._whose.concerns(flag, project) and _names(flag, provider, model):
                return flag
        return None


def _names(flag: PolicyFlag, provider: str, model: str | None) -> bool:
    if flag.providers and provider not in flag.providers:
        return False
    return not flag.models or model is None or any(fnmatchcase(model, pattern) for pattern in flag.models)
