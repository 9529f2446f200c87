"""What every proxy of a sidecar does alike: passes bodies and headers on as they come, and adds nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy

_HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "expect",
})  # fmt: skip
_SKIP: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """``headers`` without those that concern one connection only."""
    dropped = _HOP_BY_HOP | {name.strip().lower() for value in headers.getall(hdrs.CONNECTION, ()) for name in value.split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


class Relayed(web.StreamResponse):
    """An answer passed on, with the headers it came with."""

    def __init__(self, upstream: aiohttp.ClientResponse) -> None:
        super().__init__(status=upstream.status, reason=upstream.reason, headers=end_to_end(upstream.headers))
        self.relayed = 0
        """Bytes of its body written so far, where a fault shapes it."""
        self.said = frozenset(name.lower() for name in upstream.headers)


async def only_what_was_said(_: web.Request, response: web.StreamResponse) -> None:
    """Takes back the headers that aiohttp adds to a relayed answer."""
    if isinstance(response, Relayed):
        for name in (hdrs.SERVER, hdrs.DATE, hdrs.CONTENT_TYPE):
            if name.lower() not in response.said:
                response.headers.pop(name, None)


def application(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]], client: Callable[[web.Application], AsyncIterator[None]]
) -> web.Application:
    """Everything asked for goes to ``handle``, while ``client`` keeps the session to ask others with."""
    made = web.Application(client_max_size=0)
    made.on_response_prepare.append(only_what_was_said)
    made.router.add_route("*", "/{path:.*}", handle)
    made.cleanup_ctx.append(client)
    return made


def session(*, keepalive_s: float, connect_s: float) -> aiohttp.ClientSession:
    """A session that says nothing of its own: no cookies, no headers, bodies still encoded, no end to an answer."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_SKIP,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
    )
