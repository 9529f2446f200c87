"""Every subject, as a function. No other file contains a subject string."""

from typing import Final

from schemas.ids import is_token

ALL_TELEMETRY: Final = "telemetry.>"
ALL_EVENTS: Final = "events.>"
ALL_DEAD: Final = "dead.>"
ALL_LEDGER: Final = "ledger.>"
ALL_ALERTS: Final = "alerts.>"
ALL_COMMANDS: Final = "command.>"
ALL_AUDIT: Final = "audit.>"
ALL_QUERIES: Final = "query.>"
COVERED_VALIDATE: Final = "covered.validate.>"
COVERED_COST: Final = "covered.cost.>"

WAREHOUSE_SNAPSHOT: Final = "warehouse.snapshot"
"""Asks the aggregate for a snapshot of its warehouse."""

KEYS_AUDITED: Final = "api_keys"
"""Stands for the agent in ``audit.<tenant>.<agent_id>`` where an API key was made, revoked or rotated."""

REPLAYS_AUDITED: Final = "dead_letters"
"""Stands for the agent in ``audit.<tenant>.<agent_id>`` where dead letters were published again."""

BUDGETS: Final = "budgets"
POLICIES: Final = "policies"
"""What people change by asking the service of that name; the words stand for the agent in ``audit.<tenant>.<agent_id>``."""

COST_PRICES: Final = "cost.*.prices"
CONTENT_POLICY: Final = "content.*.policy"
COST_CORRECTIONS: Final = "cost.*.corrections"

MANAGER_COMMAND: Final = "agent.manager.command"
MANAGER_QUERY: Final = "agent.manager.query"
MANAGER_RESPONSE: Final = "agent.manager.response"
ANNOUNCED: Final = "agents.hb.>"
"""Heartbeats of the Synadia agent protocol: ``agents.hb.<agent>.<owner>.<session>``."""
ANNOUNCED_SERVICE: Final = "$SRV.INFO.agents"
"""Asks every instance of the micro service ``agents`` of that protocol who it is."""

AGENT_STATUS: Final = "agent.status"
AGENT_METRICS: Final = "agent.metrics"
RESERVED_AGENT_ID: Final = "manager"

RETIRED_TELEMETRY: Final = "retired.telemetry"
"""What a TELEMETRY that is being moved listens to: nobody publishes it."""
MOVING_TELEMETRY: Final = "moving.telemetry.>"

_TELEMETRY: Final = "telemetry"
_MOVING: Final = "moving."
_PARTITION: Final = "partition"
_PARTITIONED: Final = "partition."

UNKNOWN: Final = "unknown"
"""Stands in a subject for a token that may not stand there itself."""


class InvalidTokenError(ValueError):
    """A value may not stand in a subject. Trying again does not help."""


def of_tenant(pattern: str, tenant: str) -> tuple[str, ...]:
    """The filters for one tenant's part of ``events.>``, ``dead.>``, ``ledger.>`` or ``alerts.>``."""
    first = f"{beginning(pattern)}.{token(tenant)}"
    return first, f"{first}.>"


def token(value: str) -> str:
    """``value``, if it may stand as one token of a subject; raises InvalidTokenError otherwise."""
    if not is_token(value):
        msg = f"{value[:80]!r} is not a valid id: use 1 to 64 of A-Z a-z 0-9 _ -"
        raise InvalidTokenError(msg)
    return value


def beginning(pattern: str) -> str:
    """The first token of a subject or pattern: what kind of thing is said there."""
    return pattern.split(".", 1)[0]


def telemetry(tenant: str, agent: str, kind: str) -> str:
    """``telemetry.<tenant>.<agent>.<kind>``: kind is an event kind, or ``batch`` where mixed."""
    return f"telemetry.{token(tenant)}.{token(agent)}.{token(kind)}"


