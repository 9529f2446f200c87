"""The publisher of the benchmarks speaks NATS' protocol itself: what it says and counts is checked against a real server."""

import time

import orjson
import pytest
from nats.aio.client import Client

from benchmarks import workload
from benchmarks.publishing import Publisher, RefusedError, due, frame, load
from schemas.reading import Rejected, read_event
from streams import subjects, topology
from streams.embedded import EmbeddedServer
from streams.messages import MESSAGE_ID, Received
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source
from tests.conftest import stream_messages


async def test_every_frame_is_acknowledged_and_stored_as_it_was_made(server: EmbeddedServer, client: Client) -> None:
    """Subject, headers and payload arrive unchanged."""
    events = list(workload.generate(300, seed=1))
    messages = workload.mixed(events, 40)
    publisher = await Publisher.connect(server.settings())
    await publisher.publish(load(messages).frames, window=7)
    assert publisher.outstanding == 0
    await publisher.close()
    reader = OrderedReader(client, Source(topology.TELEMETRY))
    stored: list[Received] = []
    while len(stored) < len(messages) and (some := await reader.fetch(len(messages), 2)):
        stored += some
    await reader.close()
    assert [(each.subject, each.data, dict(each.headers)) for each in stored] == [
        (each.subject, each.data, each.headers) for each in messages
    ]


async def test_frames_leave_when_they_are_due(server: EmbeddedServer, client: Client) -> None:
    """None before its time, and all in the end."""
    sent = load(workload.singles(list(workload.generate(50, seed=2))))
    publisher = await Publisher.connect(server.settings())
    began = time.perf_counter()
    late = await publisher.publish_on_time(sent.frames, [began + moment for moment in due(sent.events, 500)])
    assert time.perf_counter() - began >= 0.1
    assert late >= 0
    await publisher.acknowledged()
    await publisher.close()
    assert await stream_messages(client, topology.TELEMETRY) == 50


async def test_a_message_that_was_there_already_is_no_figure(server: EmbeddedServer) -> None:
    """An acknowledged duplicate is stored nowhere, so counting it would flatter."""
    message = workload.singles(list(workload.generate(1, seed=3)))[0]
    publisher = await Publisher.connect(server.settings())
    with pytest.raises(RefusedError, match="duplicate"):
        await publisher.publish([frame(message), frame(message)])
    await publisher.close()


async def test_a_subject_without_a_stream_is_refused(server: EmbeddedServer) -> None:
    message = workload.Message("nobody.listens", b"{}", {MESSAGE_ID: "1"}, 1)
    publisher = await Publisher.connect(server.settings())
    with pytest.raises(RefusedError):
        await publisher.publish([frame(message)])
    await publisher.close()


def test_a_batch_is_due_when_its_last_event_was_made() -> None:
    assert due([1, 1, 3], 10) == [0.1, 0.2, 0.5]


def test_mixed_messages_hold_every_event_once_half_of_them_alone() -> None:
    events = list(workload.generate(1_000, seed=4))
    messages = workload.mixed(events, 100)
    found = [orjson.loads(line)["event_id"] for message in messages for line in lines(message.data)]
    assert sorted(found) == sorted(event.event_id for event in events)
    assert sum(message.events == 1 for message in messages) >= 500
    assert sum(message.entries for message in messages) == workload.billable(events)
    # Spread evenly: a batch does not wait until all the single ones are gone.
    assert any(message.events > 1 for message in messages[: len(messages) // 4])


def test_heartbeats_are_valid_and_of_every_agent_in_turn() -> None:
    messages = workload.heartbeats(7, 14, seed=5)
    assert not any(isinstance(read_event(message.data), Rejected) for message in messages)
    agents = [message.subject.split(".")[2] for message in messages]
    assert agents[:7] == agents[7:]
    assert len(set(agents)) == 7
    assert all(message.subject.startswith(subjects.beginning(subjects.ALL_TELEMETRY)) for message in messages)
