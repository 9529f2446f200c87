import asyncio

from streams.broker import broker
from streams.embedded import EmbeddedServer
from tests.conftest import until


async def test_a_broker_without_its_server_stops_and_tries_no_more(server: EmbeddedServer) -> None:
    own = broker(server.settings("system"), "alone")
    await own.start()
    client = await own.connect()
    await server.kill()
    await until(lambda: client.is_reconnecting, "it tries to connect again")
    async with asyncio.timeout(5):
        await own.stop()
    assert client.is_closed
