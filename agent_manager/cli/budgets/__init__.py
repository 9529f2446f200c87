"""``agentops budgets``."""
