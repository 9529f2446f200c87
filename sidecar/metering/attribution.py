"""Whose call it is: by its ``x-agentops-`` headers and its W3C trace context."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.ids import is_token

OURS: Final = "x-agentops-"
"""Headers that begin so are for us, and go no further."""
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_MOST_CHARACTERS: Final = 128


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a request says of whose it is; None where it does not."""

    run: str | None = None
    step: str | None = None
    project: str | None = None
    user: str | None = None
    trace_id: str | None = None
    parent_span_id: str | None = None
    """The caller's span: of the same call, as the caller's own telemetry tells it."""


@dataclass(frozen=True, slots=True)
class Misattributed:
    """A header that cannot be followed: the call would be billed to somebody else."""

    why: str


def read(headers: Mapping[str, str], tenant: str) -> Attribution | Misattributed:
    """The attribution of a request to the sidecar of ``tenant``. A trace context that is none is left aside, as W3C says."""
    run, step, user = (headers.get(f"{OURS}{name}") or None for name in ("run", "step", "user"))
    for name, value in (("run", run), ("step", step), ("user", user)):
        if value is not None and not (len(value) <= _MOST_CHARACTERS and value.isprintable()):
            return Misattributed(
                f"header {OURS}{name}: {_shown(value)} is no id: use 1 to {_MOST_CHARACTERS} printable characters"
            )
    project = headers.get(f"{OURS}project") or None
    if project is not None and not is_token(project):
        return Misattributed(f"header {OURS}project: {_shown(project)} is no project: use 1 to 64 of A-Z a-z 0-9 _ -")
    told = headers.get(f"{OURS}tenant") or tenant
    if told != tenant:
        return Misattributed(
            f"header {OURS}tenant: this sidecar speaks for tenant {tenant!r}, not {_shown(told)}: leave the header out"
        )
    traced = _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
    if traced is None or not traced[1].strip("0") or not traced[2].strip("0"):
        return Attribution(run, step, project, user)
    return Attribution(run, step, project, user, traced[1], traced[2])


def _shown(value: str) -> str:
    return repr(value[:40].encode("ascii", "backslashreplace").decode())
