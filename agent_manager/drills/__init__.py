"""Drills: faults injected by a plan, and whether the system noticed, healed and lost nothing, scored."""