def is_telemetry(subject: str) -> bool:
    """Whether ``subject`` is a valid ``telemetry.<tenant>.<agent>.<kind>``."""
    first, *rest = subject.split(".")
    return first == "telemetry" and len(rest) == 3 and all(map(is_token, rest))


def partition_transform(partitions: int) -> tuple[str, str]:
    """How TELEMETRY names what it stores once there are several partitions: ``partition.<number>.`` and the subject as it came.

    The server chooses the number by tenant and agent. What has another form than ``telemetry.<tenant>.<agent>.<kind>`` keeps its subject.
    """
    choice = f"{{{{partition({partitions},1,2)}}}}"
    return (
        f"{_TELEMETRY}.*.*.*",
        f"{_PARTITION}.{choice}.{_TELEMETRY}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}",
    )


def of_partition(number: int) -> tuple[str, ...]:
    """``partition.<number>.>``, a filter; the first partition also takes what carries no number."""
    return (f"{_PARTITION}.{number}.>", *((ALL_TELEMETRY,) if number == 0 else ()))


def is_partitioned(subject: str) -> bool:
    """Whether a stored subject carries the number of its partition."""
    return subject.startswith(_PARTITIONED)


def without_partition(subject: str) -> tuple[str, int]:
    """A stored subject as it was published, and its partition."""
    if not is_partitioned(subject):
        return subject, 0
    _, number, original = subject.split(".", 2)
    return original, int(number)


def moving(subject: str) -> str:
    """``moving.<subject>``: a message of TELEMETRY while that is made anew."""
    return f"{_MOVING}{subject}"


def moved(subject: str) -> str:
    """The subject a ``moving.<subject>`` had."""
    return subject.removeprefix(_MOVING)


def events(tenant: str, kind: str) -> str:
    """``events.<tenant>.<kind>``."""
    return f"events.{token(tenant)}.{token(kind)}"


def events_of(kind: str) -> str:
    """``events.*.<kind>``: one kind of every tenant."""
    return f"events.*.{token(kind)}"


def events_matching(tenant: str | None, kind: str | None) -> str:
    """``events.<tenant>.<kind>`` with ``*`` for what is None: a filter, not a subject to publish to."""
    return f"events.{token(tenant) if tenant else '*'}.{token(kind) if kind else '*'}"


def kind_of(subject: str) -> str:
    """The kind in ``events.<tenant>.<kind>``."""
    return subject.rsplit(".", 1)[1]


def dead(tenant: str, kind: str) -> str:
    """``dead.<tenant>.<kind>``; what may not stand in a subject becomes ``unknown``."""
    return f"dead.{tenant if is_token(tenant) else UNKNOWN}.{kind if is_token(kind) else UNKNOWN}"


def dead_of(tenant: str) -> str:
    """``dead.<tenant>.>``: every dead letter of one tenant; a filter."""
    return f"dead.{token(tenant)}.>"


def covered(processor: str, partition: int = 0) -> str:
    """``covered.<processor>.<partition>``."""
    return f"covered.{token(processor)}.{partition}"


def ledger(tenant: str) -> str:
    """``ledger.<tenant>``."""
    return f"ledger.{token(tenant)}"


def ledger_corrections(tenant: str, day: str) -> str:
    """``ledger.<tenant>.corrections.<yyyymmdd>``: reversals and adjustments of entries whose calls happened on that day."""
    return f"ledger.{token(tenant)}.corrections.{token(day)}"


def all_charges() -> str:
    """``ledger.*``: every entry cost makes for a call; a filter."""
    return "ledger.*"


def all_ledger_corrections() -> str:
    """``ledger.*.corrections.*``: every reversal and adjustment; a filter."""
    return "ledger.*.corrections.*"


def ledger_of(tenant: str) -> tuple[str, str]:
    """``ledger.<tenant>`` and ``ledger.<tenant>.corrections.*``: everything one tenant's ledger says."""
    return ledger(tenant), f"{ledger(tenant)}.corrections.*"


