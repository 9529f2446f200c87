"""API keys made, revoked and replaced, checked before anything is written. Pure: time and chance are arguments."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.when import NotATimeError, seconds
from schemas.ids import is_token
from schemas.keys import KEY_ID_LENGTH, ApiKey, KeyRole, digest, spelled

SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Chance:
    """What of a new key is random."""

    key_id: str
    """``KEY_ID_LENGTH`` hexadecimal digits."""
    secret: str = field(repr=False)
    """256 bits, in letters that may stand in a header."""

    def __post_init__(self) -> None:
        assert len(self.key_id) == KEY_ID_LENGTH


@dataclass(frozen=True, slots=True)
class Made:
    """A new key: its record, and the key itself, which is shown once."""

    record: ApiKey
    key: str = field(repr=False)


def period(option: str, text: str) -> timedelta:
    """A duration as typed; raises CommandFailedError."""
    try:
        found = timedelta(seconds=seconds(text))
    except (NotATimeError, OverflowError) as error:
        raise CommandFailedError(f"{option}: {error}", "Use 24h, 30d, 90d", code=2) from error
    return found


def check(name: str, tenant: str | None, agents: tuple[str, ...], expires: str | None) -> None:
    """Raises CommandFailedError naming option, value and what to do."""
    if not name.strip() or len(name) > 256 or "\x00" in name:
        raise CommandFailedError(
            f"NAME: {name[:80]!r} is no name", "Use 1 to 256 characters that say who will use the key", code=2
        )
    for option, value in (("--tenant", tenant), *(("--agent", agent) for agent in agents)):
        if value is not None and not is_token(value):
            raise CommandFailedError(f"{option}: {value!r} is no id", "Use 1 to 64 letters, digits, - and _", code=2)
    if expires is not None and period("--expires", expires) <= timedelta(0):
        raise CommandFailedError(f"--expires: must be above 0 (is {expires})", "Use 24h, 30d, 90d", code=2)


def made(
    name: str, tenant: str, chance: Chance, *, now: datetime, by: str, agents: tuple[str, ...] = (),
    expires_at: datetime | None = None, replaces: str | None = None, role: KeyRole = "sender",
) -> Made:  # fmt: skip
    """A new key."""
    key = spelled(chance.key_id, chance.secret)
    record = ApiKey(
        key_id=chance.key_id, tenant_id=tenant, name=name, digest=digest(key), last_four=key[-4:], agents=tuple(dict.fromkeys(agents)),
        role=role, created_at=now, created_by=by, expires_at=expires_at, replaces=replaces,
    )  # fmt: skip
    return Made(record, key)


def revoked(record: ApiKey, *, now: datetime, by: str) -> ApiKey:
    """The same key, good for nothing from ``now`` on."""
    return record.model_copy(update={"revoked_at": now, "revoked_by": by})


def ending(record: ApiKey, at: datetime) -> ApiKey:
    """The same key, good until ``at`` at the latest."""
    before = record.expires_at
    return record.model_copy(update={"expires_at": at if before is None else min(before, at)})


def standing(record: ApiKey, now: datetime) -> str:
    """``active``, ``revoked`` or ``expired``."""
    if record.revoked_at is not None:
        return "revoked"
    return "expired" if record.expires_at is not None and record.expires_at <= now else "active"
