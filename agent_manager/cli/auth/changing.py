"""Logins made, replaced and revoked, checked before anything is written. Pure: time, password and hash are arguments."""

from dataclasses import dataclass, field
from datetime import datetime

from agent_manager.cli.failure import CommandFailedError
from schemas.ids import is_token
from streams.users import BUILT_IN, BY_IDENTITY, BY_KEY, EVERY_TENANT, Role, User, Users


@dataclass(frozen=True, slots=True)
class Secret:
    """A new password and what is kept of it."""

    password: str = field(repr=False)
    hashed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Changed:
    """All logins as they are now, and the one that is other."""

    users: Users
    user: User


def _with(users: Users, user: User) -> Changed:
    return Changed(Users(users=users.users | {user.name: user}), user)


def find(users: Users, name: str) -> User:
    """The login called ``name``; raises CommandFailedError naming those there are."""
    if (found := users.users.get(name)) is not None:
        return found
    known = ", ".join(sorted(users.users))
    raise CommandFailedError(
        f"there is no user {name!r}", f"There are: {known}" if known else "`agentops auth user add` makes one"
    )


def added(users: Users, name: str, role: Role, tenants: tuple[str, ...], secret: Secret, *, now: datetime, by: str) -> Changed:
    """With one more; raises CommandFailedError naming option, value and what to do."""
    if not is_token(name):
        raise CommandFailedError(f"NAME: {name[:80]!r} may not stand in a subject", "Use 1 to 64 of A-Z a-z 0-9 _ -", code=2)
    if name in BUILT_IN:
        raise CommandFailedError(f"NAME: {name!r} is a user of the system itself", "Choose another name", code=2)
    if name.startswith((BY_KEY, BY_IDENTITY)):
        raise CommandFailedError(f"NAME: {name!r} begins as those do for whom the REST API speaks", "Choose another name", code=2)
    if name in users.users:
        raise CommandFailedError(
            f"user {name!r} exists",
            f"A new password: agentops auth user rotate {name}. Names are not used twice: the audit trail has them",
        )
    for tenant in tenants:
        if tenant != EVERY_TENANT and not is_token(tenant):
            raise CommandFailedError(
                f"--tenant: {tenant[:80]!r} is no id", "Use 1 to 64 letters, digits, - and _, or '*' for every tenant", code=2
            )
    unique = (EVERY_TENANT,) if EVERY_TENANT in tenants else tuple(dict.fromkeys(tenants))
    return _with(users, User(name=name, role=role, tenants=unique, password_hash=secret.hashed, created_at=now, created_by=by))


def rotated(users: Users, name: str, secret: Secret, *, now: datetime) -> Changed:
    """The same user with another password; the old one is good for nothing from now on."""
    found = find(users, name)
    if found.revoked_at is not None:
        raise CommandFailedError(f"user {name!r} is revoked", "Add one with another name")
    return _with(users, found.model_copy(update={"password_hash": secret.hashed, "rotated_at": now}))


def revoked(users: Users, name: str, *, now: datetime) -> Changed:
    """The same user, who may not log in any more."""
    found = find(users, name)
    return Changed(users, found) if found.revoked_at is not None else _with(users, found.model_copy(update={"revoked_at": now}))
