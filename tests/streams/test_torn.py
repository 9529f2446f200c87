"""A batch torn by a limit that fell under it is completed, by its writer or by the next: everything stands once, and adds up."""

import asyncio
import random
from collections import Counter
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from schemas.coverage import Coverage
from streams import covering, subjects, topology, torn
from streams.connect import connect
from streams.covering import CoveredWriter, FencedError, Outgoing
from streams.embedded import EmbeddedServer
from streams.looking_behind import left_behind
from streams.messages import EVENT_COUNT
from streams.micro_batches import lines
from streams.torn import Leftovers, Part, Send, StepBack, Stored
from tests.processors_validate.running import messages
from tests.streams.tearing import store_part, torn_id
from tests.streams.test_covering import record


def event_line(number: int) -> bytes:
    return orjson.dumps({"event_id": str(UUID(int=number)), "n": number})


def micro(tenant: str, kind: str, numbers: list[int]) -> Outgoing:
    return Outgoing(subjects.events(tenant, kind), b"\n".join(map(event_line, numbers)), {EVENT_COUNT: str(len(numbers))})


def letter(number: int, events: int = 1) -> Outgoing:
    return Outgoing("dead.acme.run", orjson.dumps({"letter_id": str(number)}), {EVENT_COUNT: str(events)})


def told(outputs: list[Outgoing], until: int = 9, duplicates: int = 0) -> Coverage:
    valid = [line for out in outputs if out.subject.startswith("events.") for line in lines(out.data)]
    dead = sum(int(out.headers[EVENT_COUNT]) for out in outputs if out.subject.startswith("dead."))
    kinds = Counter(out.subject.split(".")[2] for out in outputs if out.subject.startswith("events.") for _ in lines(out.data))
    return record(1, until).model_copy(
        update={
            "received": len(valid) + dead + duplicates, "valid": len(valid), "dead": dead, "duplicates": duplicates,
            "valid_by_kind": dict(kinds),
        }
    )  # fmt: skip


def stand(outputs: list[Outgoing], until: int = 9, first: int = 1) -> Leftovers:
    return Leftovers(
        tuple(
            Part(number, out.subject, out.data, int(out.headers.get(EVENT_COUNT, "1")), until)
            for number, out in enumerate(outputs, first)
        )
    )


@st.composite
def batches(draw: st.DrawFn) -> list[Outgoing]:
    """Letters first, then micro-batches, every event once."""
    sizes = draw(st.lists(st.integers(1, 5), max_size=8))
    numbers = iter(range(100))
    made = [letter(number, draw(st.integers(1, 3))) for number in range(draw(st.integers(0, 3)))]
    for size in sizes:
        tenant, kind = draw(st.sampled_from(["acme", "globex"])), draw(st.sampled_from(["run", "step"]))
        made.append(micro(tenant, kind, [next(numbers) for _ in range(size)]))
    return made


def all_lines(outputs: list[Outgoing]) -> Counter[tuple[str, bytes]]:
    return Counter((out.subject, line) for out in outputs for line in lines(out.data))


class TestDeciding:
    @given(batches(), st.data())
    def test_whatever_prefix_was_stored_the_rest_makes_it_whole(self, outputs: list[Outgoing], data: st.DataObject) -> None:
        prefix = outputs[: data.draw(st.integers(0, len(outputs)))]
        coverage = told(outputs)
        answer = torn.decide(outputs, coverage, 0, None, stand(prefix))
        assert isinstance(answer, Send)
        assert all_lines(prefix) + all_lines(list(answer.outputs)) == all_lines(outputs)
        assert list(answer.outputs) == outputs[len(prefix) :]
        assert answer.beside == len(prefix)
        assert answer.coverage.model_copy(update={"torn": None}) == coverage
        assert len(answer.coverage.torn or ()) == len(prefix)

    @given(batches(), st.data())
    def test_who_judges_again_may_group_anew_and_may_find_what_stands_to_be_duplicates(
        self, outputs: list[Outgoing], data: st.DataObject
    ) -> None:
        """Another instance, whose index knows what was left behind: its sums come out as those of the batch that was torn."""
        prefix = outputs[: data.draw(st.integers(0, len(outputs)))]
        before = told(outputs)
        groups: dict[str, list[bytes]] = {}
        for out in outputs:
            if out.subject.startswith("events."):
                groups.setdefault(out.subject, []).extend(lines(out.data))
        known = {line for out in prefix for line in lines(out.data)} if data.draw(st.booleans()) else set[bytes]()
        again = [out for out in outputs if out.subject.startswith("dead.")]
        for subject, found in groups.items():
            kept = [line for line in found if line not in known]
            if kept:
                again.append(Outgoing(subject, b"\n".join(kept), {EVENT_COUNT: str(len(kept))}))
        repeats = sum(line in known for found in groups.values() for line in found)
        answer = torn.complete(again, told(again, duplicates=repeats), stand(prefix))
        assert all_lines(prefix) + all_lines(list(answer.outputs)) == all_lines(outputs)
        for out in answer.outputs:
            assert out.subject.startswith("dead.") or int(out.headers[EVENT_COUNT]) == len(lines(out.data))
        for name in ("received", "valid", "dead", "duplicates", "valid_by_kind"):
            assert getattr(answer.coverage, name) == getattr(before, name), name

    def test_two_attempts_torn_one_after_the_other_are_completed_once(self) -> None:
        outputs = [micro("acme", "run", [number]) for number in range(5)]
        left = Leftovers(stand(outputs[:2]).parts + stand(outputs[2:4], first=7).parts)
        answer = torn.complete(outputs, told(outputs), left)
        assert list(answer.outputs) == outputs[4:]
        assert [part.sequence for part in answer.coverage.torn or ()] == [1, 2, 7, 8]

    def test_its_own_record_says_that_all_is_stored(self) -> None:
        coverage = record(1, 9)
        assert torn.decide([], coverage, 3, (coverage, 12), Leftovers()) == Stored(12)

    def test_another_record_means_another_instance(self) -> None:
        assert isinstance(torn.decide([], record(1, 9), 3, (record(1, 4), 12), Leftovers()), StepBack)
        assert isinstance(torn.decide([], record(1, 9), 3, None, Leftovers()), StepBack)

    def test_what_another_instance_left_from_further_input_must_be_covered_with_that(self) -> None:
        outputs = [micro("acme", "run", [1])]
        assert isinstance(torn.decide(outputs, told(outputs), 0, None, stand(outputs, until=12)), StepBack)
        assert isinstance(torn.decide(outputs, told(outputs), 0, None, stand(outputs, until=9)), Send)

    def test_an_id_names_its_batch_and_no_other(self) -> None:
        made = torn.batch_id("validate", 12, 345, uuid4().hex[:16])
        assert torn.covers(made, "validate", 12) == 345
        assert torn.covers(made, "validate", 1) is None
        assert torn.covers(made, "cost", 12) is None
        assert torn.covers(uuid4().hex, "validate", 12) is None
        assert torn.covers("", "validate", 0) is None
        assert len(torn.batch_id("validate", 9999, 2**53, "0" * 16)) <= 64


