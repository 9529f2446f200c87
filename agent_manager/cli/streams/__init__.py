"""``agentops streams``: the server compared with the topology, and made to agree."""
