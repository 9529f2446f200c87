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
COVERED_VALIDATE: Final = "covered.validate.>"
COVERED_COST: Final = "covered.cost.>"

MANAGER_COMMAND: Final = "agent.manager.command"
MANAGER_QUERY: Final = "agent.manager.query"
MANAGER_RESPONSE: Final = "agent.manager.response"
AGENT_STATUS: Final = "agent.status"
AGENT_METRICS: Final = "agent.metrics"
RESERVED_AGENT_ID: Final = "manager"

UNKNOWN: Final = "unknown"
"""Stands in a subject for a token that may not stand there itself."""


class InvalidTokenError(ValueError):
    """A value may not stand in a subject. Trying again does not help."""


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


def events(tenant: str, kind: str) -> str:
    """``events.<tenant>.<kind>``."""
    return f"events.{token(tenant)}.{token(kind)}"


def events_of(kind: str) -> str:
    """``events.*.<kind>``: one kind of every tenant."""
    return f"events.*.{token(kind)}"


def events_matching(tenant: str | None, kind: str | None) -> str:
    """``events.<tenant>.<kind>`` with ``*`` for what is None: a filter, not a subject to publish to."""
    return f"events.{token(tenant) if tenant else '*'}.{token(kind) if kind else '*'}"


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


def alerts(tenant: str, severity: str, rule: str) -> str:
    """``alerts.<tenant>.<severity>.<rule>``."""
    return f"alerts.{token(tenant)}.{token(severity)}.{token(rule)}"


def alerts_matching(tenant: str | None, severity: str | None) -> str:
    """``alerts.<tenant>.<severity>.*`` with ``*`` for what is None: a filter."""
    return f"alerts.{token(tenant) if tenant else '*'}.{token(severity) if severity else '*'}.*"


def command(tenant: str, user: str, agent: str) -> str:
    """``command.<tenant>.<user>.<agent_id>``: publish permission pins the user token."""
    return f"command.{token(tenant)}.{token(user)}.{token(agent)}"


def command_response(command_id: str) -> str:
    """``agent.manager.response.<command_id>``."""
    return f"{MANAGER_RESPONSE}.{token(command_id)}"


def audit(tenant: str, agent: str) -> str:
    """``audit.<tenant>.<agent_id>``."""
    return f"audit.{token(tenant)}.{token(agent)}"


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
