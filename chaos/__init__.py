"""Chaos: the real system under a load it must account for, while everything that can go wrong does, by a seed.

``python -m chaos`` starts NATS and every processor as ``agentops up`` supervises them, lets publishers load them, kills,
stops, starves and doubles what the schedule says, and then reads the streams itself to judge.
"""
