"""The optional login: one password, one signed cookie, a page of our own that fetches nothing from anywhere."""

import asyncio
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

COOKIE: Final = "agentops_dashboard"
STAYS_S: Final = 12 * 3600
_WRONG_S: Final = 0.5
"""Each wrong password costs so long, one at a time: two guesses a second at most, for everybody together."""


@dataclass(slots=True)
class Login:
    """``password`` None: nobody is asked. The key lives as long as the process: a restart asks again."""

    password: str | None
    assets: str
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def _signature(self, until: str) -> str:
        return hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()

    def cookie(self, now_s: float) -> str:
        """The proof of a login at ``now_s``."""
        until = str(int(now_s + STAYS_S))
        return f"{until}.{self._signature(until)}"

    def proves(self, value: str, now_s: float) -> bool:
        """Whether ``value`` is a proof of ours that has not run out."""
        until, _, signature = value.partition(".")
        return hmac.compare_digest(signature.encode(), self._signature(until).encode()) and until.isdigit() and int(until) > now_s

    def logged_in(self, cookies: str) -> bool:
        """Whether a Cookie header carries such a proof, or none is needed."""
        if self.password is None:
            return True
        try:
            found = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return False
        return found is not None and self.proves(found.value, time.time())

    def _page(self, problem: str = "", status: int = 200) -> HTMLResponse:
        text = (Path(__file__).parent / "login.html").read_text(encoding="utf-8")
        return HTMLResponse(text.replace("{{assets}}", self.assets).replace("{{problem}}", problem), status)

    async def show(self, _: Request) -> Response:
        """``GET /login``."""
        return RedirectResponse("/", 303) if self.password is None else self._page()

    async def take(self, request: Request) -> Response:
        """``POST /login``."""
        if self.password is None:
            return RedirectResponse("/", 303)
        if self._one_at_a_time.locked():
            return self._page("Another login is being checked. Try again in a second.", 429)
        async with self._one_at_a_time:
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > 4096:
                    return self._page("That is too long for a password.", 413)
            given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
            if not hmac.compare_digest(given.encode(), self.password.encode()):
                await asyncio.sleep(_WRONG_S)
                return self._page("Wrong password.", 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            self.cookie(time.time()),
            max_age=STAYS_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response