def cost_prices(user: str) -> str:
    """``cost.<user>.prices``: asks cost to change what is in force; publish permission pins the user token."""
    return f"cost.{token(user)}.prices"


def content_policy(user: str) -> str:
    """``content.<user>.policy``: asks validate to change a tenant's content policy; publish permission pins the user token."""
    return f"content.{token(user)}.policy"


def changes(word: str) -> str:
    """``<word>.*.*``: every request to change ``budgets`` or ``policies``; a filter."""
    return f"{token(word)}.*.*"


def change(word: str, user: str, tenant: str) -> str:
    """``<word>.<user>.<tenant>``: asks for a change of a tenant's ``budgets`` or ``policies``; publish permission pins user and tenant.

    ``*`` for every tenant's: a permission.
    """
    return f"{token(word)}.{token(user)}.{tenant if tenant == '*' else token(tenant)}"


def cost_corrections(user: str) -> str:
    """``cost.<user>.corrections``: asks cost to correct ledger entries; publish permission pins the user token."""
    return f"cost.{token(user)}.corrections"


def alerts(tenant: str, severity: str, rule: str) -> str:
    """``alerts.<tenant>.<severity>.<rule>``."""
    return f"alerts.{token(tenant)}.{token(severity)}.{token(rule)}"


def alerts_matching(tenant: str | None, severity: str | None) -> str:
    """``alerts.<tenant>.<severity>.*`` with ``*`` for what is None: a filter."""
    return f"alerts.{token(tenant) if tenant else '*'}.{token(severity) if severity else '*'}.*"


def command(tenant: str, user: str, agent: str) -> str:
    """``command.<tenant>.<user>.<agent_id>``: publish permission pins the user token."""
    return f"command.{token(tenant)}.{token(user)}.{token(agent)}"


def commands_of(tenant: str, user: str) -> str:
    """``command.<tenant>.<user>.*``: what ``user`` may ask of a tenant's agents, ``*`` for every tenant's; a permission."""
    return f"command.{tenant if tenant == '*' else token(tenant)}.{token(user)}.*"


def command_response_to(user: str, command_id: str) -> str:
    """``agent.manager.response.<user>.<command_id>``: the same answer where its sender alone may listen."""
    return f"{MANAGER_RESPONSE}.{token(user)}.{token(command_id)}"


def command_response(command_id: str) -> str:
    """``agent.manager.response.<command_id>``."""
    return f"{MANAGER_RESPONSE}.{token(command_id)}"


def audit(tenant: str, agent: str) -> str:
    """``audit.<tenant>.<agent_id>``."""
    return f"audit.{token(tenant)}.{token(agent)}"


def audited_replays(tenant: str | None = None) -> str:
    """``audit.<tenant>.dead_letters``: who published dead letters again; without ``tenant`` a filter for all of them.

    A tenant that may not stand in a subject becomes ``unknown``, as it did in the subject of its letters.
    """
    return f"audit.{'*' if tenant is None else tenant if is_token(tenant) else UNKNOWN}.{REPLAYS_AUDITED}"


def registry_history(tenant: str, agent: str) -> str:
    """``audit.<tenant>.<agent_id>.registry``: every change of what an agent is."""
    return f"{audit(tenant, agent)}.registry"


def registry_history_of(agent: str) -> str:
    """``audit.*.<agent_id>.registry``: of every tenant's agent of this id; a filter."""
    return f"audit.*.{token(agent)}.registry"


def agent_command(agent: str) -> str:
    """``agent.<agent_id>.command``."""
    return f"agent.{token(agent)}.command"


def agent_query(agent: str) -> str:
    """``agent.<agent_id>.query``."""
    return f"agent.{token(agent)}.query"


def agent_response(agent: str) -> str:
    """``agent.<agent_id>.response``."""
    return f"agent.{token(agent)}.response"


def query(name: str) -> str:
    """``query.<name>``."""
    return f"query.{token(name)}"
