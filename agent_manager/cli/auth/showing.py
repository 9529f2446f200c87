"""What ``agentops auth`` does and prints."""

import fcntl
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import bcrypt
from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.auth import changing
from agent_manager.cli.auth.changing import Changed, Secret
from agent_manager.cli.connection import Place, data_directory, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet.orders import person
from schemas.commands import AuditRecord
from streams import subjects
from streams.embedded import ServerError, keep_users, read_users, reload
from streams.publish import NotStoredError, publish
from streams.users import Role, User, Users, entry, inbox_prefix

_ROUNDS: Final = 10
"""The password has 192 random bits: more rounds would only make logging in slow."""
_EVERYBODYS: Final = "system"


def _secret() -> Secret:
    password = secrets.token_urlsafe(24)
    return Secret(password, bcrypt.hashpw(password.encode(), bcrypt.gensalt(_ROUNDS, b"2a")).decode())


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One change at a time."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "users.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise CommandFailedError(f"{error.filename} may not be written", "Run as the user who runs `agentops up`") from error


def _read(directory: Path) -> Users:
    try:
        return read_users(directory)
    except ServerError as error:
        raise CommandFailedError(str(error)) from error


def _audit(data: Path | None, action: str, user: User) -> None:
    """Recorded before it is done: no change goes without."""
    told = AuditRecord(
        audit_id=str(uuid4()), at=datetime.now(UTC), tenant_id=_EVERYBODYS, agent_id=subjects.KEYS_AUDITED, actor="operator",
        action=f"auth.user.{action}", params={"user": user.name, "role": user.role, "tenants": list(user.tenants), "person": person()},
        outcome="success",
    )  # fmt: skip

    async def work(client: Client, place: Place) -> None:
        record = told.model_copy(update={"actor": place.user})
        subject = subjects.audit(_EVERYBODYS, subjects.KEYS_AUDITED)
        try:
            await publish(client, subject, record.model_dump_json(exclude_none=True).encode(), message_id=told.audit_id)
        except NotStoredError as error:
            raise CommandFailedError(
                "the change was not made, because it could not be recorded in AUDIT", "See `agentops doctor`"
            ) from error

    run(data, work)


def _change(data: Path | None, action: str, change: Callable[[Users], Changed]) -> tuple[User, bool]:
    directory = data_directory(data) / "nats"
    with _alone(directory):
        changed = change(_read(directory))
        _audit(data, action, changed.user)
        keep_users(directory, changed.users)
        return changed.user, reload(directory)


def _told(user: User) -> dict[str, Any]:
    return user.model_dump(mode="json", exclude={"password_hash"}) | {"state": "revoked" if user.revoked_at else "active"}


def _show_once(user: User, secret: Secret, *, took: bool, as_json: bool) -> None:
    variables = {"NATS_USER": user.name, "NATS_PASSWORD": secret.password, "NATS_INBOX_PREFIX": inbox_prefix(user.name)}
    if as_json:
        output.write_json(_told(user) | {"environment": variables, "in_force": took})
        return
    for name, value in variables.items():
        output.write_line(f"export {name}={value}")
    output.note("shown this once: only the password's bcrypt hash is kept")
    if not took:
        output.note(
            "no embedded server runs here: it is in force when that starts, or when an outside server reads `agentops auth config`"
        )


def add(data: Path | None, name: str, role: Role, tenants: tuple[str, ...], *, as_json: bool) -> None:
    """Makes a login and shows its password, this once."""
    secret, now = _secret(), datetime.now(UTC)
    user, took = _change(data, "add", lambda users: changing.added(users, name, role, tenants, secret, now=now, by=person()))
    _show_once(user, secret, took=took, as_json=as_json)


def rotate(data: Path | None, name: str, *, as_json: bool) -> None:
    """Makes another password."""
    secret, now = _secret(), datetime.now(UTC)
    user, took = _change(data, "rotate", lambda users: changing.rotated(users, name, secret, now=now))
    _show_once(user, secret, took=took, as_json=as_json)


def revoke(data: Path | None, name: str, *, as_json: bool) -> None:
    """Ends a login, and the connections that have it."""
    now = datetime.now(UTC)
    user, took = _change(data, "revoke", lambda users: changing.revoked(users, name, now=now))
    if as_json:
        output.write_json(_told(user) | {"in_force": took})
    else:
        output.write_line(f"user {name} is revoked" + ("" if took else "; in force when the server next reads its configuration"))


def list_(data: Path | None, *, as_json: bool) -> None:
    """Every login that was ever added."""
    users = [user for _, user in sorted(_read(data_directory(data) / "nats").users.items())]
    if as_json:
        output.write_json([_told(user) for user in users])
        return
    for user in users:
        output.write_line(
            f"{user.name:<20} {user.role:<9} {'revoked' if user.revoked_at else 'active':<8} {', '.join(user.tenants)}"
        )
    if not users:
        output.note("there are none; `agentops auth user add` makes one")


def config(data: Path | None) -> None:
    """The users of an outside server's account, to be put beside its own: hashes, never passwords."""
    users = _read(data_directory(data) / "nats").active()
    output.write_line(json.dumps({"users": [entry(user) for user in users]}, indent=1))
