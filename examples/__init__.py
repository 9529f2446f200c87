"""Sample agents, a local model server for them, a driver that keeps them busy, and programs that meet AgentOps only on the wire."""
