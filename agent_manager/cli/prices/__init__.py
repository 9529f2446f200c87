"""``agentops prices``: read from the bucket, changed through cost."""
