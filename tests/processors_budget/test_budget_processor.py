"""The budget processor against a real server."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from nats.aio.client import Client

from processors.budget import acting, defining, keeping
from schemas.budgets import BudgetFlag
from schemas.commands import Command
from schemas.state import AgentRecord
from streams import topology
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_budget.world import (
    TENANT,
    budget,
    cleared,
    counted,
    crossings,
    define,
    entry,
    now,
    spend,
    standings,
    told,
    undefine,
    watching,
)


def tells(client: Client, *thresholds: int, budget_id: str = "b") -> Callable[[], Awaitable[bool]]:
    async def predicate() -> bool:
        return await crossings(client, budget_id) == list(thresholds)

    return predicate


def clears(client: Client, *thresholds: int, budget_id: str = "b") -> Callable[[], Awaitable[bool]]:
    async def predicate() -> bool:
        return await cleared(client, budget_id) == list(thresholds)

    return predicate


def has_spent(client: Client, amount: Decimal | str, budget_id: str = "b") -> Callable[[], Awaitable[bool]]:
    async def predicate() -> bool:
        found = (await standings(client)).get(budget_id)
        return found is not None and found.counted and found.spent_usd == Decimal(amount)

    return predicate


async def flags(client: Client) -> dict[str, BudgetFlag]:
    return await (await TypedBucket.open(client, topology.BUDGET_FLAGS, BudgetFlag)).all()


def refuses(client: Client, *budgets: str) -> Callable[[], Awaitable[bool]]:
    async def predicate() -> bool:
        return set(await flags(client)) == {f"{TENANT}.{each}" for each in budgets}

    return predicate


async def test_each_threshold_is_told_once_when_it_is_reached(server: EmbeddedServer, client: Client) -> None:
    async with watching(server):
        await define(client, budget(limit="10"))
        await counted(client)
        for cost in ("4.999999999", "0.000000001", "2.9", "0.2", "2", "7"):
            await spend(client, entry(cost))
        await until(tells(client, 50, 80, 100), "three thresholds are told")
        found = (await standings(client))["b"]
        assert (found.spent_usd, found.entries) == (Decimal("17.1"), 6)
        assert [each.threshold for each in found.crossed] == [50, 80, 100]
    assert await crossings(client) == [50, 80, 100]


async def test_publishers_at_once_cross_once_and_the_sum_is_exact_to_the_last_digit(
    server: EmbeddedServer, client: Client
) -> None:
    chance = random.Random(5)
    others = [await connect(server.settings(), f"publisher-{number}") for number in range(4)]
    amounts = [Decimal(chance.randrange(1, 10**8)).scaleb(-9) for _ in range(4 * 40 * 5)]
    parts = [amounts[start : start + 5] for start in range(0, len(amounts), 5)]

    async def publish(number: int) -> None:
        for part in parts[number::4]:
            await spend(others[number], *(entry(cost, agent_id=f"a{number}") for cost in part))

    total = sum(amounts, Decimal(0))
    mine = sum((cost for part in parts[2::4] for cost in part), Decimal(0))
    async with watching(server):
        await define(
            client, budget(limit=str(int(total * 9 / 10))), budget("own", scope="agent", of="a2", limit=str(total), period="hour")
        )
        await counted(client)
        await counted(client, "own")
        await asyncio.gather(*map(publish, range(4)))
        await until(has_spent(client, total), "everything is counted")
        await until(has_spent(client, mine, "own"), "one agent's share is counted")
        await until(tells(client, 50, 80, 100), "three thresholds are told")
    assert await crossings(client) == [50, 80, 100]
    for each in others:
        await each.close()


async def test_what_was_spent_before_the_budget_was_set_counts(server: EmbeddedServer, client: Client, running: Running) -> None:
    """From the warehouse up to where it stands, from the ledger behind that."""
    async with watching(server, warehouse_patience_s=10):
        await spend(client, entry("1.000000001", project_id="p"), entry("2", project_id="q"), entry("4", now(-3 * 86_400)))
        await running.caught_up()
        await running.stop()
        # What follows is in LEDGER alone, and in the warehouse only after it has answered from before.
        await spend(client, entry("0.5", project_id="p"))
        await running.start()
        await define(client, budget(limit="100"), budget("p", scope="project", of="p", limit="2", enforcement="deny"))
        await spend(client, entry("0.25", project_id="p"), entry("8"))
        await until(has_spent(client, "11.750000001"), "the tenant's day is whole")
        await until(has_spent(client, "1.750000001", "p"), "the project's day is whole")
        await until(tells(client, 50, 80, budget_id="p"), "what was reached before is told")
        week = budget("week", limit="1000", period="rolling", rolling_minutes=7 * 1440)
        await define(client, week)
        await until(has_spent(client, "15.750000001", "week"), "the week is whole")


async def test_without_a_warehouse_the_ledger_itself_is_summed_up(server: EmbeddedServer, client: Client) -> None:
    await spend(client, entry("1.5"), entry("2"))
    await spend(client, entry("7"), tenant="other")
    async with watching(server, warehouse_patience_s=0):
        await define(client, budget(limit="100"))
        await until(has_spent(client, "3.5"), "the ledger was read")


async def test_a_spent_budget_sets_a_flag_which_a_raised_limit_or_a_deletion_clears(
    server: EmbeddedServer, client: Client
) -> None:
    first = budget(limit="1", enforcement="deny", period="hour")
    async with watching(server):
        await define(client, first)
        await counted(client)
        await spend(client, entry("1.5"))
        await until(refuses(client, "b"), "the flag is set")
        shown = (await flags(client))[f"{TENANT}.b"]
        assert shown.until == (await standings(client))["b"].period_end
        assert shown.spent_usd == Decimal("1.5")
        raised = first.model_copy(update={"limit_usd": Decimal(3)})
        await define(client, raised)
        await until(refuses(client), "the raised limit cleared it")
        await until(tells(client, 50, 80, 100, 50), "the new limit's thresholds are new")
        await define(client, raised.model_copy(update={"limit_usd": Decimal("1.2")}))
        await until(refuses(client, "b"), "the lowered limit set it again")
        await undefine(client)
        await until(refuses(client), "the deletion cleared it")
        assert await standings(client) == {}


async def test_a_correction_that_gives_money_back_clears_the_flag(server: EmbeddedServer, client: Client) -> None:
    async with watching(server):
        await define(client, budget(limit="1", enforcement="deny"))
        await counted(client)
        await spend(client, entry("1.5"))
        await until(refuses(client, "b"), "the flag is set")
        await spend(client, entry("-0.75", kind="reversal", reason="correction"))
        await until(refuses(client), "the flag is cleared")
        await spend(client, entry("0.5"))
        await until(refuses(client, "b"), "and set again")
    assert await crossings(client) == [50, 80, 100]


async def test_flags_left_behind_by_budgets_that_are_gone_are_removed_at_the_start(
    server: EmbeddedServer, client: Client
) -> None:
    async with watching(server):
        await define(client, budget(limit="1", enforcement="deny"))
        await counted(client)
        await spend(client, entry("2"))
        await until(refuses(client, "b"), "the flag is set")
    await undefine(client)
    async with watching(server):
        await until(refuses(client), "the flag is gone")


def registered(agent: str, project: str) -> AgentRecord:
    return AgentRecord(
        agent_id=agent, tenant_id=TENANT, project_id=project, name=agent, version="1", command=("x",), working_directory="/",
        updated_at=now(), updated_by="test",
    )  # fmt: skip


async def test_every_agent_in_scope_is_asked_to_stop_once_with_the_reason(server: EmbeddedServer, client: Client) -> None:
    registry = await TypedBucket.open(client, topology.REGISTRY, AgentRecord)
    for agent, project in (("writer", "p"), ("reader", "p"), ("elsewhere", "q")):
        await registry.put(f"{TENANT}.{agent}", registered(agent, project))
    for _ in range(2):
        async with watching(server):
            await define(
                client, budget(scope="project", of="p", limit="1", enforcement="stop", at=datetime(2026, 11, 1, tzinfo=UTC))
            )
            await counted(client)
            await spend(client, entry("2", project_id="p", agent_id="stranger"), entry("2", project_id="q", agent_id="elsewhere"))

            async def asked() -> bool:
                return (await client.jsm().stream_info(topology.COMMANDS)).state.messages >= 3

            await until(asked, "three commands are given")
    commands = []
    for sequence in range(1, (await client.jsm().stream_info(topology.COMMANDS)).state.last_seq + 1):
        message = await client.jsm().get_msg(topology.COMMANDS, seq=sequence)
        assert message.data
        commands.append((message.subject, Command.model_validate_json(message.data)))
    assert sorted(subject or "" for subject, _ in commands) == [
        f"command.{TENANT}.budget.{agent}" for agent in ("reader", "stranger", "writer")
    ]
    assert all(command.command == "stop" and "budget b of project p" in str(command.params["reason"]) for _, command in commands)


class Clock:
    """A clock of the test's own, for the processor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
        self._offset = moment - datetime.now(UTC)
        for module in acting, defining, keeping:
            monkeypatch.setattr(module, "_now", self.__call__)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def jump(self, moment: datetime) -> None:
        self._offset = moment - datetime.now(UTC)


