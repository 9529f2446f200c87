"""``agentops policies``: set, listed, shown, deleted; audited; and nobody writes past the service."""

import asyncio
import json
from pathlib import Path

import nats.errors
import orjson
import pytest
from nats.aio.client import Client

from processors.validate.app import attach
from schemas.commands import AuditRecord
from schemas.policies import PolicyFlag
from streams import topology
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.cli.calling import agentops, operator
from tests.processors_validate.running import messages, running


async def audited(client: Client) -> list[AuditRecord]:
    return [AuditRecord.model_validate_json(one.data) for one in await messages(client, "AUDIT", "audit.acme.policies")]


async def test_a_policy_from_set_to_delete(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    login = operator(server)
    async with running(attach, server, tmp_path):
        said = await agentops(
            "policies", "set", "no-large", "--tenant", "acme", "--scope", "project", "--of", "p1", "--provider", "openai", "--model", "gpt-5*",
            "--for", "2h", "--reason", "too dear", variables=login,
        )  # fmt: skip
        assert "calls of gpt-5* of openai by project p1 of tenant acme are refused from now on, until" in said.out
        bucket = await TypedBucket.open(client, topology.POLICY_FLAGS, PolicyFlag)
        stored = (await bucket.all())["acme.no-large"]
        assert (stored.providers, stored.models, stored.reason, stored.of) == (("openai",), ("gpt-5*",), "too dear", "p1")
        await agentops("policies", "set", "no-large", "--tenant", "acme", "--reason", "all of it", variables=login)
        listed, shown, told = await asyncio.gather(
            agentops("policies", "list", variables=login), agentops("policies", "show", "no-large", variables=login),
            agentops("policies", "list", "--json", variables=login),
        )  # fmt: skip
        assert "every model" in listed.out
        assert "all of it" in shown.out
        assert [(one["policy_id"], one["in_force"]) for one in told.json()] == [("no-large", True)]
        await client.jetstream().publish("$KV.policy_flags.acme.broken", b"{")
        told = await agentops("policies", "list", "--json", variables=login)
        assert [(one["policy_id"], one["readable"]) for one in told.json()] == [("broken", False), ("no-large", True)]
        for name in ("broken", "no-large"):
            assert (await agentops("policies", "delete", name, "--reason", "over", variables=login)).code == 0
        assert "no policies" in (await agentops("policies", "list", variables=login)).err
        missing = await agentops("policies", "delete", "none", "--reason", "x", variables=login)
        assert "there is no policy 'none'" in missing.failed()
    assert [(one.action, one.actor, one.reason) for one in await audited(client)] == [
        ("policies.set", "operator", "too dear"), ("policies.set", "operator", "all of it"), ("policies.delete", "operator", "over"),
        ("policies.delete", "operator", "over"),
    ]  # fmt: skip


async def test_what_cannot_be_is_named_by_its_option_and_without_validate_it_is_said(server: EmbeddedServer) -> None:
    login = operator(server)
    wrong = (
        (("--scope", "agent"), "of: a policy of scope agent"), (("--of", "p"), "of: a policy of scope tenant"), (("--for", "soon"), "--for"),
        (("--for", "-2h"), "--for"), (("--model", ""), "--model"),
    )  # fmt: skip
    for options, what in wrong:
        said = await agentops("policies", "set", "p", "--tenant", "acme", "--reason", "r", *options, variables=login)
        assert what in said.failed(2), options
    assert "--reason" in (await agentops("policies", "set", "p", "--tenant", "acme", "--reason", " ", variables=login)).failed(2)
    nobody = await agentops("policies", "set", "p", "--tenant", "acme", "--reason", "r", variables=login)
    assert "validate is not there" in nobody.failed()


async def test_the_operator_changes_nothing_without_the_audit_trail_and_two_at_once_do_not_overwrite_each_other(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    own = await connect(server.settings("operator"), "operator")
    for bucket in ("policy_flags", "budgets"):
        with pytest.raises(nats.errors.TimeoutError):
            await own.request(f"$KV.{bucket}.acme.x", b"{}", timeout=0.5)
    async with running(attach, server, tmp_path):

        async def ask(subject: str, **wanted: object) -> tuple[bool, dict[str, object]]:
            told = {"change_id": "c", "record_id": "p", "revision": 0, "reason": "r", **wanted}
            message = await own.request(subject, orjson.dumps(told), timeout=5)
            return bool((message.headers or {}).get("Agentops-Error")), json.loads(message.data)

        value = {"scope": "tenant", "reason": "r", "since": "2026-12-01T00:00:00Z", "tenant_id": "globex", "policy_id": "other"}
        failed, told = await ask("policies.operator.acme", value=value)
        assert (failed, told["record_id"]) == (False, "p")
        stored = await (await TypedBucket.open(client, topology.POLICY_FLAGS, PolicyFlag)).all()
        assert [(key, one.tenant_id, one.policy_id) for key, one in stored.items()] == [("acme.p", "acme", "p")]
        failed, told = await ask("policies.operator.acme", value=value, change_id="d")
        assert failed
        assert "meanwhile" in str(told["message"])
        failed, told = await ask(
            "policies.operator.acme", revision=told.get("revision", 1), change_id="e", value={"scope": "galaxy"}
        )
        assert failed
        with pytest.raises(nats.errors.TimeoutError):
            await own.request("policies.somebody.acme", b"{}", timeout=0.5)
    assert len(await audited(client)) == 1
    await own.close()
