"""Versions from the command line: registered from a manifest, compared, rolled back; and what is wrong told by field."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client

from agent_manager.registry.releases import added
from schemas.versions import Releases, Sighting
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.agent_manager.world import World, write_manifest
from tests.cli.calling import agentops, operator
from tests.cli.fleet_values import now, put, record, state


@pytest.fixture
async def world(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[World]:
    """A manager at work, without agents."""
    found = World(server, client, tmp_path / "data", tmp_path / "agents")
    found.agents.mkdir()
    await found.start()
    yield found
    await found.close()


async def test_an_agent_is_registered_changed_and_rolled_back_and_its_history_tells_all(world: World, tmp_path: Path) -> None:
    login = operator(world.server)
    folder = write_manifest(tmp_path / "elsewhere", "one", version="1.0", changelog="the first", capabilities=["chat"]).parent
    dry = await agentops("agents", "register", str(folder), "--dry-run", variables=login)
    assert "nothing done; would be: version 1.0 registered" in dry.out, dry.err
    first = await agentops("agents", "register", str(folder), "--reason", "we need it", variables=login)
    assert first.code == 0, first.err
    await world.becomes("one", "running")
    write_manifest(tmp_path / "elsewhere", "one", version="1.1", owner="research")
    second = await agentops("agents", "register", str(folder), variables=login)
    assert "version 1.1 registered (changed: version" in second.out, second.err
    diff = await agentops("agents", "diff", "one", "--json", variables=login)
    told = diff.json()
    assert (told["before"], told["after"]) == ("1.0", "1.1")
    assert {"field": "owner", "before": None, "after": "research"} in told["differences"]
    back = await agentops("agents", "rollback", "one", "1.0", "--reason", "too slow", variables=login)
    assert "version 1.0 in place of 1.1" in back.out, back.err
    shown, history, wrong = await asyncio.gather(
        agentops("agents", "show", "one", "--json", variables=login),
        agentops("agents", "history", "one", "--json", variables=login),
        agentops("agents", "rollback", "one", "7.0", variables=login),
    )
    assert [(one["version"], one["current"], one["stage"]) for one in shown.json()["versions"]] == [
        ("1.0", True, "dev"),
        ("1.1", False, "dev"),
    ]
    assert shown.json()["record"]["capabilities"] == ["chat"]
    assert [(one["change"], one["version"], one["by"], one["reason"]) for one in history.json()] == [
        ("rollback", "1.0", "operator", "too slow"),
        ("register", "1.1", "operator", ""),
        ("register", "1.0", "operator", "we need it"),
    ]
    assert "there are: 1.0, 1.1" in wrong.failed()


async def test_what_is_wrong_with_a_manifest_or_a_field_is_told_before_anything_is_sent(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    login = operator(server)
    await put(client, record("one"), state("one"))
    path = write_manifest(tmp_path, "bad", ports=1)
    bad, empty, field, span, nothing = await asyncio.gather(
        agentops("agents", "register", str(path), variables=login),
        agentops("agents", "register", str(tmp_path), variables=login),
        agentops("agents", "update", "one", "ownr=x", variables=login),
        agentops("agents", "canary", "one", "2.0", "--for", "soon", variables=login),
        agentops("agents", "history", "nobody", variables=login),
    )
    assert "Did you mean 'port'?" in bad.failed(2)
    assert "holds no agent.yaml" in empty.failed(2)
    assert "'ownr' is no field" in field.failed(2)
    assert "--for: 'soon'" in span.failed(2)
    assert "nothing was ever registered" in nothing.failed()


async def test_versions_and_agents_that_announced_themselves_are_listed(server: EmbeddedServer, client: Client) -> None:
    login = operator(server)
    await put(client, record("one", changelog="faster", owner="ann"), state("one"))
    releases = await TypedBucket.open(client, topology.RELEASES, Releases)
    await releases.put("demo.one", added(None, record("one", changelog="faster"), now=now(), by="ann", current=True))
    sightings = await TypedBucket.open(client, topology.SIGHTINGS, Sighting)
    at = datetime.now(UTC)
    seen = Sighting(
        agent_id="pi-ann-s1", tenant_id="demo", agent="pi", owner="ann", session="s1", instance_id="I1", seen_by="heartbeat",
        interval_s=30, first_seen=at, last_seen=at,
    )  # fmt: skip
    await sightings.put("demo.pi-ann-s1", seen)
    listed, shown, other = await asyncio.gather(
        agentops("agents", "list", "--json", variables=login),
        agentops("agents", "show", "one", variables=login),
        agentops("agents", "show", "pi-ann-s1", variables=login),
    )
    rows = {row["agent_id"]: row for row in json.loads(listed.out)}
    assert (rows["pi-ann-s1"]["status"], rows["pi-ann-s1"]["managed"]) == ("running", False)
    assert "observed, not managed" in rows["pi-ann-s1"]["reason"]
    assert (rows["one"]["managed"], rows["one"]["stage"]) == (True, "dev")
    assert "dev, current" in shown.out
    assert "faster" in shown.out
    assert "observed only" in other.out


async def test_faults_of_everybody_are_taken_back_without_a_manager(server: EmbeddedServer, client: Client) -> None:
    from schemas.state import FaultSet
    from tests.cli.fleet_values import latency_fault

    await put(client, record("one"), state("one"), latency_fault("one"))
    said = await agentops("faults", "clear", "--all", variables=operator(server))
    assert said.code == 0, said.err
    assert "the manager did not answer; taken back without it" in said.out
    entry = await (await TypedBucket.open(client, topology.FAULTS, FaultSet)).get("demo.one")
    assert entry is not None
    assert entry.value is not None
    assert entry.value.faults == ()


async def test_a_drill_is_checked_and_told_before_it_is_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsteps: [{inject: {fault: latency, latency_ms: 5}}, {expect: {stays: HEALTHY, within: 5s}}]")
    planned, listed, missing = await asyncio.gather(
        agentops("drill", "run", str(path), "--dry-run", variables={}),
        agentops("drill", "list", "--json", variables={}),
        agentops("drill", "run", "builtin/earthquake", variables={}),
    )
    assert "inject latency for 1 min" in planned.out, planned.out
    assert "expect stays HEALTHY for 5 s" in planned.out
    assert "builtin/crash" in {one["name"] for one in listed.json()}
    assert "builtin/crash" in missing.failed(2)
