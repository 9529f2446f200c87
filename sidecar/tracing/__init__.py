"""The parts of ``sidecar.tracer``: what runs inside an agent's process, so none of it may load much, wait, or fail.

Importing any of it loads the standard library only. What is heavy (``orjson``, ``http.client``, ``prometheus_client``,
``genai_prices``, ``nats``) is loaded by the background thread that needs it, or where a metric is first defined.
"""
