"""``agentops keys``: made, listed, revoked, replaced; every change in AUDIT, the key itself nowhere."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from nats.aio.client import Client

from schemas.keys import ApiKey, digest, key_id, record_key
from streams import topology
from streams.api_keys import KeyRing, Known, Refused
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.cli.calling import agentops, operator


async def ring(client: Client) -> KeyRing:
    found = KeyRing()
    found.replace(await (await TypedBucket.open(client, topology.API_KEYS, ApiKey)).all())
    return found


async def audited(client: Client) -> list[dict[str, object]]:
    last = (await client.jsm().stream_info(topology.AUDIT)).state.last_seq
    told = [await client.jsm().get_msg(topology.AUDIT, number) for number in range(1, last + 1)]
    return [orjson.loads(message.data or b"{}") for message in told]


async def test_a_key_is_shown_once_listed_revoked_and_every_step_is_audited(server: EmbeddedServer, client: Client) -> None:
    variables = operator(server)
    said = await agentops("keys", "create", "ci", "--tenant", "acme", "--agent", "bot", "--expires", "90d", variables=variables)
    assert said.code == 0, said.err
    key = said.out.strip()
    name = key_id(key)
    assert name is not None
    assert key not in said.err
    assert "shown this once" in said.err
    found = (await ring(client)).judge(key, datetime.now(UTC))
    assert isinstance(found, Known)
    assert (found.key.tenant_id, found.key.agents, found.key.last_four) == ("acme", ("bot",), key[-4:])
    assert isinstance((await ring(client)).judge(key, datetime.now(UTC) + timedelta(days=91)), Refused)
    listed = (await agentops("keys", "list", "--json", variables=variables)).json()
    assert [(each["key_id"], each["state"], each["last_four"]) for each in listed] == [(name, "active", key[-4:])]
    shown = await agentops("keys", "list", variables=variables | {"COLUMNS": "160"})
    assert name in shown.out
    for text in (shown.out, str(listed)):
        assert key not in text
        assert digest(key) not in text
    assert "is revoked" in (await agentops("keys", "revoke", "ci", "--reason", "leaked", variables=variables)).out
    assert (await ring(client)).judge(key, datetime.now(UTC)) == Refused("revoked")
    assert "was revoked" in (await agentops("keys", "revoke", name, variables=variables)).out
    trail = await audited(client)
    assert [(each["action"], each["actor"], each["tenant_id"], each["reason"]) for each in trail] == [
        ("keys.create", "operator", "acme", ""), ("keys.revoke", "operator", "acme", "leaked"),
    ]  # fmt: skip
    assert key not in str(trail)


async def test_a_replaced_key_works_beside_the_new_one_for_a_while(server: EmbeddedServer, client: Client) -> None:
    variables = operator(server)
    old = (await agentops("keys", "create", "ci", "--tenant", "acme", variables=variables)).out.strip()
    new = (await agentops("keys", "rotate", "ci", "--overlap", "24h", variables=variables)).out.strip()
    now, known = datetime.now(UTC), await ring(client)
    assert isinstance(known.judge(old, now), Known)
    assert isinstance(known.judge(new, now), Known)
    assert known.judge(old, now + timedelta(hours=25)) == Refused("expired")
    assert isinstance(known.judge(new, now + timedelta(hours=25)), Known)
    assert "several keys" in (await agentops("keys", "revoke", "ci", variables=variables)).failed()
    told = await agentops("keys", "rotate", str(key_id(old)), "--overlap", "0s", "--json", variables=variables)
    assert told.json()["replaced"]["state"] == "expired"
    assert [each["action"] for each in await audited(client)] == [
        "keys.create",
        "keys.rotate",
        "keys.end",
        "keys.rotate",
        "keys.end",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["keys", "create", "x", "--tenant", "a b"], 2, "--tenant: 'a b'"),
        (["keys", "create", " ", "--tenant", "a"], 2, "NAME"),
        (["keys", "create", "x", "--tenant", "a", "--agent", "b.c"], 2, "--agent: 'b.c'"),
        (["keys", "create", "x", "--tenant", "a", "--expires", "soon"], 2, "--expires"),
        (["keys", "create", "x", "--tenant", "a", "--expires", "0s"], 2, "--expires"),
        (["keys", "rotate", "x", "--overlap", "never"], 2, "--overlap"),
        (["keys", "revoke", "nobody"], 1, "there is no key 'nobody'"),
    ],
)
async def test_wrong_use_is_one_sentence(server: EmbeddedServer, arguments: list[str], code: int, told: str) -> None:
    assert told in (await agentops(*arguments, variables=operator(server))).failed(code)


async def test_others_may_not_make_keys(server: EmbeddedServer, client: Client) -> None:
    """A gateway or sidecar could otherwise let in whom it likes."""
    for user in ("gateway", "sidecar", "dashboard"):
        settings = server.settings(user)
        assert settings.user is not None
        assert settings.password is not None
        login = {"NATS_URL": settings.url, "NATS_USER": settings.user, "NATS_PASSWORD": settings.password.get_secret_value()}
        said = await agentops("keys", "create", "mine", "--tenant", "acme", variables=login)
        assert "AUDIT" in said.failed()
    bucket = await TypedBucket.open(client, topology.API_KEYS, ApiKey)
    assert await bucket.get(record_key("acme", "mine")) is None
    assert await bucket.keys() == set()
