"""Beside one agent: probes it, measures it, stands in front of it, takes its events and brings them to NATS.

One process an agent, light enough to run beside every one of them. It decides nothing about the fleet: it reports, and
it enforces the deadline of every fault by its own clock. It imports ``schemas``, ``streams`` and ``service`` only.
"""
