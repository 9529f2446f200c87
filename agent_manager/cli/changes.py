"""What people set, changed by the service that alone may, which leaves an audit record."""

from typing import Any
from uuid import uuid4

from nats.aio.client import Client

from agent_manager.cli.connection import Place
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.money import ask_cost
from schemas.changes import RecordChange, RecordChanged
from schemas.ids import is_token
from streams import subjects


def check_reason(reason: str) -> None:
    """Raises CommandFailedError where nothing is said."""
    if not reason.strip():
        raise CommandFailedError("--reason: the reason is empty", "Say why: the audit trail keeps it", code=2)


def check_ids(**named: str | None) -> None:
    """Raises CommandFailedError for what cannot stand in a subject, by its option."""
    for option, value in named.items():
        if value is not None and not is_token(value):
            raise CommandFailedError(f"{option}: {value[:80]!r} is no id", "Use 1 to 64 letters, digits, - and _", code=2)


async def change(
    client: Client, place: Place, word: str, tenant: str, record_id: str, revision: int, value: dict[str, Any] | None, reason: str, who: str
) -> RecordChanged:  # fmt: skip
    """Has ``who`` write ``value`` in place of what was there at ``revision``; raises CommandFailedError."""
    wanted = RecordChange(change_id=uuid4().hex, record_id=record_id, revision=revision, value=value, reason=reason)
    # Asked once: a lost answer must not turn into a refusal of what was done.
    return await ask_cost(client, subjects.change(word, place.user, tenant), wanted, RecordChanged, attempts=1, who=who)
