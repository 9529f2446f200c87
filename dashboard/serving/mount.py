"""Panel inside FastAPI: everything that is particular to that marriage, with its workarounds, in one place."""

import secrets
from collections.abc import Callable
from typing import Any, Final

import panel as pn
from bokeh_fastapi.handler import WSHandler
from fastapi import FastAPI
from panel.io.fastapi import add_applications

TITLE: Final = "AgentOps"
UNUSED_MS: Final = 3_000
"""A session without a tab is forgotten after about so long."""


def _tell_of_every_disconnect() -> None:
    """bokeh-fastapi 0.1.8 learns of a closed tab only if it was just sending to it; a quiet one would stay for ever."""
    plain = WSHandler._receive_loop  # noqa: SLF001
    if getattr(plain, "tells", False):
        return

    async def telling(self: Any) -> None:
        try:
            await plain(self)
        finally:
            if self.connection is not None:
                self.application.client_lost(self.connection)

    telling.tells = True  # type: ignore[attr-defined]
    WSHandler._receive_loop = telling  # noqa: SLF001


def mount(app: FastAPI, page: Callable[[], Any]) -> None:
    """Hangs ``page``, called once a tab, at ``/``. Sessions are signed with a key of this process; a restart makes tabs reload."""
    _tell_of_every_disconnect()
    pn.extension(notifications=False)
    add_applications(
        {"/": page},
        app=app,
        title=TITLE,
        secret_key=secrets.token_bytes(32),
        sign_sessions=True,
        # The page's token is readable by its scripts: neither cookie nor header of the visitor belongs in there.
        include_headers=[],
        include_cookies=[],
        check_unused_sessions_milliseconds=UNUSED_MS,
        unused_session_lifetime_milliseconds=UNUSED_MS,
    )
