"""Logins of people's own: tried from outside, with a plain client that tries everything it must not."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from schemas.state import AgentState
from streams.connect import CannotConnectError, connect
from streams.embedded import EmbeddedServer
from tests.cli.calling import agentops, operator
from tests.conftest import until


class Outsider:
    """A plain nats-py client, and what the server told it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.client = Client()
        self.lost = 0

    async def connect(self, server: EmbeddedServer, login: dict[str, str]) -> None:
        async def failed(error: Exception) -> None:
            self.said.append(str(error).lower())

        async def gone() -> None:
            self.lost += 1

        await self.client.connect(
            server.settings().servers(), user=login["NATS_USER"], password=login["NATS_PASSWORD"], error_cb=failed, disconnected_cb=gone,
            inbox_prefix=login["NATS_INBOX_PREFIX"], allow_reconnect=False,
        )  # fmt: skip

    async def refused(self, kind: str, subject: str) -> bool:
        """Whether the server says no to this very subject."""
        before = len(self.said)
        if kind == "publish":
            await self.client.publish(subject, b"{}")
        else:
            await self.client.subscribe(subject)
        await self.client.flush()
        await self.client.flush()
        return any(
            f'{kind if kind == "publish" else "subscription"} to "{subject.lower()}"' in line for line in self.said[before:]
        )


async def login(server: EmbeddedServer, data: Path, name: str, role: str, *tenants: str) -> dict[str, str]:
    options = [part for tenant in tenants for part in ("--tenant", tenant)]
    said = await agentops(
        "auth", "user", "add", name, "--role", role, *options, "--data", str(data), "--json", variables=operator(server)
    )
    told = said.json()
    assert told["in_force"]
    variables: dict[str, str] = told["environment"]
    assert variables["NATS_PASSWORD"] not in (server.directory / "nats.conf").read_text()
    assert variables["NATS_PASSWORD"] not in (server.directory / "users.json").read_text()
    return variables


async def knocks_in_vain(server: EmbeddedServer, login: dict[str, str]) -> None:
    known = {"user": login["NATS_USER"], "password": SecretStr(login["NATS_PASSWORD"])}
    with pytest.raises(CannotConnectError, match="NATS_PASSWORD"):
        await connect(server.settings().model_copy(update=known), "test", patience_s=5)


@pytest.fixture
async def outsider() -> AsyncIterator[Outsider]:
    found = Outsider()
    yield found
    if not found.client.is_closed:
        await found.client.close()


FORBIDDEN = (
    "command.acme.bob.chat", "command.acme.operator.chat", "command.other.alice.chat", "command.acme.alice.a.b",
    "agent.manager.command", "agent.manager.query", "agent.manager.response.1", "agent.chat.response", "agent.status", "agent.metrics",
    "telemetry.acme.chat.run", "events.acme.run", "dead.acme.run", "ledger.acme", "alerts.acme.info.x", "audit.acme.chat", "audit.acme.api_keys",
    "covered.cost.0", "query.spend", "_INBOX.someone", "_INBOX_bob.x", "warehouse.snapshot", "cost.alice.prices", "content.alice.policy",
    "$KV.api_keys.acme.1", "$KV.registry.acme.chat", "$KV.budgets.acme.x", "$KV.leases.validate.0", "$KV.agent_states.acme.chat",
    "$JS.API.STREAM.DELETE.LEDGER", "$JS.API.STREAM.PURGE.AUDIT", "$JS.API.STREAM.UPDATE.COMMANDS", "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.STREAM.MSG.DELETE.AUDIT", "$JS.API.STREAM.MSG.GET.KV_api_keys", "$JS.API.DIRECT.GET.KV_api_keys.$KV.api_keys.acme.1",
    "$JS.API.DIRECT.GET.KV_registry", "$JS.API.DIRECT.GET.KV_registry.$KV.registry.other.chat", "$JS.API.STREAM.INFO.KV_api_keys",
    "$JS.API.CONSUMER.CREATE.LEDGER", "$JS.API.CONSUMER.CREATE.LEDGER.x.ledger.acme", "$JS.API.CONSUMER.DURABLE.CREATE.COMMANDS.x",
    "$JS.API.CONSUMER.MSG.NEXT.COMMANDS.manager", "$JS.API.CONSUMER.DELETE.COMMANDS.manager", "$JS.ACK.COMMANDS.manager.1.1.1.1.1", "$SRV.PING",
    "$SYS.REQ.SERVER.PING",
)  # fmt: skip
UNHEARD = (
    ">", "command.>", "events.>", "events.other.run", "ledger.other", "audit.>", "_INBOX.>", "_INBOX_bob.>", "agent.manager.response.>",
    "agent.manager.response.bob.*", "query.spend", "agent.manager.command", "$KV.api_keys.>", "telemetry.>", "$JS.API.>", "alerts.>",
)  # fmt: skip


