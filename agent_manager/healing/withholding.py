"""Why an agent in trouble is not restarted although its own backoff would allow it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from schemas.budgets import BudgetFlag
from schemas.state import AgentRecord


@dataclass(frozen=True, slots=True)
class UnderMaintenance:
    """People are at work on it."""

    until: datetime

    @property
    def reason(self) -> str:
        """In words."""
        return f"maintenance until {self.until.isoformat(timespec='seconds')}"


@dataclass(frozen=True, slots=True)
class NeedsOthers:
    """What it depends on does not run: restarting it would not help."""

    agents: tuple[str, ...]

    @property
    def reason(self) -> str:
        """In words."""
        return f"it depends on {', '.join(self.agents)}, which {'is' if len(self.agents) == 1 else 'are'} down"


@dataclass(frozen=True, slots=True)
class MoneySpent:
    """Its model calls are refused until the budget's period ends: it could not work."""

    budget_id: str
    until: datetime

    @property
    def reason(self) -> str:
        """In words."""
        return f"budget {self.budget_id} is exhausted until {self.until.isoformat(timespec='seconds')}"


@dataclass(frozen=True, slots=True)
class FleetUnwell:
    """So many are in trouble that the cause is elsewhere."""

    trouble: int
    of: int

    @property
    def reason(self) -> str:
        """In words."""
        return f"{self.trouble} of {self.of} agents are in trouble, so the cause is elsewhere"


@dataclass(frozen=True, slots=True)
class OutOfEarshot:
    """It is silent to NATS, yet its sidecar answers here: the way between is cut, not the agent."""

    @property
    def reason(self) -> str:
        """In words."""
        return "its sidecar answers here: what is lost is the way from it to NATS"


Withheld = UnderMaintenance | NeedsOthers | MoneySpent | FleetUnwell | OutOfEarshot


def money_spent(flags: Iterable[BudgetFlag], record: AgentRecord, now: datetime) -> MoneySpent | None:
    """The exhausted budget that refuses this agent longest, if any does."""
    parts = {
        "tenant": None, "workspace": record.workspace_id, "project": record.project_id, "agent": record.agent_id
    }  # fmt: skip
    standing = [
        flag for flag in flags if flag.tenant_id == record.tenant_id and flag.until > now and flag.of == parts[flag.scope]
    ]
    if not standing:
        return None
    longest = max(standing, key=lambda flag: flag.until)
    return MoneySpent(longest.budget_id, longest.until)
