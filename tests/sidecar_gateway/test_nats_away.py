"""While NATS is away a gateway takes nothing, says so, and forgets no key."""

import orjson
from nats.aio.client import Client

from schemas.keys import ApiKey
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until
from tests.sidecar.running import Telemetry
from tests.sidecar_gateway.running import JSON, Gateway, event


async def test_while_nats_is_away_senders_keep_their_events(
    gateway: Gateway, key: str, server: EmbeddedServer, client: Client
) -> None:
    body = orjson.dumps(event())
    await client.close()
    await server.kill()

    async def refused() -> bool:
        return (await gateway.post(body, key))[0] == 503

    await until(refused, "503")
    async with gateway.http.post(f"{gateway.url}/v1/events", data=body, headers=JSON | {"X-Api-Key": key}) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert not await gateway.answers("/readyz")
    assert await gateway.answers("/healthz")
    # The key is known all the same: who has none is told so.
    assert (await gateway.post(body, "agentops_nobody_x"))[0] == 401
    await server.start()

    async def taken() -> bool:
        return (await gateway.post(body, key))[0] == 202

    await until(taken, "it takes events again", 20)
    again = await connect(server.settings(), "test")
    assert len(await Telemetry(again).read()) == 1
    await again.close()


async def test_a_gateway_that_never_saw_the_keys_calls_none_of_them_wrong(
    stopped_gateway: Gateway, key: str, keys: TypedBucket[ApiKey], server: EmbeddedServer, client: Client
) -> None:
    await client.close()
    await server.kill()
    await stopped_gateway.start(ready=False)
    assert (await stopped_gateway.post(orjson.dumps(event()), key))[0] == 503
    await server.start()

    async def taken() -> bool:
        return (await stopped_gateway.post(orjson.dumps(event()), key))[0] == 202

    await until(taken, "it finds NATS and the keys", 20)
