"""``scope_spend``: the same sums as Python's, and the ledger position they are of."""

import random
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from nats.aio.client import Client

from schemas.ledger import LedgerEntry
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import ask
from tests.processors_budget.world import TENANT, entry, now, spend


def counts_at(one: LedgerEntry) -> datetime:
    return min(one.occurred_at, one.received_at + timedelta(seconds=300))


async def test_sums_are_exact_by_scope_time_and_position(running: Running, client: Client) -> None:
    chance = random.Random(3)
    story: list[tuple[int, LedgerEntry]] = []
    for _ in range(30):
        made = [
            entry(
                Decimal(chance.randrange(-(10**9), 10**10)).scaleb(-9), now(-chance.randrange(0, 7200)),
                received=now(chance.choice([0, 0, 0, -9000])), agent_id=chance.choice("ab"), project_id=chance.choice(["p", "q", None]),
            )
            for _ in range(5)
        ]  # fmt: skip
        sequence = await spend(client, *made)
        story += [(sequence, one) for one in made]
    await running.caught_up()
    since, until, last = now(-3600), now(60), story[-1][0]
    for scope, field in ({}, None), ({"agent": "a"}, "agent_id"), ({"project": "q"}, "project_id"):
        for up_to in (0, 7, last):
            given: dict[str, Any] = {"tenant": TENANT, "since": since, "until": until, "up_to_sequence": up_to, **scope}
            expected = [
                one for sequence, one in story
                if sequence <= up_to and since <= counts_at(one) < until and (field is None or getattr(one, field) in scope.values())
            ]  # fmt: skip
            [row] = (await ask(client, "scope_spend", **given)).rows
            assert Decimal(row["cost_usd"]) == sum((one.cost_usd for one in expected), Decimal(0))
            assert (row["entries"], row["applied_sequence"]) == (len(expected), last)
            slots: dict[int, Decimal] = defaultdict(Decimal)
            for one in expected:
                slots[int(counts_at(one).timestamp()) // 600 * 600] += one.cost_usd
            rows = (await ask(client, "scope_spend", slot_s=600, limit=5000, **given)).rows
            told = {
                int(datetime.fromisoformat(each["slot_at"]).timestamp()): Decimal(each["cost_usd"])
                for each in rows if each["entries"]
            }  # fmt: skip
            assert told == slots
            assert {each["applied_sequence"] for each in rows} == {last}
