"""A mirror between a real manager and the official Firestore emulator."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from google.cloud import firestore

from agent_manager.mirror.document import OWN
from service.ports import free_port
from streams.embedded import EmbeddedServer
from tests.agent_manager.world import TENANT, World, write_manifest
from tests.conftest import until
from tests.mirror.emulator import Emulator, emulator


class Mirror:
    """Start it, stop it, look at what it wrote."""

    def __init__(self, directory: Path, server: EmbeddedServer, firestore_at: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = directory / "mirror.log"
        self.project = f"demo-{uuid4().hex[:8]}"
        self.port = free_port()
        nats = server.settings("mirror")
        assert nats.password is not None
        self._environment = {
            **os.environ, "NATS_URL": nats.url, "NATS_USER": nats.user or "", "NATS_PASSWORD": nats.password.get_secret_value(),
            "NATS_RECONNECT_WAIT_S": "0.1", "FIRESTORE_EMULATOR_HOST": firestore_at.host, "AGENTOPS_LOG_FORMAT": "json",
            "AGENTOPS_MIRROR_NUMBERS_S": "2", "AGENTOPS_HEALTH_PORT": str(self.port),
        }  # fmt: skip
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_at.host)
        self.documents = firestore.Client(project=self.project).collection("agents")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *, ready: bool = True) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent_manager.mirror", "--project", self.project, "--tenant", TENANT,
                stdout=output, stderr=output, env=self._environment, start_new_session=True,
            )  # fmt: skip
        process = self.process

        async def up() -> bool:
            assert process.returncode is None, self.log.read_text()
            async with httpx.AsyncClient() as http:
                try:
                    return (await http.get(f"http://127.0.0.1:{self.port}/{'readyz' if ready else 'healthz'}")).status_code == 200
                except httpx.HTTPError:
                    return False

        await until(up, "the mirror is up", 30)

    async def stop(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        assert await asyncio.wait_for(self.process.wait(), 15) == 0, self.log.read_text()

    async def document(self, name: str) -> dict[str, Any]:
        found = await asyncio.to_thread(self.documents.document(name).get)
        return dict(found.to_dict() or {})

    async def says(self, name: str, what: Callable[[dict[str, Any]], bool], about: str) -> dict[str, Any]:
        """Waits until the document does."""
        seen: dict[str, Any] = {}

        async def so() -> bool:
            nonlocal seen
            seen = await self.document(name)
            return bool(seen) and what(seen)

        try:
            await until(so, about, 20)
        except BaseException:
            print(seen, self.log.read_text()[-3000:])
            raise
        return seen

    async def change(self, name: str, **fields: Any) -> None:
        """As somebody at Google would."""
        await asyncio.to_thread(self.documents.document(name).update, fields)


@pytest.fixture(scope="session")
async def google(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Emulator]:
    async with emulator(tmp_path_factory.mktemp("emulator") / "log") as running:
        yield running


@pytest.fixture
async def fleet(world: World) -> World:
    write_manifest(world.agents, "one", tags=["chat"], name="First")
    await world.start()
    await world.becomes("one", "running")
    await world.judged("one", "HEALTHY")
    return world


@pytest.fixture
async def world(server: EmbeddedServer, client: Any, tmp_path: Path) -> AsyncIterator[World]:
    found = World(server, client, tmp_path / "data", tmp_path / "agents")
    found.agents.mkdir()
    yield found
    await found.close()


@pytest.fixture
async def mirror(
    fleet: World, server: EmbeddedServer, google: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Mirror]:
    made = Mirror(tmp_path, server, google, monkeypatch)
    await made.start()
    yield made
    await made.stop()


async def test_an_agent_is_shown_as_documented_and_as_it_changes(fleet: World, mirror: Mirror) -> None:
    told = await mirror.says("one", lambda told: told["status"] == "HEALTHY", "it is shown")
    assert {"agent_id", "service_name", "status", "last_heartbeat", "metrics", "active_faults", "config"} <= set(told)
    assert (told["agent_id"], told["service_name"], told["active_faults"]) == ("one", "First", [])
    assert (told["config"]["desired_state"], told["config"]["tags"]) == ("running", ["chat"])
    await fleet.judged("one", "UNHEALTHY")
    await mirror.says("one", lambda told: told["status"] == "UNHEALTHY", "that it is not well")
    await fleet.tell("stop", "one")
    await mirror.says("one", lambda told: told["status"] == "STOPPED", "that it is stopped")


async def test_what_others_ask_there_becomes_commands_of_firestore_and_our_own_words_do_not(fleet: World, mirror: Mirror) -> None:
    await mirror.says("one", lambda told: told["status"] == "HEALTHY", "it is shown")
    await mirror.change("one", active_faults=["LATENCY_INJECTION"])
    await mirror.says("one", lambda told: told["active_faults"] == ["LATENCY"] == told[OWN]["active_faults"], "the fault")
    assert await fleet.faults("one") == ["latency"]
    await mirror.change("one", active_faults=[])
    await mirror.says("one", lambda told: told["active_faults"] == [] == told[OWN]["active_faults"], "that it is over")
    assert await fleet.faults("one") == []
    await mirror.change("one", **{"config.desired_state": "stopped"})
    await mirror.says("one", lambda told: told["status"] == "STOPPED", "that it is stopped")
    trail = [(one.action, one.actor, one.outcome) for one in await fleet.audit() if one.actor == "firestore"]
    assert trail == [(action, "firestore", "success") for action in ("inject_fault", "clear_faults", "stop")]


async def test_what_cannot_be_is_said_in_the_document_and_the_truth_with_it(fleet: World, mirror: Mirror) -> None:
    await mirror.says("one", lambda told: told["status"] == "HEALTHY", "it is shown")
    await mirror.change("one", active_faults=["NOISE"])
    told = await mirror.says("one", lambda told: bool(told[OWN].get("errors")), "the error")
    assert told[OWN]["errors"][0]["loc"] == "active_faults[0]"
    assert told["active_faults"] == []
    assert [one for one in await fleet.audit() if one.actor == "firestore"] == []


async def test_a_wish_made_while_the_mirror_was_away_is_carried_out_once(fleet: World, mirror: Mirror) -> None:
    await mirror.says("one", lambda told: told["status"] == "HEALTHY", "it is shown")
    await mirror.stop()
    await mirror.change("one", active_faults=["LATENCY"], note="kept")
    await mirror.start()
    told = await mirror.says("one", lambda told: told[OWN]["active_faults"] == ["LATENCY"], "the fault")
    assert told["note"] == "kept"
    await mirror.stop()
    await mirror.start()
    await fleet.judged("one", "UNHEALTHY")
    await mirror.says("one", lambda told: told["status"] == "UNHEALTHY", "that it goes on")
    assert len([one for one in await fleet.audit() if one.actor == "firestore"]) == 1


async def test_firestore_away_holds_nobody_up_and_what_happened_meanwhile_is_told(
    fleet: World, server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with emulator(tmp_path / "own") as own:
        mirror = Mirror(tmp_path, server, own, monkeypatch)
        await mirror.start()
        await mirror.says("one", lambda told: told["status"] == "HEALTHY", "it is shown")
        await own.stop()
        assert (await fleet.tell("restart", "one")).status == "success"
        await fleet.judged("one", "UNHEALTHY")
        await own.start()
        mirror.documents = firestore.Client(project=mirror.project).collection("agents")
        # This emulator keeps nothing: what stands there now was written after it came back.
        await mirror.says("one", lambda told: told["status"] == "UNHEALTHY", "what happened meanwhile")
        await mirror.stop()
