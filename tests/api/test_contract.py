"""The OpenAPI description, tried: whatever it allows is answered as it says."""

import asyncio
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from processors.budget.app import attach as attach_budget
from streams.embedded import EmbeddedServer
from tests.agent_manager.world import World
from tests.api.running import Api
from tests.processors_aggregate.conftest import Running
from tests.processors_validate.running import running

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = "/api/v1/agents/{agent_id}/events"


async def test_whatever_the_description_allows_is_answered_as_it_says(
    world: World, warehouse: Running, server: EmbeddedServer, tmp_path: Path, api: Api
) -> None:
    async with running(attach_budget, server, tmp_path / "budget"):
        await _tried(api)


async def _tried(api: Api) -> None:
    base, headers = str(api.http.base_url), api.as_["admin"]

    def tried() -> int:
        from hypothesis import HealthCheck, Phase, given, settings

        schema: Any = schemathesis.openapi.from_url(f"{base}/openapi.json")
        schema = schema.exclude(path=ENDLESS).exclude(path="/readyz")
        asked = 0
        for result in schema.get_all_operations():
            operation = result.ok()

            @given(case=operation.as_strategy())
            @settings(
                max_examples=12, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
            )
            def one(case: Any) -> None:
                nonlocal asked
                asked += 1
                case.call_and_validate(base_url=base, headers=headers, checks=CHECKS, timeout=20)

            one()
        return asked

    assert await asyncio.to_thread(tried) > 200
    assert api.process is not None
    assert api.process.returncode is None
    assert "unforeseen" not in api.log.read_text()
