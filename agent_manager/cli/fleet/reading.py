"""The fleet as it stands in the buckets."""

import asyncio
from difflib import get_close_matches

from nats.aio.client import Client

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet.rows import Fleet, Found, Several, find
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from schemas.versions import Releases, Sighting
from streams import topology
from streams.kv import BucketMissingError, TypedBucket, Value

_DEADLINE_S = 10.0


async def _all(client: Client, bucket: str, model: type[Value]) -> dict[str, Value]:
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await (await TypedBucket.open(client, bucket, model)).all()
    except BucketMissingError as error:
        raise CommandFailedError(f"bucket {bucket!r} does not exist", "Run `agentops streams apply`") from error


async def fleet(client: Client) -> Fleet:
    """Every agent known now."""
    records, states, observations, faults, releases, sightings = await asyncio.gather(
        _all(client, topology.REGISTRY, AgentRecord),
        _all(client, topology.AGENT_STATES, AgentState),
        _all(client, topology.OBSERVATIONS, Observation),
        _all(client, topology.FAULTS, FaultSet),
        _all(client, topology.RELEASES, Releases),
        _all(client, topology.SIGHTINGS, Sighting),
    )
    return Fleet(records, states, observations, faults, releases, sightings)


def key_of(known: Fleet, agent_id: str, tenant: str | None) -> str:
    """The key of one agent; raises CommandFailedError naming what exists."""
    match find(known.agents(), agent_id, tenant):
        case Found(key):
            return key
        case Several(tenants):
            raise CommandFailedError(
                f"agent {agent_id!r} exists in several tenants: {', '.join(tenants)}", "Say which with --tenant"
            )
        case unknown:
            where = f" in tenant {tenant!r}" if tenant else ""
            near = get_close_matches(agent_id, unknown.known, n=1)
            if near:
                advice = f"Did you mean {near[0]!r}?"
            elif unknown.known:
                advice = f"Known are: {', '.join(unknown.known[:20])}"
            else:
                advice = "No agent is registered: is the agent manager running, and AGENTOPS_AGENTS set to a folder with agent.yaml files?"
            raise CommandFailedError(f"there is no agent {agent_id!r}{where}", advice)
