"""``agentops keys``."""