async def test_an_operator_of_one_tenant_commands_its_agents_and_can_do_nothing_else(
    server: EmbeddedServer, client: Client, tmp_path: Path, outsider: Outsider
) -> None:
    await outsider.connect(server, await login(server, tmp_path, "alice", "operator", "acme"))
    for subject in FORBIDDEN:
        assert await outsider.refused("publish", subject), subject
    for subject in UNHEARD:
        assert await outsider.refused("subscribe", subject), subject
    for subject in ("events.acme.run", "alerts.acme.>", "ledger.acme", "agent.manager.response.alice.*"):
        assert not await outsider.refused("subscribe", subject), subject
    ack = await outsider.client.jetstream().publish("command.acme.alice.chat", b"{}")
    assert ack.stream == "COMMANDS"
    await client.jetstream().publish("$KV.registry.acme.chat", b'{"agent_id": "chat"}')
    bucket = await outsider.client.jetstream().key_value("registry")
    assert (await bucket.get("acme.chat")).value == b'{"agent_id": "chat"}'
    assert (await client.jsm().stream_info("LEDGER")).state.messages == 0
    assert (await client.jsm().stream_info("AUDIT")).state.messages == 1


async def test_a_viewer_commands_nobody(server: EmbeddedServer, tmp_path: Path, outsider: Outsider) -> None:
    await outsider.connect(server, await login(server, tmp_path, "vera", "viewer", "*"))
    for subject in (*FORBIDDEN, "command.acme.vera.chat", "$KV.acknowledgements.x"):
        if subject not in {"query.spend", "agent.manager.query", "$JS.API.DIRECT.GET.KV_registry.$KV.registry.other.chat"}:
            assert await outsider.refused("publish", subject), subject
    for subject in ("query.spend", "agent.manager.query"):
        assert not await outsider.refused("publish", subject), subject


@pytest.mark.parametrize(
    "asked", ["agents list", "faults list", "alerts list", "budgets list", "prices list", "agents stop --all --dry-run"]
)
async def test_who_belongs_to_every_tenant_uses_the_command_line(
    server: EmbeddedServer, client: Client, tmp_path: Path, asked: str
) -> None:
    await client.jetstream().publish(
        "$KV.agent_states.acme.chat",
        AgentState(
            agent_id="chat", tenant_id="acme", desired="running", status="running", version="1", updated_at=datetime.now(UTC)
        ).model_dump_json().encode(),
    )  # fmt: skip
    variables = await login(server, tmp_path, "carol", "operator", "*")
    said = await agentops(*asked.split(), variables={**operator(server), **variables})
    assert said.code in {0, 1}, said.err
    assert "NATS" not in said.err
    if "agents" in asked:
        assert "chat" in said.out


async def test_a_login_added_replaced_and_revoked_disturbs_nobody_else(
    server: EmbeddedServer, client: Client, tmp_path: Path, outsider: Outsider
) -> None:
    before = client.client_id
    first = await login(server, tmp_path, "alice", "operator", "acme")
    await outsider.connect(server, first)
    variables = operator(server)
    said = await agentops("auth", "user", "rotate", "alice", "--data", str(tmp_path), "--json", variables=variables)
    second = said.json()["environment"]
    await until(lambda: outsider.client.is_closed, "whoever has the old password is put out")
    await knocks_in_vain(server, first)
    again = Outsider()
    await again.connect(server, second)
    assert "is revoked" in (await agentops("auth", "user", "revoke", "alice", "--data", str(tmp_path), variables=variables)).out
    await until(lambda: again.client.is_closed, "a revoked user is put out")
    await knocks_in_vain(server, second)
    assert (client.client_id, client.stats["reconnects"]) == (before, 0)
    listed = await agentops("auth", "user", "list", "--data", str(tmp_path), "--json", variables=variables)
    assert [(each["name"], each["state"]) for each in listed.json()] == [("alice", "revoked")]
    assert "password" not in listed.out
    subscription = await client.jetstream().subscribe("audit.>", ordered_consumer=True)
    told = [json.loads((await subscription.next_msg(timeout=10)).data) for _ in range(3)]
    assert [(each["action"], each["actor"], each["params"]["user"]) for each in told] == [
        (f"auth.user.{what}", "operator", "alice") for what in ("add", "rotate", "revoke")
    ]


async def test_what_is_wrong_is_named(server: EmbeddedServer, tmp_path: Path) -> None:
    variables = operator(server)

    async def failed(*arguments: str) -> str:
        return (await agentops("auth", "user", *arguments, "--data", str(tmp_path), variables=variables)).failed(2)

    spaced, taken, tenant = await asyncio.gather(
        failed("add", "a b", "--role", "viewer", "--tenant", "acme"),
        failed("add", "system", "--role", "viewer", "--tenant", "acme"),
        failed("add", "bob", "--role", "viewer", "--tenant", "a.b"),
    )
    assert "'a b' may not stand in a subject" in spaced
    assert "user of the system itself" in taken
    assert "--tenant: 'a.b'" in tenant
