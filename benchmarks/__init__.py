"""Reproducible load: one fixed, seeded workload against the real processes, figures in a table and in a file."""
