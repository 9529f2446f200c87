"""The local door: what is accepted is on disk, what is not is told by field."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson

from schemas.reading import read_event
from service.door import HealthDoor
from sidecar.door import Door
from sidecar.intake import SpoolIntake
from sidecar.messages import message
from sidecar.shipping import Shipper
from sidecar.spool import Spool
from sidecar.submissions import read
from streams.settings import NatsSettings
from streams.waiting import Nats
from tests.sidecar.test_proxy import listening


def event(**changes: Any) -> dict[str, Any]:
    return {
        "event_version": "v1",
        "event_id": str(uuid4()),
        "event_type": "run.started",
        "occurred_at": "2026-11-20T10:00:00Z",
        "tenant": {"tenant_id": "acme"},
        "run": {"agent_id": "a", "run_id": "r"},
        **changes,
    }


@dataclass
class Opened:
    url: str
    spool: Spool
    http: aiohttp.ClientSession

    async def post(self, body: bytes, content_type: str = "application/json", path: str = "/v1/events") -> tuple[int, Any]:
        headers = {"Content-Type": content_type}
        async with self.http.post(self.url + path, data=body, headers=headers) as response:
            return response.status, await response.json()

    def spooled(self) -> list[str]:
        batch = self.spool.take(10_000_000, 10_000)
        return [] if batch is None else [record.event_id for record in batch.records]


@asynccontextmanager
async def door(directory: Path, max_bytes: int = 4_000_000) -> AsyncIterator[Opened]:
    spool = Spool.open(directory / "spool", max_bytes)
    shipper = Shipper(spool, Nats(NatsSettings(), "test"), "acme", "a", directory / "refused")
    async with (
        listening(Door("acme", "a", SpoolIntake(shipper), HealthDoor("sidecar")).application()) as url,
        aiohttp.ClientSession() as http,
    ):
        try:
            yield Opened(url, spool, http)
        finally:
            spool.close()


async def test_one_event_an_array_and_lines_of_events_are_accepted(tmp_path: Path) -> None:
    events = [event() for _ in range(6)]
    async with door(tmp_path) as here:
        assert await here.post(json.dumps(events[0], indent=2).encode()) == (202, {"accepted": 1})
        assert await here.post(orjson.dumps(events[1:3])) == (202, {"accepted": 2})
        lines = b"\n".join(map(orjson.dumps, events[3:])) + b"\n\n"
        assert await here.post(lines, "application/x-ndjson; charset=utf-8") == (202, {"accepted": 3})
        assert here.spooled() == [item["event_id"] for item in events]


async def test_what_is_wrong_is_told_by_field_and_the_rest_is_accepted(tmp_path: Path) -> None:
    good, bad = event(), event(run={"agent_id": "a b"}, event_type="run.paused")
    async with door(tmp_path) as here:
        status, body = await here.post(b"\n".join([orjson.dumps(good), orjson.dumps(bad), b"{nonsense"]), "application/x-ndjson")
        assert here.spooled() == [good["event_id"]]
    assert (status, body["accepted"]) == (400, 1)
    first, second = body["rejected"]
    assert (first["index"], second["index"]) == (1, 2)
    assert {error["loc"] for error in first["errors"]} == {"$.event_type", "$.run.agent_id"}
    assert next(error["value"] for error in first["errors"] if error["loc"] == "$.event_type") == "run.paused"
    assert second["reason"] == "malformed_json"


async def test_another_tenants_event_is_refused(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        status, body = await here.post(orjson.dumps(event(tenant={"tenant_id": "rival"})))
        assert here.spooled() == []
    assert status == 400
    assert body["rejected"][0]["errors"] == [
        {"loc": "$.tenant.tenant_id", "msg": "this sidecar speaks for tenant 'acme'", "value": "rival"}
    ]


async def test_a_request_that_is_no_event_is_refused_clearly(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        assert (await here.post(orjson.dumps(event()), "application/x-www-form-urlencoded"))[0] == 415
        assert (await here.post(b"a" * 1_000_001))[0] == 413
        for body in (b"", b"[]", b"null", b"17", b"\xff\xfe", b'{"a": "\x00"}', b"[" * 100_000):
            status, answer = await here.post(body)
            assert (status, answer["accepted"]) == (400, 0), body[:20]
        assert here.spooled() == []


async def test_a_body_without_a_length_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536

    async with door(tmp_path) as here:
        try:
            async with here.http.post(
                f"{here.url}/v1/events", data=endless(), headers={"Content-Type": "application/json"}
            ) as response:
                assert response.status == 413
        except aiohttp.ClientError:
            # The door may close before the client has read why.
            assert here.spooled() == []


async def test_a_full_spool_answers_503_and_takes_nothing(tmp_path: Path) -> None:
    async with door(tmp_path, max_bytes=100_000) as here:
        body = b"\n".join(orjson.dumps(event(attributes={"a": "x" * 1000})) for _ in range(20))
        answers = [await here.post(body, "application/x-ndjson") for _ in range(8)]
        statuses = [status for status, _ in answers]
        taken = statuses.count(202)
        assert statuses == [202] * taken + [503] * (8 - taken)
        assert 0 < taken < 8
        assert here.spool.waiting_bytes <= 100_000
        headers = {"Content-Type": "application/x-ndjson"}
        async with here.http.post(f"{here.url}/v1/events", data=body, headers=headers) as response:
            assert int(response.headers["Retry-After"]) >= 1


async def test_an_old_event_is_accepted_and_kept_in_the_words_of_the_current_contract(tmp_path: Path) -> None:
    old = event(event_version="v0")
    submission = read(orjson.dumps(old), ndjson=False, tenant="acme", agent="a")
    assert not submission.rejected
    assert read_event(submission.records[0].line) == read_event(orjson.dumps(old))


def test_messages_are_named_by_what_they_carry() -> None:
    runs = read(b"\n".join(orjson.dumps(event()) for _ in range(3)), ndjson=True, tenant="acme", agent="a").records
    single, several = message("acme", "a", runs[:1]), message("acme", "a", runs)
    assert (single.subject, single.message_id, single.data) == ("telemetry.acme.a.run", runs[0].event_id, runs[0].line)
    assert several.subject == "telemetry.acme.a.run"
    assert several == message("acme", "a", runs)
    assert several.message_id != message("acme", "a", runs[:2]).message_id
    step = read(
        orjson.dumps(event(event_type="log.emitted", log={"level": "info", "message": "m"})),
        ndjson=False,
        tenant="acme",
        agent="a",
    )
    assert message("acme", "a", [*runs, *step.records]).subject == "telemetry.acme.a.batch"


def test_an_agent_inside_the_agent_is_spoken_for_in_a_batch() -> None:
    """A subject names one agent; only kind ``batch`` may carry several."""
    own, inner = event(), event(run={"run_id": "r", "agent_id": "a-helper"})
    found = read(b"\n".join(orjson.dumps(each) for each in (own, inner)), ndjson=True, tenant="acme", agent="a").records
    assert [record.kind for record in found] == ["run", "batch.run"]
    assert message("acme", "a", found).subject == "telemetry.acme.a.batch"
    assert message("acme", "a", found[1:]).subject == "telemetry.acme.a.batch"
