"""Alerts listed, watched and acknowledged."""
