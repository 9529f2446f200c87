"""``agentops auth``: people's own logins at NATS."""
