"""Around every request: its body whole before it is looked at, bounded in bytes and time, and the request counted."""

import time
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_manager.api.problems import ProblemError
from service import bodies
from service.bodies import BodyRefusedError
from service.instruments import API_REQUESTS, API_SECONDS, LOOP_ERRORS

MOST_BYTES: Final = 48 * 1024
"""A command takes at most 64 KiB, with what is said around it."""
_LIVE: Final = "text/event-stream"


class Attentive:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, body_s: float) -> None:
        self._app = app
        self._body_s = body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, live = time.perf_counter(), 0, False

        async def sending(message: Message) -> None:
            nonlocal status, live
            if message["type"] == "http.response.start":
                status = message["status"]
                live = any(name == b"content-type" and value.startswith(_LIVE.encode()) for name, value in message["headers"])
            await send(message)

        try:
            body = await self._body(scope, receive)
        except ProblemError as error:
            await error.response()(scope, receive, sending)
        except ClientDisconnect:
            return
        else:
            await self._app(scope, _replaying(body, receive), sending)
        route = getattr(scope.get("route"), "path", "unknown")
        API_REQUESTS.labels(route, str(status)).inc()
        if not live:
            API_SECONDS.labels(route).observe(time.perf_counter() - began)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        request = Request(scope, receive)
        encoding = request.headers.get("content-encoding", "").strip().lower()
        try:
            bodies.announced(request.headers.get("content-length"), encoding, MOST_BYTES)
            return await bodies.read(request.stream(), encoding, MOST_BYTES, self._body_s)
        except BodyRefusedError as error:
            # The rest of the body is not read, so the connection cannot be used again.
            raise ProblemError(error.status, error.kind, error.message, headers={"Connection": "close"}) from error


def _replaying(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def failed() -> ProblemError:
    """What nobody foresaw; the log has it."""
    LOOP_ERRORS.labels("api").inc()
    return ProblemError(500, "failed", "the API failed at this request; its log says where")
