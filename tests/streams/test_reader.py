"""Reading in order: what the server does with a request never keeps waiting what there is to read."""

from nats.aio.client import Client

from streams.apply import apply
from streams.reader import OrderedReader, Source

_SIZE = 400_000


async def test_a_request_the_server_has_ended_is_followed_by_the_next_at_once(client: Client) -> None:
    """A request ends at its byte limit; the reader used to notice only after it had waited a second for nothing."""
    await apply(client)
    # The least a request may ask for is one whole message, so one ends after five of these.
    reader = OrderedReader(client, Source("EVENTS", buffer_bytes=1))
    for number in range(20):
        await client.jetstream().publish("events.acme.run", f"{number:<{_SIZE}}".encode())
        messages = await reader.fetch(10, 0.9)
        assert [int(message.data) for message in messages] == [number]
    assert reader.resets == 0
    await reader.close()
