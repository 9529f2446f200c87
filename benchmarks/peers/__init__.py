"""What others store of the same events, through their own front doors. Each runs in an environment of its own."""