async def test_the_period_rolls_over_at_local_midnight_of_a_day_with_23_hours(
    server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2027, 3, 28, tzinfo=berlin).astimezone(UTC)
    clock = Clock(monkeypatch, start + timedelta(hours=22, minutes=59))
    async with watching(server):
        await define(client, budget(limit="10", timezone="Europe/Berlin", enforcement="deny", at=start))
        await counted(client)
        await spend(client, entry("11", clock()))
        await until(refuses(client, "b"), "the flag is set")
        found = (await standings(client))["b"]
        assert (found.period_start, found.period_end) == (start, start + timedelta(hours=23))
        clock.jump(start + timedelta(hours=23, seconds=1))
        await until(refuses(client), "midnight has cleared the flag")
        late = start + timedelta(hours=5)
        await spend(client, entry("1", clock()), entry("1", late, received=clock()))
        await until(has_spent(client, "1"), "the new day has its own spending only", 10)
        await spend(client, entry("9", clock()))
        await until(refuses(client, "b"), "the new day is spent too")
    assert await crossings(client) == [50, 80, 100, 50, 80, 100]
    assert await cleared(client) == [50, 80, 100]
    hits = [event for event in await told(client) if event["event_type"] == "budget.threshold_hit"]
    periods = [event["budget"]["period"] for event in hits]
    assert periods == ["day 2027-03-28 Europe/Berlin"] * 3 + ["day 2027-03-29 Europe/Berlin"] * 3


