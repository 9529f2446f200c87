from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class BudgetSettings(BaseSettings):
    """How spending is counted against budgets. Every field is ``AGENTOPS_BUDGET_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_BUDGET_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    future_tolerance_s: int = Field(default=300, ge=0)
    """Spending from further in the future than this counts at its arrival plus this; as cost prices it."""
    checkpoint_s: float = Field(default=1.0, gt=0)
    """Between checkpoints while spending goes on: how much of LEDGER is read again after a crash. A crossing is written at once."""
    warehouse_patience_s: float = Field(default=15.0, ge=0)
    """How long the warehouse is asked for what was spent before a budget was set; then the ledger itself is read."""
    max_budgets: int = Field(default=1000, ge=1)
    """Budgets watched; further ones are told in the log and left aside."""

    @property
    def tolerance(self) -> timedelta:
        """``future_tolerance_s``."""
        return timedelta(seconds=self.future_tolerance_s)
