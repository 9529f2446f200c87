"""Agents and their faults as the buckets show them, and the commands sent to the manager about them."""
