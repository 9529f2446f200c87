"""Prints every change of an alert with nothing but a NATS client."""

import asyncio
import contextlib
import json
import os
import sys

import nats


async def told(error: Exception) -> None:
    print(f"NATS: {error!r}; trying again", file=sys.stderr)


async def main() -> None:
    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    login = {"user": os.environ.get("NATS_USER"), "password": os.environ.get("NATS_PASSWORD")}
    client = await nats.connect(url, error_cb=told, max_reconnect_attempts=-1, **login)
    subscription = await client.subscribe("alerts.>")
    await client.flush()
    print(f"listening to alerts.> on {client.connected_url.hostname if client.connected_url else url}", flush=True)
    async for message in subscription.messages:
        alert = json.loads(message.data)
        print(alert["state"], alert["severity"], alert["rule"], alert.get("agent_id") or "-", alert["summary"], flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
