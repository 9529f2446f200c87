"""The environment an agent is started with. Secrets are named in records and resolved here, at the last moment."""

import re
from collections.abc import Mapping
from typing import Final

from agent_manager.drivers.driver import LaunchError

_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

OWN: Final = frozenset({
    "AGENTOPS_AGENTS", "AGENTOPS_STOP_AGENTS", "AGENTOPS_HEALTH_PORT", "AGENTOPS_HEALTH_HOST",
    "NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDENTIALS", "NATS_URL",
    "AGENTOPS_DASHBOARD_PASSWORD", "AGENTOPS_DASHBOARD_NATS_PASSWORD", "AGENTOPS_OPERATOR_PASSWORD",
    "AGENTOPS_SYSTEM_PASSWORD", "AGENTOPS_WEBHOOK_URLS",
})  # fmt: skip
"""The manager's alone, and logins of other parts it may have been started with: an agent is given its own, or none."""
_OF_SIDECARS: Final = "AGENTOPS_SIDECAR_"
"""What is meant for sidecars is on their command line; a stray one of the manager's would override it."""


class UnresolvedError(LaunchError):
    """A manifest names a variable that the manager's environment lacks. Setting it helps."""


def resolve(text: str, variables: Mapping[str, str], name: str) -> str:
    """``text`` with every ``${VARIABLE}`` and ``${VARIABLE:-default}`` replaced; raises UnresolvedError.

    As in a shell, the default also stands for a variable that is set to nothing.
    """

    def value(match: re.Match[str]) -> str:
        variable, default = match.group(1), match.group(2)
        found = variables.get(variable)
        if default is not None:
            return found or default
        if found is None:
            msg = (
                f"environment.{name} names ${{{variable}}}, which is not set where the manager runs: "
                f"set it, or write ${{{variable}:-default}} in agent.yaml"
            )
            raise UnresolvedError(msg)
        return found

    return _REFERENCE.sub(value, text)


def resolved(environment: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Every entry of a record's environment, resolved; raises UnresolvedError."""
    return {name: resolve(text, variables, name) for name, text in environment.items()}


def inherited(variables: Mapping[str, str]) -> dict[str, str]:
    """What an agent inherits of the manager's environment."""
    return {name: value for name, value in variables.items() if name not in OWN and not name.startswith(_OF_SIDECARS)}
