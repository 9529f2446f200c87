"""The guard in front of everything: host and origin, login, number of tabs, security headers.

Pure ASGI, because the usual middleware class never sees websockets and the mount checks nothing itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' blob:; connect-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
log = structlog.get_logger(__name__)

_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/login"})
_NEVER: Final = (b"cache-control", b"no-store")
"""Each page has a session of its own: one out of the browser's cache would be of a session long gone."""
_FOR_EVER: Final = (b"cache-control", b"public, max-age=31536000, immutable")


@dataclass(slots=True)
class Guard:
    """Lets through to ``app`` what may pass."""

    app: ASGIApp
    hosts: frozenset[str]
    """``host:port`` names this page answers to; empty: any, as long as origin and host agree."""
    logged_in: Callable[[str], bool]
    """Whether a Cookie header proves a login."""
    most_tabs: int
    open_tabs: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refuse(scope, headers)
        if refused is not None:
            await self._answer(refused, scope, receive, send)
        elif scope["type"] == "websocket":
            self.open_tabs += 1
            try:
                await self.app(scope, receive, send)
            finally:
                self.open_tabs -= 1
        else:
            await self.app(scope, receive, _with_headers(scope, send))

    def _refuse(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        path: str = scope["path"]
        if path in {"/healthz", "/readyz"}:
            return None
        # A name of somebody else's that resolves to this machine would otherwise read the page from a stranger's site.
        if self.hosts and host not in self.hosts:
            return (
                421,
                f"This page does not answer to {host!r}. Open it under its own address, or name it in AGENTOPS_DASHBOARD_ORIGINS.",
            )
        if scope["type"] == "websocket":
            origin = urlsplit(headers.get("origin", "")).netloc.lower()
            if not origin or (origin != host and origin not in self.hosts):
                return 403, "wrong origin"
        if path not in _OPEN_PATHS and not path.startswith("/assets/") and not self.logged_in(headers.get("cookie", "")):
            return (401, "log in first") if scope["type"] == "websocket" or path == "/metrics" else (303, "/login")
        if self.open_tabs >= self.most_tabs and (scope["type"] == "websocket" or path == "/"):
            return 503, f"{self.open_tabs} tabs are open already, the most this dashboard serves. Close one and reload."
        return None

    async def _answer(self, refused: tuple[int, str], scope: Scope, receive: Receive, send: Send) -> None:
        status, text = refused
        if scope["type"] == "websocket":
            log.info("tab.refused", reason=text)
            # Closing before accepting is an HTTP 403 to the browser.
            await receive()
            await send({"type": "websocket.close", "code": 1013 if status == 503 else 1008, "reason": text[:100]})
            return
        response: Any
        if status == 303:
            response = RedirectResponse(text, status)
        elif scope["path"] == "/metrics":
            response = JSONResponse({"detail": text}, status)
        else:
            response = PlainTextResponse(text, status)
        await response(scope, receive, _with_headers(scope, send))


def _with_headers(scope: Scope, send: Send) -> Send:
    versioned = scope["path"].startswith("/static/") and b"v=" in scope.get("query_string", b"")

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
            if versioned or scope["path"].startswith("/assets/"):
                message["headers"].append(_FOR_EVER)
            elif scope["path"] == "/":
                message["headers"].append(_NEVER)
        await send(message)

    return sending
