"""``agentops snapshot``."""
