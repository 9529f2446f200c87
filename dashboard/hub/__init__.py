"""One process, one NATS connection, however many tabs: watches, asks, commands, and hands every tab the same frame."""
