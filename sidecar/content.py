"""What this process does with content: every record made in it is treated by the policies known here.

One truth a process, because records are made in many places and one that forgot to ask would leak. Nothing known means ``off``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from pydantic import BaseModel, ValidationError

from privacy.concern import concerns
from privacy.fitting import fitted
from privacy.treatment import treat
from schemas.content import ContentPolicy
from schemas.events import CURRENT_VERSION, Event
from schemas.reading import MAX_EVENT_BYTES
from service.instruments import CONTENT_BYTES_DROPPED, FINDINGS_REDACTED, VALUES_TRUNCATED
from streams.content import Policies

log = structlog.get_logger(__name__)

IN_FORCE: Final = Policies()


class Reach:
    """Whether NATS can be reached: what is too large for an event is left to validate then, which has a place for it."""

    def __init__(self) -> None:
        self.there: Callable[[], bool] = lambda: False


NATS: Final = Reach()


class _Page(BaseModel):
    policies: dict[str, ContentPolicy] = {}


def _counted(event: dict[str, Any], tenant: str) -> bytes:
    rules = IN_FORCE.rules(tenant)
    # While NATS is away the spool's room is for events: content is cut.
    treated = treat(event, rules, large="leave" if NATS.there() else "cut")
    line = orjson.dumps(treated.event)
    if len(line) > MAX_EVENT_BYTES:
        treated = treat(event, rules)
        line = orjson.dumps(treated.event)
    if len(line) > MAX_EVENT_BYTES:
        smaller, cut = fitted(treated.event, MAX_EVENT_BYTES)
        line = orjson.dumps(smaller)
        VALUES_TRUNCATED.labels("sidecar").inc(cut)
    if treated.dropped_bytes:
        CONTENT_BYTES_DROPPED.labels("sidecar").inc(treated.dropped_bytes)
    if treated.truncated:
        VALUES_TRUNCATED.labels("sidecar").inc(treated.truncated)
    for kind, count in treated.found.items():
        FINDINGS_REDACTED.labels("sidecar", kind).inc(count)
    return line


def _treated(event: dict[str, Any], line: bytes) -> bytes:
    """Most need no closer look, and stay ``line``."""
    tenant = event["tenant"]["tenant_id"]
    return _counted(event, tenant) if IN_FORCE.rules(tenant).own or concerns(event) else line


def treated(event: dict[str, Any]) -> bytes:
    """``event``, in the current contract's words, as one line of JSON, as its tenant's policy lets it stand."""
    return _treated(event, orjson.dumps(event))


def treated_event(event: Event) -> bytes:
    """``event`` as one line of JSON, as its tenant's policy lets it stand."""
    line = event.model_dump_json(exclude_none=True).encode()
    return _treated(orjson.loads(line), line)


def treated_line(raw: bytes, event: Event) -> bytes:
    """What a producer wrote, as its tenant's policy lets it stand; ``event`` is what was read from it.

    An older version's words become the current contract's: only of those it is known where text and content stand.
    """
    try:
        # Written anew in any case: a name given twice could hide what the reader did not see.
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return treated_event(event)
    return treated(found) if found.get("event_version") == CURRENT_VERSION else treated_event(event)


class PolicyMemory:
    """A file that remembers the policies, so that a sidecar started while NATS is away goes on as it was told."""

    def __init__(self, path: Path, policies: Policies = IN_FORCE) -> None:
        self._path = path
        self._policies = policies

    def recall(self) -> None:
        """The policies known last are in force again; where there is no file, or none that can be read, nothing is known."""
        try:
            known = _Page.model_validate_json(self._path.read_bytes()).policies
        except FileNotFoundError:
            return
        except (ValidationError, OSError) as error:
            log.warning("content.memory_unreadable", path=self._path.name, error=type(error).__name__)
            return
        for tenant, policy in known.items():
            self._policies.tell(tenant, policy)

    def write(self) -> None:
        """Remembers what is in force now."""
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(_Page(policies=self._policies.policies()).model_dump_json())
            draft.replace(self._path)
        except OSError as error:
            log.error("content.memory_unwritable", path=self._path.name, error=str(error))
