"""To ``POST /v1/events`` of a sidecar or a gateway, as NDJSON: the default, and the one that loses nothing once it answered."""

import json
from collections.abc import Sequence

from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Again, Delivered, Outcome, Refused
from sidecar.tracing.exporters.posting import Poster


class Door:
    """``url`` is the door's base, as ``AGENTOPS_SIDECAR_URL`` says it; ``api_key`` is for gateways."""

    name = "door"
    most_bytes = 900_000

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 5.0) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._poster = Poster(f"{url.rstrip('/')}/v1/events", headers, timeout_s=timeout_s)

    def export(self, batch: Sequence[Made]) -> Outcome:
        answer = self._poster.post(b"\n".join(made.line for made in batch), "application/x-ndjson")
        if isinstance(answer, Again):
            return answer
        if answer.status < 300:
            return Delivered()
        if answer.status == 400:
            return _rejected(answer.body, len(batch))
        return Refused(f"{self._poster.shown} answered HTTP {answer.status}: {_said(answer.body)}", len(batch))

    def close(self) -> None:
        self._poster.close()

    forked = close


def _rejected(body: bytes, events: int) -> Outcome:
    """The valid ones of a batch are accepted; the first of the others says why."""
    try:
        rejected = json.loads(body)["rejected"]
        first = rejected[0]
        error = first["errors"][0]
        return Refused(f"{first['reason']}: {error['loc']} {error['msg']} (was {error['value']})", len(rejected))
    except (ValueError, LookupError, TypeError):
        return Refused(f"HTTP 400: {_said(body)}", events)


def _said(body: bytes) -> str:
    return body[:300].decode("utf-8", "replace")
