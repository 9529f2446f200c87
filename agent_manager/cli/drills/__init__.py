"""Drills as a person runs them: one after another, told as they go, with a report."""