async def test_late_spending_is_told_of_its_own_period_and_denies_nothing_now(server: EmbeddedServer, client: Client) -> None:
    yesterday = now(-86_400)
    async with watching(server):
        await define(client, budget(limit="10", enforcement="deny", at=now(-10 * 86_400)))
        await counted(client)
        await spend(client, entry("11", yesterday))
        await until(tells(client, 50, 80, 100), "yesterday's thresholds are told")
        assert (await standings(client))["b"].spent_usd == 0
        assert await flags(client) == {}
        [last] = [event for event in await told(client) if event["budget"]["threshold"] == 1]
        assert last["attributes"]["late"] is True
        assert yesterday.strftime("day %Y-%m-%d") in last["budget"]["period"]


async def test_a_rolling_budget_forgets_as_the_window_moves(
    server: EmbeddedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, now())
    async with watching(server):
        await define(client, budget(limit="10", period="rolling", rolling_minutes=30, enforcement="deny"))
        await counted(client)
        await spend(client, entry("6", now(-20 * 60)), entry("5"))
        await until(refuses(client, "b"), "both are in the window")
        clock.jump(now(12 * 60))
        await until(refuses(client), "the older has left it")
        await until(has_spent(client, "5"), "the younger is in it")
        await until(clears(client, 80, 100), "what was told is told to be over")
        clock.jump(now(32 * 60))
        await until(clears(client, 80, 100, 50), "the younger has left it too")


async def test_what_was_reached_holds_no_longer_once_the_terms_are_others_or_the_budget_is_gone(
    server: EmbeddedServer, client: Client
) -> None:
    first = budget(limit="10")
    async with watching(server):
        await define(client, first)
        await counted(client)
        await spend(client, entry("8.5"))
        await until(tells(client, 50, 80), "two are told")
        await define(client, first.model_copy(update={"enforcement": "deny"}))
        await define(client, raised := first.model_copy(update={"limit_usd": Decimal(16)}))
        await until(clears(client, 50, 80), "both are over")
        await until(tells(client, 50, 80, 50), "one is reached by the new terms")
        await define(client, other := raised.model_copy(update={"period": "week"}))
        await until(clears(client, 50, 80, 50), "it counts something else")
        await until(tells(client, 50, 80, 50, 50), "in which as much is spent")
    await define(client, other.model_copy(update={"limit_usd": Decimal(12)}))
    async with watching(server):
        await until(clears(client, 50, 80, 50, 50), "the terms were changed while nobody looked")
        await until(tells(client, 50, 80, 50, 50, 50), "and judged")
    await undefine(client)
    async with watching(server):
        await until(clears(client, 50, 80, 50, 50, 50), "the budget was deleted while nobody looked")

        async def nothing_left() -> bool:
            store = await client.jetstream().key_value(topology.CHECKPOINTS)
            return await store.keys() == ["budget"]

        await until(nothing_left, "its book is gone")
        await define(client, again := budget(limit="10"))
        await until(tells(client, 50, 80, 50, 50, 50, 50, 80), "set again it is another budget")
        await undefine(client)
        await define(client, again.model_copy(update={"created_at": now(), "limit_usd": Decimal(17)}))
        await until(clears(client, 50, 80, 50, 50, 50, 50, 80), "deleted, and set again at once")
        await until(tells(client, 50, 80, 50, 50, 50, 50, 80, 50), "the third one")


