"""``agentops ledger``: read from the warehouse, computed here, corrected through cost."""
