"""``python -m benchmarks.metering.provider``: a model provider that streams twenty chunks, and costs next to nothing.

Prints its port. Speaks as much HTTP as the callers here do: one request after the other on a kept connection.
"""

import asyncio
import json
from typing import Final, cast

import uvloop

CHUNKS: Final = 20
PAUSE_S: Final = 0.001
"""Between chunks: so that each one travels alone."""
USAGE: Final = {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}


def _event(choices: list[object], usage: object = None) -> bytes:
    told = {
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default", "system_fingerprint": "fp_1", "choices": choices, "usage": usage,
    }  # fmt: skip
    return b"data: " + json.dumps(told, separators=(",", ":")).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
WORDS: Final = [_chunk(_event([{"index": 0, "delta": {"content": f"word {n} "}, "finish_reason": None}])) for n in range(CHUNKS)]
END: Final = (
    _chunk(_event([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    + _chunk(_event([], USAGE))
    + _chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


class Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller came."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A whole request is answered."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        length = 0 if at < 0 else int(lowered[at + 15 :].split(b"\r\n", 1)[0])
        if len(body) >= length:
            self._buffer = b""
            self._send(0)

    def _send(self, place: int) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        if place < CHUNKS:
            self._transport.write(HEAD + WORDS[0] if place == 0 else WORDS[place])
            self._loop.call_later(PAUSE_S, self._send, place + 1)
        else:
            self._transport.write(END)


async def serve() -> None:
    """Serves until ended."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
