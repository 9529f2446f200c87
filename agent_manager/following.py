"""Every agent as it stands now, kept in memory by following the buckets about agents."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from nats.aio.client import Client

from agent_manager.cli.fleet.rows import Fleet
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from schemas.versions import Releases, Sighting
from streams import topology
from streams.following import follow
from streams.kv import TypedBucket, Value

_AGAIN_S: Final = 1.0


class FleetFollower:
    """What is known stands while NATS is away. ``changed`` hears the key of each agent of which something is another now."""

    def __init__(self, name: str, changed: Callable[[str], object] = lambda _: None) -> None:
        self._name = name
        self._changed = changed
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

    def fleet(self) -> Fleet:
        """What is known now; whole once nothing is ``unread``."""
        return Fleet(self._records, self._states, self._observations, self._faults, self._releases, self._sightings)

    async def run(self, client: Client) -> None:
        """Follows every bucket until cancelled."""
        async with asyncio.TaskGroup() as group:

            def begin(bucket: str, model: type[Value], kept: dict[str, Value]) -> None:
                group.create_task(
                    follow(
                        client, bucket, model, self._reading(bucket, kept), self._telling(kept), name=self._name, again_s=_AGAIN_S
                    ),
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
            touched = {key for key in {*kept, *found} if kept.get(key) != found.get(key)}
            kept.clear()
            kept.update(found)
            self.unread.discard(bucket)
            for key in touched:
                self._changed(key)

        return read

    def _telling(self, kept: dict[str, Value]) -> Callable[[str, Value | None], None]:
        def tell(key: str, value: Value | None) -> None:
            if value is None:
                kept.pop(key, None)
            else:
                kept[key] = value
            self._changed(key)

        return tell
