"""A tab opens its websocket: the session its page was made with is taken up, and nothing else is ever made for it.

The page carries a token with the name of its session. Where that session is known no more (the page was long under way, or is from before
a restart), a new one would have other models than the page that was delivered: it could never be drawn. So it is refused, and
the page, which is told by the refusal, begins anew (``assets/boot.js``).
"""

from typing import Any, Final

import structlog
from bokeh.protocol.exceptions import ProtocolError
from bokeh.server.session import ServerSession
from bokeh.util.token import check_token_signature, get_session_id
from bokeh_fastapi.handler import WSHandler
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from service.instruments import LOOP_ERRORS

log = structlog.get_logger(__name__)

_PROTOCOL: Final = "bokeh"
_REFUSED: Final = 1008


class CannotOpenError(Exception):
    """The websocket belongs to no page of ours that is still known. Trying again does not help; loading the page anew does."""


def _session(handler: Any, websocket: WebSocket) -> tuple[ServerSession, str]:
    """The session a websocket is for, with its token; raises CannotOpenError."""
    offered = websocket.scope["subprotocols"]
    if len(offered) != 2 or offered[0] != _PROTOCOL:
        raise CannotOpenError("no token")
    token = offered[1]
    application = handler.application
    try:
        if not check_token_signature(token, signed=application.sign_sessions, secret_key=application.secret_key):
            raise CannotOpenError("a token of another process")
        return handler.application_context.get_session(get_session_id(token)), token
    except ProtocolError as error:
        raise CannotOpenError("a session forgotten since") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotOpenError("a token that cannot be read") from error


async def _connect(handler: Any, websocket: WebSocket) -> None:
    try:
        session, token = _session(handler, websocket)
    except CannotOpenError as error:
        log.info("tab.refused", reason=str(error))
        # Closing before accepting is an HTTP 403 to the browser.
        await websocket.close(_REFUSED, str(error))
        return
    # From here it cannot be forgotten before it is connected: nothing was awaited since it was found.
    session.block_expiration()
    handler._socket = websocket  # noqa: SLF001
    try:
        await websocket.accept(_PROTOCOL)
        await handler._async_open(websocket, token)  # noqa: SLF001
        await handler._receive_loop()  # noqa: SLF001
    except WebSocketDisconnect:
        pass
    except Exception as error:
        # bokeh-fastapi goes on reading after the disconnect, which Starlette answers with a RuntimeError: so ends every tab.
        if websocket.client_state is not WebSocketState.DISCONNECTED:
            LOOP_ERRORS.labels("dashboard-socket").inc()
            log.exception("tab.broke", error=repr(error))
    finally:
        # bokeh-fastapi 0.1.8 learns of a closed tab only if it was just sending to it; a quiet one would stay for ever.
        if handler.connection is not None:
            handler.application.client_lost(handler.connection)
        session.unblock_expiration()
        # A page never takes its session up again: what was closed need not wait as long as what was not opened yet.
        session.request_expiration()


def install() -> None:
    """From now on every websocket of this process is opened so."""
    WSHandler.ws_connect = _connect
