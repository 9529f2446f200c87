"""``agentops budgets``: set, changed, shown, deleted; and what is wrong is said in one sentence."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from nats.aio.client import Client

from agent_manager.cli.budgets.defining import Given, changes, defined, period_text, scope_text
from agent_manager.cli.failure import CommandFailedError
from schemas.budgets import BudgetDefinition
from schemas.commands import AuditRecord
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.cli.calling import agentops, operator
from tests.processors_budget.world import entry, spend, watching
from tests.processors_validate.running import messages

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def made(before: BudgetDefinition | None = None, **given: str) -> BudgetDefinition:
    return defined("team-a", "acme", Given(**given), before, now=NOW, by="ada")


def test_a_budget_is_made_from_what_is_typed_and_changed_by_what_is_typed_later() -> None:
    first = made(
        limit="$1,025.50",
        scope="project",
        of="p1",
        period="day",
        timezone="Europe/Berlin",
        thresholds="100,50%",
        enforcement="deny",
    )
    assert (first.limit_usd, first.thresholds, first.enforcement) == (Decimal("1025.50"), (50, 100), "deny")
    assert (period_text(first), scope_text(first)) == ("day Europe/Berlin", "project p1")
    assert not changes(first, made(first))
    raised = made(first, limit="2000")
    assert raised.limit_usd == 2000
    assert raised.model_copy(update={"limit_usd": first.limit_usd}) == first
    rolling = made(first, period="rolling-7d")
    assert (rolling.period, rolling.rolling_minutes, period_text(rolling)) == ("rolling", 7 * 1440, "rolling 7d")
    assert made(rolling, period="month").rolling_minutes is None
    assert made(first, scope="tenant").of is None
    assert made(limit="0.000000001").limit_usd == Decimal("0.000000001")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "--limit"),
        ({"limit": "much"}, "--limit: 'much'"),
        ({"limit": "0"}, "--limit: must be above 0"),
        ({"limit": "0.0000000001"}, "--limit: must have at most nine fractional digits (is 0.0000000001)"),
        ({"limit": "1", "scope": "project"}, "--scope project"),
        ({"limit": "1", "of": "p"}, "--of p"),
        ({"limit": "1", "scope": "project", "of": "a b"}, "--of: 'a b' is no id"),
        ({"limit": "1", "period": "year"}, "--period: 'year'"),
        ({"limit": "1", "period": "rolling-90s"}, "whole minutes"),
        ({"limit": "1", "period": "rolling-9999d"}, "--period"),
        ({"limit": "1", "timezone": "Mars/Phobos"}, "--timezone"),
        ({"limit": "1", "thresholds": "half"}, "--thresholds: 'half'"),
        ({"limit": "1", "thresholds": "50,120"}, "--thresholds"),
        ({"limit": "1", "thresholds": "50", "enforcement": "deny"}, "--thresholds"),
    ],
)
def test_what_cannot_be_is_named_by_its_option(given: dict[str, str], told: str) -> None:
    with pytest.raises(CommandFailedError) as raised:
        made(None, **given)
    assert told in str(raised.value)
    assert raised.value.code == 2


async def test_a_budget_from_set_to_delete(server: EmbeddedServer, client: Client) -> None:
    login = operator(server)
    async with watching(server):
        said = await agentops(
            "budgets", "set", "team-a", "--tenant", "acme", "--limit", "10", "--period", "day", "--timezone", "Europe/Berlin",
            "--enforce", "deny", variables=login,
        )  # fmt: skip
        assert said.code == 0, said.err
        assert "budget team-a of tenant acme set: $10.00 a day Europe/Berlin for tenant, deny at the limit" in said.out
        await spend(client, entry("9.123456789"))
        listed, shown, one = await asyncio.gather(
            agentops("budgets", "list", variables=login),
            agentops("budgets", "show", "team-a", variables=login),
            agentops("budgets", "show", "team-a", "--json", variables=login),
        )
        assert "91.2 %" in listed.out
        assert "$9.123456789 (91.2 %, 1 ledger entry)" in shown.out
        told = one.json()
        assert (told["standing"]["spent_usd"], told["standing"]["remaining_usd"]) == ("9.123456789", "0.876543211")
        assert [each["threshold"] for each in told["standing"]["crossed"]] == [50, 80]
        assert told["standing"]["limit_at"] > told["standing"]["period_start"]
        again = await agentops("budgets", "set", "team-a", "--limit", "9", variables=login)
        assert "doors refuse" in again.out
        same = await agentops("budgets", "set", "team-a", "--limit", "9.0", variables=login)
        assert "is so already" in same.out
        flags = await client.jetstream().key_value(topology.BUDGET_FLAGS)
        assert await flags.keys() == ["acme.team-a"]
        assert "exists in several" not in (await agentops("budgets", "delete", "team-a", "--reason", "over", variables=login)).out
        audited = [AuditRecord.model_validate_json(one.data) for one in await messages(client, "AUDIT", "audit.acme.budgets")]
        assert [(one.action, one.actor, one.reason) for one in audited] == [
            ("budgets.set", "operator", "by hand"), ("budgets.set", "operator", "by hand"), ("budgets.delete", "operator", "over"),
        ]  # fmt: skip
        assert [one.params.get("limit_usd") for one in audited] == ["10", "9", None]
        listed = await agentops("budgets", "list", variables=login)
        assert (listed.code, listed.out) == (0, "")
        assert "no budgets" in listed.err


async def test_without_its_processor_budgets_are_listed_and_it_is_said_what_is_missing(
    server: EmbeddedServer, client: Client
) -> None:
    login = operator(server)
    refused = await agentops("budgets", "set", "b", "--tenant", "acme", "--limit", "1", variables=login)
    assert "python -m processors budget" in refused.failed()
    async with watching(server):
        said = await agentops("budgets", "set", "b", "--tenant", "acme", "--limit", "1", "--json", variables=login)
        assert said.json()["standing"]["percent"] == "0.0"
    listed = await agentops("budgets", "list", variables=login)
    assert "processors budget" in listed.err
    missing, unknown = await asyncio.gather(
        agentops("budgets", "show", "c", variables=login), agentops("budgets", "set", "c", "--limit", "1", variables=login)
    )
    assert "Did you mean" in missing.failed() or "There are: b" in missing.failed()
    assert "--tenant" in unknown.failed(2)
    bucket = await TypedBucket.open(client, topology.BUDGETS, BudgetDefinition)
    assert set(await bucket.all()) == {"acme.b"}
