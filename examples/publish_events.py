"""Publishes one run of an agent with nothing but a NATS client; each event is kept once its PubAck is here."""

import asyncio
import json
import os
from datetime import UTC, datetime
from uuid import uuid4

import nats


async def main() -> None:
    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    client = await nats.connect(url, user=os.environ.get("NATS_USER"), password=os.environ.get("NATS_PASSWORD"))
    run_id = str(uuid4())
    call = {"model_call_id": str(uuid4()), "provider": "openai", "model": "gpt-4o-mini", "latency_ms": 812.5}
    usage = {"input_tokens": 1200, "output_tokens": 150, "cache_read_tokens": 1024}
    for event_type, sections in (
        ("run.started", {}),
        ("model_call.completed", {"model_call": call, "resource_usage": usage}),
        ("run.completed", {}),
    ):
        event = {"event_version": "v1", "event_id": str(uuid4()), "event_type": event_type, "occurred_at": datetime.now(UTC).isoformat(),
                 "tenant": {"tenant_id": "demo"}, "run": {"agent_id": "my-agent", "run_id": run_id}, **sections}  # fmt: skip
        subject = f"telemetry.demo.my-agent.{event_type.split('.')[0]}"
        await client.jetstream().publish(subject, json.dumps(event).encode(), headers={"Nats-Msg-Id": event["event_id"]})
    await client.close()
    print(run_id)


if __name__ == "__main__":
    asyncio.run(main())
