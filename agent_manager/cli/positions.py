"""Where a stream ends now."""

import nats.js.errors
from nats.aio.client import Client

from agent_manager.cli.failure import CommandFailedError


async def last_sequence(client: Client, stream: str) -> int:
    """The sequence of the newest message; raises CommandFailedError when the stream does not exist."""
    try:
        info = await client.jsm().stream_info(stream)
    except nats.js.errors.NotFoundError as error:
        raise CommandFailedError(f"stream {stream} does not exist", "Run `agentops streams apply`") from error
    return info.state.last_seq
