"""The doors for fleets without sidecars: ``POST /v1/events`` and the older ``POST /api/v1/telemetry``, one process for many agents.

It keeps nothing on disk: what it accepted has a PubAck, and what has none is answered 503 so that the sender keeps it. Whoever sends
has an API key of a tenant, kept hashed in bucket ``api_keys`` and followed live. A plain sidecar never imports this folder.
"""