async def stored(client: Client) -> Counter[tuple[str, bytes]]:
    return Counter((one.subject, line) for one in await messages(client, "EVENTS", "events.>") for line in lines(one.data))


async def test_the_next_instance_recognises_what_stands_and_completes_it(client: Client) -> None:
    first = CoveredWriter(client, "EVENTS", "validate")
    await first.resume()
    await first.commit([micro("acme", "run", [0])], told([micro("acme", "run", [0])], 1))
    outputs = [micro("acme", "run", [number]) for number in range(1, 6)]
    coverage = told(outputs, 9)
    await store_part(client, torn_id(coverage), tuple(outputs[:2]))
    await client.jetstream().publish("dead.acme.run", letter(1).data)
    following = CoveredWriter(client, "EVENTS", "validate")
    position = await following.resume()
    assert (position.covered, following.torn_until) == (1, 9)
    position = await following.commit(outputs, coverage)
    assert (position.first_sequence, position.record_sequence, following.torn_until) == (6, 9, 0)
    assert await stored(client) == all_lines([micro("acme", "run", [0]), *outputs])
    found = await following.last()
    assert found is not None
    assert [(part.sequence, part.events) for part in found[0].torn or ()] == [(3, 1), (4, 1)]
    with pytest.raises(FencedError):
        await first.commit(outputs, told(outputs, 9))
    assert await stored(client) == all_lines([micro("acme", "run", [0]), *outputs])


async def test_what_other_partitions_and_earlier_batches_stored_is_none_of_its_business(client: Client) -> None:
    for partition in (0, 1):
        writer = CoveredWriter(client, "EVENTS", "validate", partition)
        await writer.resume()
        await writer.commit([micro("acme", "run", [partition])], record(1, 9).model_copy(update={"partition": partition}))
    for partition in (0, 1):
        assert (await left_behind(client, "EVENTS", 0, "validate", partition, ())).parts != ()
        writer = CoveredWriter(client, "EVENTS", "validate", partition)
        await writer.resume()
        assert writer.torn_until == 0


async def test_every_event_stands_once_however_often_the_limit_falls_under_a_batch(
    server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server itself tears the batches here; how many, chance decides: at least two."""
    monkeypatch.setattr(covering, "_ANSWER_S", 0.5)
    config = next(one for one in topology.streams() if one.name == "EVENTS")
    room, chance = config.max_bytes, random.Random(5)
    operator = await connect(server.settings(), "operator")

    async def limit(most: int | None) -> None:
        config.max_bytes = most
        await operator.jsm().update_stream(config)

    made: list[Outgoing] = []
    writer = CoveredWriter(client, "EVENTS", "validate")
    await writer.resume()
    torn_batches = covered = 0
    for _ in range(300):
        outputs = [
            Outgoing("events.acme.run", orjson.dumps({"event_id": str(uuid4()), "text": "x" * chance.choice([10, 200, 3000])}))
            for _ in range(600)
        ]
        committing = asyncio.create_task(
            writer.commit(outputs, told([], covered + 5).model_copy(update={"first_sequence": covered + 1}))
        )
        await asyncio.sleep(chance.uniform(0.0, 0.02))
        await limit(1)
        await asyncio.wait({committing}, timeout=0.6)
        await limit(room)
        await committing
        covered += 5
        made += outputs
        newest = await writer.last()
        assert newest is not None
        torn_batches += newest[0].torn is not None
        if torn_batches >= 2:
            break
    assert torn_batches >= 2
    assert await stored(client) == all_lines(made)
    assert (await CoveredWriter(client, "EVENTS", "validate").resume()).covered == covered
    await operator.close()
