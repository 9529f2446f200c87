"""TELEMETRY holds what is not covered, and little else; never is anything purged that is not covered."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from processors.validate.app import attach
from processors.validate.purging import Keep, MadeAnew, Purge, decide
from streams import progress, topology
from streams.apply import apply
from streams.embedded import EmbeddedServer
from streams.publish import NotStoredError, publish
from tests.conftest import until
from tests.processors_validate.running import accepted, drained, event, ids, running, send

MADE = datetime(2026, 2, 7, tzinfo=UTC)


@given(st.integers(0, 50), st.integers(0, 60), st.lists(st.integers(0, 80), min_size=1, max_size=4))
def test_nothing_goes_that_a_partition_has_not_covered_or_that_came_after_the_look(
    first: int, last: int, covered: list[int]
) -> None:
    answer = decide(first, last, MADE, MADE, covered)
    assert isinstance(answer, Purge | Keep)
    if isinstance(answer, Purge):
        assert first <= answer.up_to <= last
        assert answer.up_to <= min(covered)


def test_of_a_stream_made_anew_nothing_goes() -> None:
    assert isinstance(decide(1, 10, MADE + timedelta(hours=1), MADE, [10]), MadeAnew)


async def test_the_sequences_go_on_over_purges_restarts_of_the_server_and_of_validate(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = [event() for _ in range(6)]
    for start in (0, 2, 4):
        async with running(attach, server, tmp_path):
            await send(client, *made[start : start + 2])
            await drained(client)
        state = (await client.jsm().stream_info(topology.TELEMETRY)).state
        assert (state.first_seq, state.last_seq, state.messages) == (start + 3, start + 2, 0)
        await server.kill()
        await server.start()
        await until(lambda: client.is_connected, "connected again")
    assert ids(await accepted(client)) == [one["event_id"] for one in made]


async def test_stopping_purges_what_is_covered(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    """Though the last purge was less than a second ago."""
    async with running(attach, server, tmp_path):
        await send(client, event())
        await drained(client)
        await send(client, *(event() for _ in range(5)))

        async def covered() -> bool:
            return await progress.covered(client, 0) == 6

        await until(covered, "all are covered")
    assert (await client.jsm().stream_info(topology.TELEMETRY)).state.messages == 0


async def test_publishers_are_not_refused_for_what_is_covered_already(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """Through a stream of 100 kB pass three megabytes: what was refused had not been covered yet, and goes in at the next try."""
    config = (await client.jsm().stream_info(topology.TELEMETRY)).config
    config.max_bytes = 100_000
    await client.jsm().update_stream(config)
    made = [event(attributes={"text": "x" * 20_000}) for _ in range(150)]
    began = asyncio.get_running_loop().time()
    async with running(attach, server, tmp_path):
        for one in made:

            async def stored(one: dict[str, object] = one) -> bool:
                try:
                    await publish(client, "telemetry.acme.a1.run", orjson.dumps(one))
                except NotStoredError:
                    return False
                return True

            await until(stored, "stored")
        await drained(client)
    assert asyncio.get_running_loop().time() - began < 30
    assert ids(await accepted(client)) == [one["event_id"] for one in made]


async def test_a_telemetry_made_anew_under_a_running_validate_is_left_alone(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """Its sequences begin again: what arrives would look covered, and be purged unread."""
    async with running(attach, server, tmp_path) as validate:
        await send(client, event(), event(), event())
        await drained(client)
        await client.jsm().delete_stream(topology.TELEMETRY)
        await apply(client)
        await send(client, event())
        await until(lambda: "made anew" in validate.waiting_for().get("validate", ""), "it says why it halted", 15)
    assert (await client.jsm().stream_info(topology.TELEMETRY)).state.messages == 1
