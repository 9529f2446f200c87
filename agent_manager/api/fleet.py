"""Every agent as it stands now, kept in memory by following the buckets about agents: a request costs NATS nothing."""

import asyncio
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

from nats.aio.client import Client

from agent_manager.api.callers import Caller
from agent_manager.api.problems import ProblemError, away, not_found
from agent_manager.cli.fleet.rows import Fleet, Found, Several, find
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from schemas.versions import Releases, Sighting
from streams import topology
from streams.following import follow
from streams.kv import TypedBucket, Value

_AGAIN_S: Final = 1.0


class FleetWatch:
    """What is known stands while NATS is away."""

    def __init__(self) -> None:
        self._records: dict[str, AgentRecord] = {}
        self._states: dict[str, AgentState] = {}
        self._observations: dict[str, Observation] = {}
        self._faults: dict[str, FaultSet] = {}
        self._releases: dict[str, Releases] = {}
        self._sightings: dict[str, Sighting] = {}
        self.unread = {
            topology.REGISTRY, topology.AGENT_STATES, topology.OBSERVATIONS, topology.FAULTS, topology.RELEASES, topology.SIGHTINGS
        }  # fmt: skip
        """Buckets that were never read yet."""

    def known(self) -> Fleet:
        """The fleet; raises ProblemError (503) before it was read once."""
        if self.unread:
            raise away("agents are not known yet: ask again in a moment")
        return Fleet(self._records, self._states, self._observations, self._faults, self._releases, self._sightings)

    def key(self, caller: Caller, agent_id: str, tenant: str | None) -> str:
        """Which agent that is for this caller; raises ProblemError (404, 409), which names only what the caller may see."""
        keys = [key for key in self.known().agents() if caller.sees_agent(key)]
        match find(keys, agent_id, tenant):
            case Found(key):
                return key
            case Several(tenants):
                raise ProblemError(409, "several", f"agent {agent_id!r} exists in {', '.join(tenants)}: say which with ?tenant=")
            case unknown:
                near = get_close_matches(agent_id, unknown.known, n=1)
                raise not_found(f"there is no agent {agent_id!r}{f': did you mean {near[0]!r}?' if near else ''}")

    async def run(self, client: Client) -> None:
        """Follows every bucket until cancelled."""
        async with asyncio.TaskGroup() as group:

            def begin(bucket: str, model: type[Value], kept: dict[str, Value]) -> None:
                group.create_task(
                    follow(client, bucket, model, self._reading(bucket, kept), _telling(kept), name="api", again_s=_AGAIN_S),
                    name=f"follow-{bucket}",
                )

            begin(topology.REGISTRY, AgentRecord, self._records)
            begin(topology.AGENT_STATES, AgentState, self._states)
            begin(topology.OBSERVATIONS, Observation, self._observations)
            begin(topology.FAULTS, FaultSet, self._faults)
            begin(topology.RELEASES, Releases, self._releases)
            begin(topology.SIGHTINGS, Sighting, self._sightings)

    def _reading(self, bucket: str, kept: dict[str, Value]) -> Callable[[TypedBucket[Value]], Any]:
        async def read(opened: TypedBucket[Value]) -> None:
            found = await opened.all()
            kept.clear()
            kept.update(found)
            self.unread.discard(bucket)

        return read


def _telling(kept: dict[str, Value]) -> Callable[[str, Value | None], None]:
    def tell(key: str, value: Value | None) -> None:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value

    return tell
