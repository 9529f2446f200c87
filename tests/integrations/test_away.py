"""The backend is away while an agent works: its exporter notices nothing, and nothing is lost."""

import asyncio

from streams.connect import connect
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.integrations.environment import interpreter
from tests.integrations.model_server import ANSWERING, ASKING, serving
from tests.integrations.watching import AGENTS, clean_environment
from tests.sidecar.conftest import http, sidecar  # noqa: F401
from tests.sidecar.running import Sidecar, Telemetry


async def test_what_an_agent_tells_while_nats_and_then_the_sidecar_are_gone_arrives_once(
    server: EmbeddedServer,
    sidecar: Sidecar,  # noqa: F811
) -> None:
    python = await asyncio.to_thread(interpreter)
    await sidecar.start()
    await server.kill()
    async with serving() as models:
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sidecar.door,
            "OPENAI_BASE_URL": models.openai_url,
            "OPENAI_API_KEY": "sk-none",
        }
        agent = await asyncio.create_subprocess_exec(
            str(python), str(AGENTS / "openai_agent.py"), "genai", "weather", env=clean_environment(**told),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, complained = await agent.communicate()
        assert (agent.returncode, complained.decode()) == (0, "")
        ids = [one.response_id for one in models.served]
    await sidecar.kill()
    await server.start()
    await sidecar.start()
    client = await connect(server.settings(), "test")
    arrived = Telemetry(client)

    async def there() -> bool:
        return [event["event_type"] for event in await arrived.read()].count("run.completed") >= 2

    await until(there, "both runs arrived", 20)
    calls = [event for event in arrived.events if event["event_type"] == "model_call.completed"]
    assert [call["model_call"]["response_id"] for call in calls] == ids
    assert [call["resource_usage"]["cache_read_tokens"] for call in calls] == [
        ASKING.cache_read_tokens,
        ANSWERING.cache_read_tokens,
    ]
    await client.close()
