"""Judges every event once: valid ones go to ``events.``, the rest to ``dead.`` with reason; duplicates go nowhere, counted."""
