"""A durable index of what was stored before, derived from a stream: validate's of events, cost's of model calls."""
