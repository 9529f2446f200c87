"""People and programs of their own at NATS: what each may do there, by role and tenants. Pure.

The user token of a command's subject, and the subjects on which answers come, are pinned to the user: nobody speaks as somebody
else, and nobody hears another's answers. JetStream's own API publishes wherever it is told to, so whoever is bound to tenants has none of it.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from schemas.model import Instant, Lenient, Name, Token
from streams import subjects

Role = Literal["viewer", "operator", "admin"]
EVERY_TENANT: Final = "*"
BUILT_IN: Final = (
    "system",
    "operator",
    "dashboard",
    "sidecar",
    "gateway",
    "api",
    "mirror",
    "firestore",
    "bridge",
    "healing",
    "reconcile",
    "discovery",
)
"""Names that mean something already: as a login, or as who did something in the audit trail."""
BY_KEY: Final = "key-"
BY_IDENTITY: Final = "oidc-"
"""How those begin for whom the REST API speaks: the holder of an API key, or of an identity provider's token. No login does."""

_SHOWN_BUCKETS: Final = ("registry", "agent_states", "observations", "faults")
"""What every reader may see: no secrets, no hashes."""
_FOLLOWED_BUCKETS: Final = (
    *_SHOWN_BUCKETS,
    "releases",
    "sightings",
    "acknowledgements",
    "budgets",
    "budget_flags",
    "prices",
    "policy_flags",
)
"""What those who see every tenant may follow; the command line does."""

Hash = Annotated[str, StringConstraints(pattern=r"^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$")]


class User(Lenient):
    """One login. The password is kept nowhere, only its bcrypt hash."""

    name: Token
    role: Role
    tenants: Annotated[tuple[Token | Literal["*"], ...], Field(min_length=1, max_length=200)]
    """Which tenants' subjects; ``*``: every one."""
    password_hash: Hash
    created_at: Instant
    created_by: Name
    rotated_at: Instant | None = None
    revoked_at: Instant | None = None

    @property
    def everywhere(self) -> bool:
        """Whether it is bound to no tenant."""
        return EVERY_TENANT in self.tenants


class Users(Lenient):
    """``nats/users.json``: every login that was ever added, by name."""

    users: dict[Token, User] = {}

    def active(self) -> tuple[User, ...]:
        """Those who may log in, by name."""
        return tuple(user for _, user in sorted(self.users.items()) if user.revoked_at is None)


def inbox_prefix(user: str) -> str:
    """Where answers to requests of ``user`` come: ``NATS_INBOX_PREFIX`` of its clients."""
    return f"_INBOX_{user}"


def publishes(user: User) -> list[str]:
    """The subjects ``user`` may publish to."""
    allowed: list[str] = []
    for tenant in user.tenants:
        allowed += [f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{tenant}.*" for bucket in _SHOWN_BUCKETS]
        if user.role != "viewer":
            allowed.append(subjects.commands_of(tenant, user.name))
        if user.role == "admin":
            allowed += [subjects.change(word, user.name, tenant) for word in (subjects.BUDGETS, subjects.POLICIES)]
    allowed += [f"$JS.API.STREAM.INFO.KV_{bucket}" for bucket in _SHOWN_BUCKETS]
    if user.everywhere:
        # A question names its tenant in its body, where no server can check it.
        allowed += [subjects.ALL_QUERIES, subjects.MANAGER_QUERY]
        for bucket in _FOLLOWED_BUCKETS:
            # Some clients name the consumer they make in its subject, others do not.
            allowed += [f"$JS.API.CONSUMER.{verb}.KV_{bucket}.>" for verb in ("CREATE", "MSG.NEXT", "DELETE", "INFO")]
            allowed += [f"$JS.API.CONSUMER.CREATE.KV_{bucket}", f"$JS.API.DIRECT.GET.KV_{bucket}.>"]
        shown = (
            "TELEMETRY",
            "EVENTS",
            "LEDGER",
            "ALERTS",
            "COMMANDS",
            "AUDIT",
            *(f"KV_{bucket}" for bucket in _FOLLOWED_BUCKETS),
        )
        allowed += [f"$JS.API.STREAM.INFO.{stream}" for stream in shown]
        allowed += [f"$JS.API.STREAM.MSG.GET.{stream}" for stream in ("EVENTS", "LEDGER", "ALERTS")]
        if user.role != "viewer":
            allowed.append("$KV.acknowledgements.>")
        if user.role == "admin":
            allowed += [f"cost.{user.name}.*", f"content.{user.name}.policy"]
    return allowed


def subscribes(user: User) -> list[str]:
    """The subjects ``user`` may listen to."""
    heard = [f"{inbox_prefix(user.name)}.>", f"{subjects.MANAGER_RESPONSE}.{user.name}.*"]
    for tenant in user.tenants:
        for beginning in ("events", "alerts", "ledger", "dead"):
            heard += [f"{beginning}.{tenant}", f"{beginning}.{tenant}.>"]
    if user.everywhere:
        heard += [subjects.AGENT_STATUS, subjects.AGENT_METRICS, f"{subjects.MANAGER_RESPONSE}.>"]
    if user.everywhere and user.role == "admin":
        heard.append(subjects.ALL_AUDIT)
    return heard


def entry(user: User) -> dict[str, Any]:
    """``user`` as nats-server's configuration has it."""
    return {
        "user": user.name,
        "password": user.password_hash,
        "permissions": {"publish": {"allow": publishes(user)}, "subscribe": {"allow": subscribes(user)}},
    }
