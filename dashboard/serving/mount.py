"""Panel inside FastAPI: everything that is particular to that marriage, with its workarounds, in one place."""

import secrets
from collections.abc import Callable
from typing import Any, Final

import panel as pn
from fastapi import FastAPI
from panel.io.fastapi import add_applications

from dashboard.serving import opening

TITLE: Final = "AgentOps"
CHECK_MS: Final = 1_000
"""How often closed tabs, and pages that never opened one, are looked for."""


def mount(app: FastAPI, page: Callable[[], Any], unused_s: float) -> None:
    """Hangs ``page``, called once a tab, at ``/``. Sessions are signed with a key of this process; a restart makes tabs reload.

    A page that has not opened its websocket after ``unused_s`` is forgotten; a closed tab within ``CHECK_MS``.
    """
    opening.install()
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
        check_unused_sessions_milliseconds=CHECK_MS,
        unused_session_lifetime_milliseconds=round(unused_s * 1000),
    )
