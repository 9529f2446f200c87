"""One command for many agents: how many at once, what a failure stops, and an outcome for each."""

import asyncio
import json
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.aio.msg import Msg

from agent_manager.cli.fleet.bulk import Pace, give_in_turn
from agent_manager.commands.giving import Order
from schemas.commands import Command, CommandError, CommandResponse
from streams import subjects
from streams.embedded import EmbeddedServer
from tests.cli.calling import agentops, operator
from tests.cli.fleet_values import put, record, state


def answered(order: Order, *, good: bool = True) -> CommandResponse:
    return CommandResponse(
        status="success" if good else "error", command=order.command, agent_id=order.agent_id, command_id="1",
        error=None if good else CommandError(code="failed", message="no"), timestamp=datetime.now(UTC),
    )  # fmt: skip


def orders(count: int) -> list[Order]:
    return [Order(f"demo.a{number:03}", "restart", {}) for number in range(count)]


async def test_never_more_than_allowed_are_under_way_and_each_has_its_outcome_in_order() -> None:
    under_way, most = 0, 0

    async def give(order: Order) -> CommandResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(hash(order.key) % 5):
            await asyncio.sleep(0)
        under_way -= 1
        return answered(order)

    found = await give_in_turn(orders(200), give, Pace(at_once=7))
    assert most == 7
    assert [each.agent_id for each in found] == [order.agent_id for order in orders(200)]


async def test_after_a_failure_nothing_further_begins_and_what_was_not_begun_says_so() -> None:
    begun: list[str] = []

    async def give(order: Order) -> CommandResponse:
        begun.append(order.agent_id)
        return answered(order, good=order.agent_id != "a002")

    found = await give_in_turn(orders(6), give, Pace(at_once=1, stop_on_failure=True))
    assert begun == ["a000", "a001", "a002"]
    assert [each.error.code if each.error else "done" for each in found] == ["done", "done", "failed", *["refused"] * 3]
    begun.clear()
    assert len(await give_in_turn(orders(6), give, Pace(at_once=1))) == len(begun) == 6


async def test_what_has_not_begun_by_the_deadline_is_never_sent() -> None:
    async def give(order: Order) -> CommandResponse:
        raise AssertionError(order)

    found = await give_in_turn(orders(3), give, Pace(deadline_s=0.0))
    assert {each.error.code for each in found if each.error} == {"timeout"}
    assert len(found) == 3


async def test_a_tag_chooses_agents_a_dry_run_sends_nothing_and_a_failure_stops(server: EmbeddedServer, client: Client) -> None:
    heard: list[str] = []

    async def answer(message: Msg) -> None:
        command = Command.model_validate_json(message.data)
        heard.append(command.agent_id)
        response = answered(Order(f"demo.{command.agent_id}", command.command, {}), good=command.agent_id != "b")
        told = response.model_copy(update={"command_id": command.command_id})
        await client.publish(
            subjects.command_response_to(message.subject.split(".")[2], command.command_id), told.model_dump_json().encode()
        )

    await client.subscribe(subjects.ALL_COMMANDS, cb=answer)
    for agent, tags in (("a", ("critical",)), ("b", ("critical", "slow")), ("c", ("critical",)), ("d", ())):
        await put(client, record(agent).model_copy(update={"tags": tags}), state(agent))
    login = operator(server)
    dry = await agentops("agents", "restart", "--tag", "critical", "--dry-run", "--json", variables=login)
    assert [(each["agent_id"], each["command"], each["status"]) for each in dry.json()] == [
        (agent, "restart", "running") for agent in "abc"
    ]
    assert heard == []
    slow = ("agents", "restart", "--tag", "critical", "--max-parallel", "1", "--stop-on-failure", "--json")
    said = await agentops(*slow, variables=login)
    assert heard == ["a", "b"]
    assert [each["status"] for each in json.loads(said.out)] == ["success", "error", "error"]
    assert "not begun" in said.failed()
    assert "no agent is tagged nonsense" in (await agentops("agents", "stop", "--tag", "nonsense", variables=login)).failed()
    assert "which agents?" in (await agentops("agents", "stop", "--tag", "slow", "--all", variables=login)).failed(2)
