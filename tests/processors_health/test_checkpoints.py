"""Checkpoints of health: whatever agents tell of themselves, what they are judged by is kept."""

from datetime import UTC, datetime
from itertools import count
from zlib import crc32

from nats.aio.client import Client

from processors.health.checkpoints import Checkpoints
from processors.health.state import AgentHealth, ReadUpTo
from schemas.sections import Check
from streams.kv import agent_key

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
TALKATIVE = tuple(Check(name=f"probe-{number}", kind="http", ok=False, error="e" * 8000) for number in range(32))


def agent(name: str) -> AgentHealth:
    return AgentHealth(
        tenant_id="acme", agent_id=name, arrived_at=AT, health="UNHEALTHY", status="running", reason="probe fails", since=AT,
        bad_beats=3, checks=TALKATIVE, updated_at=AT,
    )  # fmt: skip


async def test_agents_that_tell_too_much_for_one_message_are_kept_without_their_numbers(client: Client) -> None:
    """A quarter of a megabyte each is allowed; a dozen in one portion must not end the checkpoints of all."""
    together = [name for name in map("agent-{}".format, range(5000)) if crc32(f"acme.{name}".encode()) % 256 == 7][:12]
    alone = next(name for name in map("other-{}".format, count()) if crc32(f"acme.{name}".encode()) % 256 == 8)
    fleet = {agent_key("acme", name): agent(name) for name in (*together, alone)}
    checkpoints = await Checkpoints.open(client)
    await checkpoints.save(fleet, set(fleet), ReadUpTo(sequence=9, at=AT))
    position, kept = await checkpoints.load()
    assert position is not None
    assert position.sequence == 9
    found = {agent_key(each.tenant_id, each.agent_id): each for each in kept}
    assert found.pop(agent_key("acme", alone)).checks == TALKATIVE
    assert found == {
        key: each.model_copy(update={"checks": ()}) for key, each in fleet.items() if key != agent_key("acme", alone)
    }
