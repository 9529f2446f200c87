"""Agents as Cloud Run services and worker pools. Only here, in the stand-in server and in the mirror are Google's clients loaded."""
