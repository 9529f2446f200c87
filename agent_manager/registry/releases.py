"""The versions of one agent: added, found, compared. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from schemas.state import AgentRecord
from schemas.versions import Release, Releases, Stage

MOST: Final = 50
"""Versions kept at hand; earlier ones stand in the history for ever."""
MOST_BYTES: Final = 800_000
"""A bucket's value may be a million."""
NOT_SAID: Final = frozenset({"created_at", "updated_at", "updated_by"})
"""Fields of a record that do not say what the agent is."""
_SAID_ONLY: Final = frozenset({
    "name", "description", "agent_type", "tags", "owner", "capabilities", "dependencies", "changelog", "metadata", "autostart",
})  # fmt: skip
"""Fields that tell of an agent without changing how it runs: a version that differs in them alone has proved what it has proved."""
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that two records have otherwise."""

    field: str
    before: Any
    after: Any


def differences(before: AgentRecord, after: AgentRecord) -> tuple[Difference, ...]:
    """Every field in which ``after`` says something else; values as JSON has them."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return tuple(
        Difference(name, old[name], new[name])
        for name in AgentRecord.model_fields
        if name not in NOT_SAID and old[name] != new[name]
    )


def release(history: Releases | None, version: str) -> Release | None:
    """The release of that version, if it is at hand."""
    if history is None:
        return None
    return next((one for one in history.releases if one.version == version), None)


def previous_good(history: Releases | None) -> Release | None:
    """The newest version before the current one that ran well for long enough; None where there is none.

    Where the current version was registered before others (after a rollback), only what is older than it counts.
    """
    if history is None:
        return None
    place = next((index for index, one in enumerate(history.releases) if one.version == history.current), len(history.releases))
    return next((one for one in reversed(history.releases[:place]) if one.good_at is not None), None)


def added(history: Releases | None, record: AgentRecord, *, now: datetime, by: str, current: bool) -> Releases:
    """``history`` with ``record`` as the release of its version, and as the current one where ``current``.

    A version registered again to run otherwise is not known to be good any more, and begins at ``dev``.
    """
    if history is None:
        history = Releases(agent_id=record.agent_id, tenant_id=record.tenant_id, current=record.version)
    known = release(history, record.version)
    fresh = Release(version=record.version, record=record, registered_at=now, registered_by=by)
    if known is None:
        kept = (*history.releases, fresh)
    elif changes := {one.field for one in differences(known.record, record)}:
        if changes <= _SAID_ONLY:
            fresh = known.model_copy(update={"record": record})
        kept = tuple(fresh if one.version == record.version else one for one in history.releases)
    else:
        kept = history.releases
    wanted = record.version if current else history.current
    return bounded(history.model_copy(update={"releases": kept, "current": wanted}))


def bounded(history: Releases) -> Releases:
    """Without the oldest versions beyond what is kept at hand; the current one always stays."""
    kept = list(history.releases)
    sizes = {one.version: len(one.model_dump_json()) for one in kept}
    while len(kept) > MOST or (len(kept) > 1 and sum(sizes[one.version] for one in kept) > MOST_BYTES):
        oldest = next(one for one in kept if one.version != history.current)
        kept.remove(oldest)
    return history.model_copy(update={"releases": tuple(kept)})


def changed(history: Releases, version: str, **changes: Any) -> Releases:
    """``history`` with ``changes`` to one of its releases."""
    kept = tuple(one.model_copy(update=changes) if one.version == version else one for one in history.releases)
    return history.model_copy(update={"releases": kept})


def versions(history: Releases | None) -> Sequence[str]:
    """Their names, oldest first."""
    return [] if history is None else [one.version for one in history.releases]