async def test_after_a_restart_sums_crossings_and_flags_are_what_they_were(server: EmbeddedServer, client: Client) -> None:
    async with watching(server):
        await define(client, budget(limit="10", enforcement="deny"))
        await counted(client)
        await spend(client, entry("8.5"))
        await until(tells(client, 50, 80), "two are told")
    await spend(client, entry("0.123456789"))
    async with watching(server):
        await until(has_spent(client, "8.623456789"), "what came meanwhile is counted")
        await spend(client, entry("2"))
        await until(tells(client, 50, 80, 100), "the third is told")
        await until(refuses(client, "b"), "the flag is set")
    async with watching(server):
        await until(has_spent(client, "10.623456789"), "the same again")
        assert await refuses(client, "b")()
    assert await crossings(client) == [50, 80, 100]


async def test_a_lost_checkpoint_is_made_anew_from_what_is_stored_and_nothing_is_told_twice(
    server: EmbeddedServer, client: Client
) -> None:
    async with watching(server):
        await define(client, budget(limit="10"))
        await counted(client)
        await spend(client, entry("8.5"))
        await until(tells(client, 50, 80), "two are told")
    for event in await told(client):
        accepted = event | {"ingest": {"received_at": now().isoformat(), "sequence": 1, "position": 0}}
        await client.jetstream().publish(f"events.{TENANT}.budget", orjson.dumps(accepted))
    await client.jsm().purge_stream("KV_checkpoints")
    async with watching(server):
        await until(has_spent(client, "8.5"), "the sum is there again")
        await spend(client, entry("2"))
        await until(tells(client, 50, 80, 100), "only the third is new")


async def test_two_instances_by_mistake_tell_every_threshold_once(server: EmbeddedServer, client: Client) -> None:
    """One is fenced off; the runner would start it again, from what the other has written."""
    from streams.covering import FencedError

    try:
        async with watching(server):
            await define(client, budget(limit="10"))
            await counted(client)
            async with watching(server):
                for _ in range(20):
                    await spend(client, entry("0.6"))
                await until(tells(client, 50, 80, 100), "all are told")
    except FencedError:
        pass
    async with watching(server):
        await until(has_spent(client, "12.0"), "the sum is right whoever wrote it")
    assert await crossings(client) == [50, 80, 100]


async def test_only_the_ledger_of_tenants_with_budgets_is_read_and_a_new_one_joins_without_a_gap(
    server: EmbeddedServer, client: Client
) -> None:
    async with watching(server) as processor:
        await define(client, budget(limit="1000"))
        await counted(client)
        for number in range(30):
            await spend(client, entry("0.1"))
            await spend(client, entry("0.2", tenant_id="other"), tenant="other")
            if number == 10:
                await define(client, budget("o", limit="1000", tenant_id="other"))
        await until(has_spent(client, "3.0"), "the first tenant's sum")
        await until(has_spent(client, "6.0", "o"), "the other's, from before it was read and after")
        assert processor._keeping is not None
        assert processor._keeping.ledger.tenants == {TENANT, "other"}


async def test_it_outlives_the_server_being_killed_under_it(server: EmbeddedServer, client: Client) -> None:
    async with watching(server):
        await define(client, budget(limit="10", enforcement="deny"))
        await counted(client)
        await spend(client, entry("6"))
        await until(tells(client, 50), "one is told")
        await server.kill()
        await server.start()
        await until(lambda: client.is_connected, "reconnected")
        await spend(client, entry("6"))
        await until(tells(client, 50, 80, 100), "the others are told", 20)
        await until(refuses(client, "b"), "the flag is set")
        await until(has_spent(client, "12"), "the sum is right")


async def test_what_is_no_budget_and_what_is_no_entry_stops_nobody(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    store = await client.jetstream().key_value(topology.BUDGETS)
    await store.put(f"{TENANT}.junk", b"{")
    await store.put(f"{TENANT}.elsewhere", budget("b").model_dump_json().encode())
    async with watching(server):
        await define(client, budget(limit="10"))
        await counted(client)
        await client.jetstream().publish(f"ledger.{TENANT}", b'{"cost_usd": "1"}\nnot json\n{"cost_usd": "NaN"}')
        await spend(client, entry("6"))
        await until(tells(client, 50), "the good one is judged")
        assert list(await standings(client)) == ["b"]
