"""What agents are: registered, changed, deleted, rolled back, tried; every change kept with who and why."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import nats.micro
from nats.micro.service import ServiceConfig

from agent_manager.cli.registry.reading import Told, history
from schemas.state import AgentRecord
from schemas.versions import Releases, Sighting
from streams import topology
from streams.kv import TypedBucket
from tests.agent_manager.world import TENANT, World, now, write_manifest
from tests.conftest import until


async def releases(world: World, agent: str) -> Releases | None:
    bucket = await TypedBucket.open(world.client, topology.RELEASES, Releases)
    entry = await bucket.get(f"{TENANT}.{agent}")
    return entry.value if entry else None


async def record(world: World, agent: str) -> AgentRecord | None:
    bucket = await TypedBucket.open(world.client, topology.REGISTRY, AgentRecord)
    entry = await bucket.get(f"{TENANT}.{agent}")
    return entry.value if entry else None


async def version_is(world: World, agent: str, version: str) -> None:
    async def stands() -> bool:
        kept = await record(world, agent)
        return kept is not None and kept.version == version

    await until(stands, f"the registry says {agent} {version}")


async def told(world: World, agent: str, most: int) -> list[Told]:
    found: list[Told] = []

    async def there() -> bool:
        found[:] = await history(world.client, TENANT, agent)
        return len(found) >= most

    await until(there, f"{most} changes of {agent} in the history")
    return found


def described(world: World, agent: str, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "agent_id": agent, "tenant_id": TENANT, "name": agent, "version": "1.0", "command": ["python", "-c", "pass"],
        "working_directory": str(world.agents), "updated_at": now().isoformat(), "updated_by": "x", "autostart": False,
    }  # fmt: skip
    return values | more


async def test_every_change_is_kept_with_who_and_why_also_of_a_deleted_agent(world: World) -> None:
    await world.start()
    dry = await world.tell("register", "one", user="ann", record=described(world, "one"), dry_run=True)
    assert dry.result is not None
    assert dry.result["dry_run"] is True
    assert await record(world, "one") is None

    first = await world.tell("register", "one", user="ann", record=described(world, "one"), reason="a first version")
    assert first.status == "success", first
    kept = await record(world, "one")
    assert kept is not None
    assert (kept.version, kept.updated_by, kept.created_at) == ("1.0", "ann", kept.updated_at)
    changed = await world.tell("update", "one", user="bob", fields={"owner": "research", "tags": ["chat"]}, reason="who owns it")
    assert changed.result is not None
    assert changed.result["changed"] == ["tags", "owner"]
    after = await record(world, "one")
    assert after is not None
    assert (after.owner, after.tags, after.created_at) == ("research", ("chat",), kept.created_at)
    assert (await world.tell("start", "one")).status == "success"
    runs = await world.tell("delete", "one", user="bob")
    assert runs.error is not None
    assert "stop it first" in runs.error.message
    assert (await world.tell("stop", "one")).status == "success"
    gone = await world.tell("delete", "one", user="bob", reason="not needed any more")
    assert gone.status == "success", gone
    assert await record(world, "one") is None
    assert await releases(world, "one") is None
    assert await world.state("one") is None

    changes = await told(world, "one", 3)
    assert [(one.change.change, one.by, one.reason) for one in changes] == [
        ("register", "ann", "a first version"),
        ("update", "bob", "who owns it"),
        ("delete", "bob", "not needed any more"),
    ]
    assert changes[1].change.fields == ("tags", "owner")
    assert changes[2].change.record.owner == "research"


async def test_what_is_wrong_with_a_registration_is_told_by_field(world: World) -> None:
    await world.start()

    async def message(command: str, **params: Any) -> str:
        response = await world.tell(command, "one", **params)
        assert response.error is not None
        return response.error.message

    assert "params.record.port" in await message("register", record=described(world, "one", port=70_000))
    assert "the command's subject names acme" in await message("register", record=described(world, "one", tenant_id="other"))
    assert "not run by this manager" in await message("update", fields={"owner": "x"})
    assert (await world.tell("register", "one", record=described(world, "one"))).status == "success"
    assert "params.fields.ownr is no field" in await message("update", fields={"ownr": "x"})
    assert "params.fields.tenant_id cannot be changed" in await message("update", fields={"tenant_id": "x"})
    assert "there are: 1.0" in await message("rollback", version="0.9")
    assert "name one" in await message("rollback")
    same = described(world, "one", environment={"A": "b"})
    assert "needs a version of its own" in await message("register", record=same, current=False)
    assert "takes 100" in await message("canary", version="1.0", percent=10)


async def test_an_agent_registered_by_command_outlives_the_manager_and_runs(world: World) -> None:
    await world.start()
    assert (await world.tell("register", "one", record=described(world, "one", autostart=True))).status == "success"
    await world.becomes("one", "running")
    await world.tell("stop", "one")
    await world.stop()
    await world.start()
    assert (await world.tell("start", "one")).status == "success"
    assert (await world.tell("stop", "one")).status == "success"


async def test_a_rollback_swaps_the_process_and_stands_until_the_manifest_says_something_new(world: World) -> None:
    write_manifest(world.agents, "one", version="1.0", changelog="the first")
    await world.start()
    await world.becomes("one", "running")
    write_manifest(world.agents, "one", version="1.1", changelog="the second", environment={"LEVEL": "2"})
    await version_is(world, "one", "1.1")
    assert (await world.tell("restart", "one")).status == "success"
    state = await world.state("one")
    assert state is not None
    assert state.version == "1.1"

    dry = await world.tell("rollback", "one", version="1.0", dry_run=True)
    assert dry.result is not None
    assert (dry.result["previous"], dry.result["changed"]) == ("1.1", ["version", "environment", "changelog"])
    back = await world.tell("rollback", "one", user="ann", version="1.0", reason="it answers nonsense")
    assert back.status == "success", back
    state = await world.state("one")
    assert state is not None
    assert (state.version, state.status) == ("1.0", "running")
    again = await world.tell("rollback", "one", version="1.0")
    assert again.error is not None
    assert "is the current version and runs" in again.error.message

    # The manifest still says 1.1, and a new manager reads it: the rollback stands.
    await world.stop()
    await world.start()
    kept = await record(world, "one")
    assert kept is not None
    assert (kept.version, kept.environment) == ("1.0", {})
    write_manifest(world.agents, "one", version="1.2")
    await version_is(world, "one", "1.2")
    found = await releases(world, "one")
    assert found is not None
    assert [one.version for one in found.releases] == ["1.0", "1.1", "1.2"]
    changes = await told(world, "one", 4)
    assert [(one.change.change, one.change.version, one.by) for one in changes] == [
        ("register", "1.0", "discovery"),
        ("update", "1.1", "discovery"),
        ("rollback", "1.0", "ann"),
        ("update", "1.2", "discovery"),
    ]


async def test_a_promotion_needs_every_check_and_a_stage_at_a_time(world: World) -> None:
    write_manifest(world.agents, "one", version="1.0")
    await world.start()
    await world.becomes("one", "running")
    early = await world.tell("promote", "one", to="staging", healthy_for_s=0)
    assert early.error is not None
    assert "health: not HEALTHY" in early.error.message
    await world.judged("one", "HEALTHY", since=now() - timedelta(hours=1))

    async def verdict() -> bool:
        dry = await world.tell("promote", "one", to="staging", healthy_for_s=0, dry_run=True)
        return dry.result is not None and dry.result["would_pass"] is True

    await until(verdict, "the manager has heard that it is HEALTHY")
    soon = await world.tell("promote", "one", to="staging", healthy_for_s=3600)
    assert soon.error is not None
    assert "3600 s are asked for" in soon.error.message
    evaluated = await world.tell("promote", "one", to="staging", healthy_for_s=0, min_score=0.9)
    assert evaluated.error is not None
    assert "no evaluation since" in evaluated.error.message
    assert (
        await world.tell("promote", "one", user="ann", to="staging", healthy_for_s=0, reason="good enough")
    ).status == "success"
    skipped = await world.tell("promote", "one", to="staging", healthy_for_s=0)
    assert skipped.error is not None
    assert "not below staging" in skipped.error.message
    assert (await world.tell("promote", "one", to="prod", healthy_for_s=0)).status == "success"
    found = await releases(world, "one")
    assert found is not None
    assert found.releases[0].stage == "prod"
    assert [one.change.stage for one in await told(world, "one", 3)] == [None, "staging", "prod"]


async def evaluated(world: World, agent: str, score: float, suite: str = "answers", **more: Any) -> None:
    """What validate would have stored of an evaluation."""
    event: dict[str, Any] = {
        "event_version": "v1", "event_id": str(uuid4()), "event_type": "evaluation.completed", "occurred_at": now().isoformat(),
        "tenant": {"tenant_id": TENANT}, "run": {"agent_id": agent}, "attributes": {},
        "ingest": {"received_at": now().isoformat(), "sequence": 1, "position": 0},
        "evaluation": {"evaluation_id": uuid4().hex, "evaluator": "judge", "score": score, "suite": suite},
    }  # fmt: skip
    await world.client.jetstream().publish(f"events.{TENANT}.evaluation", json.dumps(event | more).encode())


async def test_a_promotion_may_ask_for_the_latest_evaluation_of_a_suite(world: World) -> None:
    write_manifest(world.agents, "one", version="1.0")
    await evaluated(world, "one", 0.99)
    await world.start()
    await world.becomes("one", "running")
    await evaluated(world, "one", 0.95)
    await evaluated(world, "one", 0.7)
    await evaluated(world, "one", 0.99, suite="other")
    await evaluated(world, "two", 0.99)
    said = await world.tell("promote", "one", to="staging", suite="answers", min_score=0.9, dry_run=True)
    assert said.result is not None
    check = said.result["checks"][-1]
    assert (check["name"], check["passed"]) == ("evaluation", False)
    assert "scored 0.7; 0.9 is asked for" in check["message"]
    said = await world.tell("promote", "one", to="staging", suite="other", min_score=0.9, dry_run=True)
    assert said.result is not None
    assert said.result["checks"][-1]["passed"] is True


async def test_a_version_on_trial_that_is_not_well_is_taken_back_by_itself(world: World) -> None:
    write_manifest(world.agents, "one", version="1.0", healing={"enabled": False})
    await world.start()
    await world.becomes("one", "running")
    bad = described(world, "one", version="2.0", environment={"LEAVES": "3"}, healing={"enabled": False})
    assert (await world.tell("register", "one", record=bad, current=False)).status == "success"
    kept = await record(world, "one")
    assert kept is not None
    assert kept.version == "1.0"
    trial = await world.tell("canary", "one", version="2.0", duration_s=60)
    assert trial.error is not None
    assert "version 2.0 is current now, but" in trial.error.message
    await version_is(world, "one", "1.0")

    async def back() -> bool:
        state = await world.state("one")
        return state is not None and (state.version, state.status) == ("1.0", "running")

    await until(back, "1.0 runs again", 20)
    changes = await told(world, "one", 4)
    assert [(one.change.change, one.change.version) for one in changes[1:]] == [
        ("register", "2.0"),
        ("canary", "2.0"),
        ("rollback", "1.0"),
    ]
    assert changes[-1].by == "canary"
    assert "2.0 was on trial: it ended" in changes[-1].reason

    async def audited() -> bool:
        return any(one.action == "canary_taken_back" and one.actor == "canary" for one in await world.audit())

    await until(audited, "it is in the audit trail")


async def test_a_version_on_trial_that_is_well_stays_and_is_good(world: World) -> None:
    world.options = {"good_after_s": 0.5}
    write_manifest(world.agents, "one", version="1.0")
    await world.start()
    await world.becomes("one", "running")
    assert (await world.tell("register", "one", record=described(world, "one", version="2.0"), current=False)).status == "success"
    trial = await world.tell("canary", "one", version="2.0", duration_s=4)
    assert trial.status == "success", trial
    await world.judged("one", "HEALTHY")

    async def over() -> bool:
        found = await releases(world, "one")
        return found is not None and found.canary is None and found.current == "2.0" and found.releases[1].good_at is not None

    await until(over, "the trial is over and 2.0 is good", 20)
    assert [one.change.change for one in await told(world, "one", 4)][-1] == "canary_passed"


async def test_agents_that_announce_themselves_are_sighted_and_not_managed(world: World) -> None:
    """By heartbeats on agents.hb.> and as the micro service ``agents``; what is neither is left aside."""
    world.options = {"sighting_interval_s": 0.3}
    await world.start()
    beat = {
        "agent": "pi",
        "owner": "ann",
        "session": "s1",
        "instance_id": "I1",
        "ts": "2026-04-21T14:23:01Z",
        "interval_s": 5,
        "x": 1,
    }
    await world.client.publish("agents.hb.pi.ann.s1", json.dumps(beat).encode())
    await world.client.publish("agents.hb.bad.ann.s1", b"no heartbeat")
    metadata = {"agent": "cc", "owner": "bob", "session": "w.1", "protocol_version": "0.3"}
    service = await nats.micro.add_service(
        world.client, ServiceConfig(name="agents", version="0.3.0", description="a coder", metadata=metadata)
    )
    bucket = await TypedBucket.open(world.client, topology.SIGHTINGS, Sighting)
    seen: dict[str, Sighting] = {}

    async def both() -> bool:
        seen.update(await bucket.all())
        return len(seen) == 2

    await until(both, "both are sighted")
    beating, serving = seen[f"{TENANT_DEFAULT}.pi-ann-s1"], seen[f"{TENANT_DEFAULT}.cc-bob-w_1"]
    assert (beating.seen_by, beating.interval_s, beating.instance_id) == ("heartbeat", 5, "I1")
    assert (serving.seen_by, serving.version, serving.description) == ("service", "0.3.0", "a coder")
    refused = await world.tell("restart", "pi-ann-s1")
    assert refused.status == "error"
    await service.stop()


TENANT_DEFAULT = "demo"
