"""A TELEMETRY of an earlier version, a work queue, becomes one that is purged when covered; nothing that waits there is lost."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy

from schemas.coverage import Coverage
from streams import moving, topology
from streams.apply import apply, check
from streams.covering import CoveredWriter
from streams.embedded import EmbeddedServer
from streams.publish import NotStoredError, publish
from tests.processors_validate.running import messages


async def work_queue(client: Client) -> None:
    """TELEMETRY as it was: eleven messages, of which validate has covered four, and one was acknowledged."""
    await client.jsm().delete_stream(topology.TELEMETRY)
    stream = topology.streams()[0]
    stream.retention = RetentionPolicy.WORK_QUEUE
    await client.jsm().add_stream(stream)
    await client.jsm().add_consumer(
        topology.TELEMETRY, ConsumerConfig(durable_name="validate-0", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=1)
    )
    for number in range(11):
        await publish(
            client, f"telemetry.acme.a{number}.run", b"%d" % number, message_id=f"id-{number}", headers={"Agentops-Events": "1"}
        )
    await client.jsm().delete_msg(topology.TELEMETRY, 1)
    writer = CoveredWriter(client, topology.EVENTS, "validate")
    await writer.resume()
    covered = Coverage(
        batch_id=uuid4().hex, processor="validate", partition=0, instance="before", input_stream=topology.TELEMETRY,
        first_sequence=1, last_sequence=4, messages=4, received=4, valid=4, dead=0, duplicates=0, at=datetime.now(UTC),
    )  # fmt: skip
    await writer.commit([], covered)


async def is_there(client: Client) -> None:
    found = await messages(client, topology.TELEMETRY, "telemetry.>")
    assert [(m.sequence, m.subject, m.data) for m in found] == [
        (number + 1, f"telemetry.acme.a{number}.run", b"%d" % number) for number in range(4, 11)
    ]
    assert found[0].headers["Agentops-Events"] == "1"
    assert await check(client) == []


async def test_applying_moves_what_is_not_covered_in_order_and_goes_on_counting(client: Client) -> None:
    await work_queue(client)
    assert [drift.problem for drift in await check(client) if "retention" in drift.problem] != []
    (done,) = await apply(client)
    assert done == (
        "made stream TELEMETRY anew, no longer a work queue, from sequence 5 on; messages not covered yet, taken along: 7"
    )
    assert await apply(client) == []
    await is_there(client)
    assert await publish(client, "telemetry.acme.a.run", b"new") == 12


@pytest.mark.parametrize("at", ["_put_aside", "_bring_back"])
async def test_a_move_that_was_interrupted_goes_on_and_publishers_keep_their_events_meanwhile(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    await work_queue(client)

    async def interrupted(*_: object) -> int:
        raise moving.CannotMoveError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(moving, at, interrupted)
        with pytest.raises(moving.CannotMoveError):
            await apply(client)
    if at == "_put_aside":
        with pytest.raises(NotStoredError):
            await publish(client, "telemetry.acme.a.run", b"new")
    await apply(client)
    await is_there(client)
    assert not await moving.is_moving(client)
