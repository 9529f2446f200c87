"""POST over one kept connection, by the standard library: an agent may have no HTTP client of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.tracing.exporters.exporter import Again

if TYPE_CHECKING:
    from http.client import HTTPConnection

_AGAIN: Final = frozenset({408, 425, 429})
_BARRED: Final = frozenset({401, 403})
_BARRED_S: Final = 1.0
_MOST_ANSWER_BYTES: Final = 1_000_000


class Answer(NamedTuple):
    """What the other side said."""

    status: int
    body: bytes


class Poster:
    """Sends bodies to one URL (http or https). Raises ValueError for a URL that is neither."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, *, timeout_s: float = 5.0) -> None:
        from urllib.parse import urlsplit  # noqa: PLC0415 - an agent without an exporter need not load it

        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r} is no URL: {error}") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} must begin with http:// or https:// and name a host")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._connection: HTTPConnection | None = None
        self.shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        """The URL fit for logs: without user, password and query."""

    def post(self, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Answer | Again:
        """The answer, or why to try again: no connection, the other side asks for it (408, 425, 429, 5xx), or bars the sender (401, 403)."""
        from http.client import HTTPException  # noqa: PLC0415 - the background thread's to load

        fresh = self._connection is None
        try:
            return self._once(body, content_type, headers)
        except (OSError, HTTPException) as error:
            self.close()
            if fresh:
                return Again(f"{self.shown}: {type(error).__name__}: {error}")
        # A kept connection that the other side closed meanwhile is no trouble.
        try:
            return self._once(body, content_type, headers)
        except (OSError, HTTPException) as error:
            self.close()
            return Again(f"{self.shown}: {type(error).__name__}: {error}")

    def _once(self, body: bytes, content_type: str, headers: Mapping[str, str] | None) -> Answer | Again:
        connection = self._connection or self._connect()
        connection.request("POST", self._path, body, {"Content-Type": content_type, **self._headers, **(headers or {})})
        response = connection.getresponse()
        answer = response.read(_MOST_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self.close()
        if response.status in _AGAIN or response.status >= 500:
            return Again(f"{self.shown}: HTTP {response.status}", _seconds(response.getheader("Retry-After")))
        if response.status in _BARRED:
            return Again(
                f"{self.shown}: HTTP {response.status}: {answer[:300].decode('utf-8', 'replace')}", _BARRED_S, barred=True
            )
        return Answer(response.status, answer)

    def _connect(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415 - as above

        kind = HTTPSConnection if self._secure else HTTPConnection
        self._connection = kind(self._host, self._port, timeout=self._timeout_s)
        return self._connection

    def close(self) -> None:
        """Closes the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _seconds(header: str | None) -> float | None:
    """A ``Retry-After`` in seconds; dates are left to the backoff."""
    try:
        return None if header is None else max(0.0, min(60.0, float(header)))
    except ValueError:
        return None
