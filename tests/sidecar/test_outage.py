"""NATS away for long, the sidecar killed twice meanwhile: everything arrives, in order, and the bound of the disk holds."""

from nats.aio.client import Client

from streams.embedded import EmbeddedServer
from tests.sidecar.outage import AT_ONCE, outage
from tests.sidecar.running import Sidecar


async def test_everything_arrives_after_an_outage_with_two_kills(
    server: EmbeddedServer, sidecar: Sidecar, client: Client
) -> None:
    await client.close()
    found = await outage(server, sidecar, 20_000, bound=32 * 1024 * 1024)
    assert (found.missing, found.in_order) == (0, True)
    assert found.repeated <= found.in_doubt == 2 * AT_ONCE
