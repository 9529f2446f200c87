"""What each agent is, in the shared bucket ``registry``, with its history."""
