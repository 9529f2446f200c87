"""``agentops content``: a policy is set, shown, tried and audited from the command line."""

from pathlib import Path

import orjson
import pytest
from nats.aio.client import Client

from agent_manager.cli.content import changing
from agent_manager.cli.failure import CommandFailedError
from processors.validate.app import attach
from schemas.commands import AuditRecord
from streams import subjects
from streams.embedded import EmbeddedServer
from streams.large_content import keep
from tests.cli.calling import agentops, operator
from tests.processors_validate.running import messages, running


async def test_a_policy_is_set_with_a_reason_and_stands_in_the_audit_trail(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    variables = operator(server)
    assert (await agentops("content", "show", "acme", "--json", variables=variables)).json()[0]["mode"] == "off"
    async with running(attach, server, tmp_path):
        said = await agentops(
            "content", "set", "acme", "redacted", "--pattern", "ORDER=AB-[0-9]{5}", "-r", "debugging", variables=variables
        )
        assert "redacted" in said.out, said.err
        said = await agentops(
            "content", "set", "acme", "full", "--kinds", "EMAIL,card", "-r", "until Friday", "--json", variables=variables
        )
        assert said.json()["policy"]["patterns"] == [{"name": "ORDER", "pattern": "AB-[0-9]{5}"}], "what is not given stays"
    history = (await agentops("content", "show", "acme", "--json", variables=variables)).json()
    assert [(one["mode"], one["updated_by"], one["reason"]) for one in history] == [
        ("redacted", "operator", "debugging"), ("full", "operator", "until Friday"),
    ]  # fmt: skip
    records = [
        AuditRecord.model_validate_json(one.data) for one in await messages(client, "AUDIT", subjects.audit("acme", "content"))
    ]
    assert [(one.actor, one.action, one.params["before"], one.params["mode"], one.reason) for one in records] == [
        ("operator", "content.set", "off", "redacted", "debugging"), ("operator", "content.set", "redacted", "full", "until Friday"),
    ]  # fmt: skip
    assert "acme" in (await agentops("content", "show", variables=variables)).out


@pytest.mark.parametrize(
    ("tenant", "reason", "kinds", "patterns", "told"),
    [
        ("a.b", "x", None, None, "TENANT"),
        ("acme", " ", None, None, "--reason"),
        ("acme", "x", "KEY", None, "always replaced"),
        ("acme", "x", None, ["ORDER"], "NAME=REGEX"),
        ("acme", "x", None, ["ORDER=(a"], "missing )"),
        ("acme", "x", None, [r"ORDER=(a)\1"], "RE2"),
        ("acme", "x", None, ["EMAIL=a"], "taken"),
        ("acme", "x", None, ["ANY=a*"], "empty text"),
        ("acme", "x", None, ["order=a"], "capitals"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    tenant: str, reason: str, kinds: str | None, patterns: list[str] | None, told: str
) -> None:
    with pytest.raises(CommandFailedError) as failure:
        changing.set_(None, tenant, "redacted", reason, kinds, patterns, no_patterns=False, as_json=False)
    assert told in str(failure.value)
    assert failure.value.code == 2


async def test_without_validate_nothing_is_set_and_that_is_said(server: EmbeddedServer) -> None:
    assert (
        "validate is not there"
        in (await agentops("content", "set", "acme", "off", "-r", "x", variables=operator(server))).failed()
    )


async def test_a_text_is_tried_without_sending_it_anywhere() -> None:
    said = await agentops(
        "content",
        "test",
        "call +1 202 555 0142 about AB-12345",
        "--pattern",
        "ORDER=AB-[0-9]{5}",
        variables={"NATS_URL": "nats://127.0.0.1:1"},
    )
    assert said.out == "call [PHONE] about [ORDER]\n"
    said = await agentops("content", "test", "--json", variables={}, given=b'{"mail": "jane@example.com"}')
    assert orjson.loads(said.json()["text"]) == {"mail": "[EMAIL]"}


async def test_large_content_is_printed_by_its_reference(server: EmbeddedServer, client: Client) -> None:
    assert await keep(client, {"acme.e1.0": "the whole prompt"}) == {}
    variables = operator(server)
    assert (await agentops("content", "get", "agentops-content:acme.e1.0", variables=variables)).out == "the whole prompt\n"
    assert "there is no content" in (await agentops("content", "get", "acme.e2.0", variables=variables)).failed()
