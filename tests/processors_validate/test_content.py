"""Prompts, completions and findings at validate: what the policy says, whichever way an event came, and no false conflict."""

from pathlib import Path
from typing import Any

import orjson
from nats.aio.client import Client

from privacy.rules import STRICTEST, Rules
from processors.validate.app import attach
from processors.validate.judging import Limits, judge, take_apart
from schemas.content import ContentPolicy, OwnPattern
from schemas.dead_letters import DeadLetter
from streams import topology
from streams.dead_letters import NotReplayableError, original
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until
from tests.processors_validate.running import accepted, dead, drained, event, messages, running, send
from tests.processors_validate.test_judging import received

PROMPT = "Tell me about the merger with Initech"
MAIL = "bob.miller@example.com"


def call(**changes: Any) -> dict[str, Any]:
    return event("model_call.completed", **changes)


async def test_prompts_are_dropped_unless_somebody_said_otherwise(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    sent = call(attributes={"gen_ai.input.messages": PROMPT, "gen_ai.output.messages": [{"content": PROMPT}], "region": "eu"})
    async with running(attach, server, tmp_path):
        await send(client, sent)
        await drained(client)
    (one,) = await accepted(client)
    assert one.attributes == {
        "agentops.content": "off",
        "agentops.content_bytes": len(PROMPT) + len(orjson.dumps([{"content": PROMPT}])),
        "region": "eu",
    }
    assert PROMPT.encode() not in b"".join(message.data for message in await messages(client, "EVENTS", ">"))


async def test_a_policy_takes_effect_while_validate_runs(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    """And ends so: the default is in force again."""
    bucket = await TypedBucket.open(client, topology.CONTENT, ContentPolicy)

    async with running(attach, server, tmp_path):

        async def becomes(said: str | None) -> None:
            async def judged() -> bool:
                await send(client, call(attributes={"gen_ai.prompt": f"ask {MAIL}"}))
                await drained(client)
                return (await accepted(client))[-1].attributes.get("gen_ai.prompt") == said

            await until(judged, f"the prompt becomes {said!r}", 20)

        await becomes(None)
        await bucket.put("acme", ContentPolicy(tenant_id="acme", mode="redacted"))
        await becomes("ask [EMAIL]")
        await bucket.put("acme", ContentPolicy(tenant_id="acme", mode="full"))
        await becomes(f"ask {MAIL}")
        await bucket.delete("acme")
        await becomes(None)


async def test_a_policy_is_known_before_the_first_event_is_judged(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    bucket = await TypedBucket.open(client, topology.CONTENT, ContentPolicy)
    await bucket.put("acme", ContentPolicy(tenant_id="acme", mode="full"))
    await send(client, call(attributes={"gen_ai.prompt": PROMPT}))
    async with running(attach, server, tmp_path):
        await drained(client)
    (one,) = await accepted(client)
    assert one.attributes == {"gen_ai.prompt": PROMPT}


async def test_an_event_sent_again_after_its_policy_changed_is_a_duplicate_and_no_conflict(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """Whichever way the policy changed; also after the index was lost."""
    bucket = await TypedBucket.open(client, topology.CONTENT, ContentPolicy)
    first = call(attributes={"gen_ai.prompt": f"ask {MAIL}"})
    second = call(attributes={"gen_ai.prompt": PROMPT}, error={"type": "x", "message": f"no {MAIL}"})
    third = event("log.emitted", log={"level": "info", "message": "order AB-12345 is late"})
    await bucket.put("acme", ContentPolicy(tenant_id="acme", mode="full"))
    async with running(attach, server, tmp_path / "one"):
        await send(client, first, third)
        await drained(client)
    own = OwnPattern(name="ORDER", pattern=r"AB-\d+")
    await bucket.put("acme", ContentPolicy(tenant_id="acme", mode="redacted", patterns=(own,)))
    async with running(attach, server, tmp_path / "one"):
        await send(client, first, second, third)
        await drained(client)
    await bucket.delete("acme")
    async with running(attach, server, tmp_path / "two"):
        await send(client, first, second, third)
        await drained(client)
    assert await dead(client) == []
    assert [str(one.event_id) for one in await accepted(client)] == [first["event_id"], third["event_id"], second["event_id"]]


def judged(*sent: dict[str, Any], rules: Rules = STRICTEST) -> tuple[int, int, int]:
    """Accepted, duplicates, dead."""
    (one,) = judge([take_apart(received(b"\n".join(map(orjson.dumps, sent))), Limits(), lambda _: rules)], {})
    return len(one.accepted), one.duplicates, one.dead


def test_the_same_id_with_other_figures_is_a_conflict_whatever_was_redacted() -> None:
    one = call(attributes={"gen_ai.prompt": PROMPT})
    other = one | {"resource_usage": {"input_tokens": 1, "output_tokens": 100}}
    assert judged(one, other) == (1, 0, 1)


def test_the_same_id_with_another_text_is_a_conflict_where_nothing_was_redacted() -> None:
    one = call(attributes={"region": "eu"})
    assert judged(one, one | {"attributes": {"region": "us"}}) == (1, 0, 1)
    assert judged(one, one | {"attributes": {}}) == (1, 0, 1)


async def test_dead_letters_hold_no_prompt_and_no_key(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    """Whatever is wrong with the event, and wherever in it the prompt stands."""
    key = "sk-proj-" + "abcdefgh12345678"
    wrong = [
        event(occurred_at=f"yesterday, said {MAIL}", attributes={"gen_ai.prompt": PROMPT}),
        event(prompt=PROMPT),
        event(colour={"a": [PROMPT]}),
        event("run.failed", error={"type": 7, "message": f"{MAIL} used {key}"}),
        event(tenant="globex", attributes={"gen_ai.prompt": PROMPT, "note": key}),
        event(run={"agent_id": "a1", "run_id": "r1", "mail": MAIL}),
    ]
    async with running(attach, server, tmp_path):
        for each in wrong:
            await client.jetstream().publish("telemetry.acme.a1.run", orjson.dumps(each))
        await client.jetstream().publish("telemetry.acme.a1.run", b'{"gen_ai.prompt": "' + PROMPT.encode() + b" " * 100)
        await client.jetstream().publish("telemetry.acme.a1.run", orjson.dumps(PROMPT))
        await drained(client)
    letters = await messages(client, "EVENTS", "dead.>")
    assert len(letters) == len(wrong) + 2
    for message in letters:
        letter = DeadLetter.model_validate_json(message.data)
        try:
            kept = message.data + original(letter)
        except NotReplayableError:
            kept = message.data
        for secret in (PROMPT, MAIL, key):
            assert secret.encode() not in kept
        assert letter.privacy
        assert letter.original_bytes
