"""To ``POST /v1/events`` of a sidecar or a gateway, as NDJSON: the default, and the one that loses nothing once it answered."""

import json
from collections.abc import Sequence
from typing import Any

from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Again, Delivered, Outcome, Refused
from sidecar.tracing.exporters.posting import Answer, Poster


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
        return _outcome(answer, len(batch), self._poster.shown)

    def close(self) -> None:
        self._poster.close()

    forked = close


def _outcome(answer: Answer, events: int, shown: str) -> Outcome:
    """What became of a batch: doors take the valid ones of it, and say of the others why.

    A sidecar answers 202, or 400 with a list of what it rejected; a gateway 202, 400 or 422 with how many, and ``results`` for each event.
    """
    told = _json(answer.body)
    rejected, several = told.get("rejected"), told.get("results")
    if isinstance(rejected, list):
        several, rejected = rejected, len(rejected)
    if isinstance(rejected, int) and not isinstance(rejected, bool) and (rejected > 0 or answer.status < 300):
        return Refused(_first(several), min(rejected, events)) if rejected > 0 else Delivered()
    if answer.status < 300:
        return Delivered()
    return Refused(f"{shown} answered HTTP {answer.status}: {_said(answer.body)}", events)


def _first(several: Any) -> str:
    """Why the first of them was rejected, in words."""
    for each in several if isinstance(several, list) else ():
        if not isinstance(each, dict) or each.get("status", "rejected") != "rejected":
            continue
        errors = each.get("errors")
        error = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        value = f" (was {error['value']})" if error.get("value") is not None else ""
        return f"{each.get('reason', 'rejected')}: {error.get('loc', '$')} {error.get('msg', '')}{value}"
    return "it does not say why"


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _said(body: bytes) -> str:
    return body[:300].decode("utf-8", "replace")
