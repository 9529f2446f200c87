"""``agentops content``: a policy is set, shown, tried and audited from the command line."""

from pathlib import Path

import orjson
from nats.aio.client import Client

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


async def test_what_cannot_be_meant_is_refused_with_what_to_do(server: EmbeddedServer) -> None:
    variables = operator(server)
    for arguments, told in (
        (("set", "a.b", "off", "-r", "x"), "TENANT"),
        (("set", "acme", "off", "-r", " "), "--reason"),
        (("set", "acme", "off", "-r", "x", "--kinds", "KEY"), "always replaced"),
        (("set", "acme", "off", "-r", "x", "--pattern", "ORDER"), "NAME=REGEX"),
        (("set", "acme", "off", "-r", "x", "--pattern", "ORDER=(a"), "missing )"),
        (("set", "acme", "off", "-r", "x", "--pattern", r"ORDER=(a)\1"), "RE2"),
        (("set", "acme", "off", "-r", "x", "--pattern", "EMAIL=a"), "taken"),
        (("set", "acme", "off", "-r", "x", "--pattern", "ANY=a*"), "empty text"),
    ):
        assert told in (await agentops("content", *arguments, variables=variables)).failed(2)
    assert "validate is not there" in (await agentops("content", "set", "acme", "off", "-r", "x", variables=variables)).failed()


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
