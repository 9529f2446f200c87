"""Choosing ports: those of last time while they are free, so that addresses stay good across restarts."""

import random
from collections.abc import Callable
from typing import Final

from agent_manager.drivers.driver import LaunchError, Ports
from schemas.state import AgentRecord, AgentState
from service.ports import port_is_free

FIRST: Final = 20_000
LAST: Final = 32_000
"""Below the range from which systems take ports for outgoing connections: one of those could sit on ours at the next start."""

_TRIES: Final = 200


def _door_of(state: AgentState | None) -> int | None:
    if state is None or state.sidecar_url is None:
        return None
    port = state.sidecar_url.rstrip("/").rpartition(":")[2]
    return int(port) if port.isdigit() else None


def choose(
    record: AgentRecord,
    remembered: AgentState | None,
    taken: set[int],
    *,
    is_free: Callable[[int], bool] = port_is_free,
    randrange: Callable[[int, int], int] = random.randrange,
) -> Ports:
    """Three ports that are free now and not in ``taken``, to which they are added; raises LaunchError.

    A port the manifest fixes is taken as it is, or the start is refused.
    """

    def one(fixed: int, before: int | None, key: str) -> int:
        if fixed:
            if fixed in taken or not is_free(fixed):
                msg = f"{key} {fixed} is taken: stop what listens there, or choose another (0: any) in agent.yaml"
                raise LaunchError(msg)
            taken.add(fixed)
            return fixed
        for attempt in range(_TRIES):
            port = before if before and attempt == 0 else randrange(FIRST, LAST)
            if port not in taken and is_free(port):
                taken.add(port)
                return port
        msg = f"no free port between {FIRST} and {LAST} for {key}"
        raise LaunchError(msg)

    return Ports(
        agent=one(record.port, remembered.port if remembered else None, "port"),
        proxy=one(record.proxy_port, remembered.proxy_port if remembered else None, "proxy_port"),
        door=one(0, _door_of(remembered), "door port"),
    )
