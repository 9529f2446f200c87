"""A request that fails at the proxy is told of: its sidecar may be the only one who saw it."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from sidecar.failures import EVERY_S, FAILED_REQUESTS, MOST_CAUSES, Failures, asked
from tests.conftest import until
from tests.sidecar.running import Sidecar, Telemetry
from tests.sidecar.test_faults_in_force import ask, fault


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 3, allow_nan=False))))
def test_every_failed_request_is_told_once_and_seldom(failing: list[tuple[int, float]]) -> None:
    """However many fail, of however many causes, an agent's failures are one small event every few seconds."""
    failures, now = Failures(), 0.0
    told: list[tuple[float, float]] = []
    for cause, pause in failing:
        failures.add(f"cause-{cause}", "it failed")
        now += pause
        samples = failures.take(now)
        assert len(samples) <= MOST_CAUSES + 1
        told += [(now, sample.value) for sample in samples]
    last = failures.take(now, last=True)
    assert sum(value for _, value in told) + sum(sample.value for sample in last) == len(failing)
    moments = sorted({at for at, _ in told})
    assert all(later - earlier >= EVERY_S for earlier, later in itertools.pairwise(moments))


def test_a_path_is_shown_but_never_at_length() -> None:
    assert asked("GET", "/health") == "GET /health"
    assert len(asked("POST", "/" + "x" * 10_000)) < 100


@given(st.text())
def test_whatever_path_is_asked_for_can_be_told(path: str) -> None:
    """A caller chooses it; one that the contract refuses would end the sidecar."""
    failures = Failures()
    for asked_for in (path, "/\0", "/\ud800", "/a\nb"):
        failures.add(f"cause {asked_for!r}", asked("GET", asked_for))
    told = failures.take(0.0)
    assert sum(sample.value for sample in told) == 4
    assert all(sample.name.isprintable() for sample in told)


async def test_a_path_with_a_nul_is_told_and_ends_nobody(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    await sidecar.start("--probe", "process")
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("error", status_code=507))
    await telemetry.find("fault.injected")
    assert (await sidecar.get("/a%00b"))[0] == 507
    await sidecar.stop()
    told = [event for event in await telemetry.read() if event["event_type"] == "metric.sampled"]
    assert "injected_fault: GET /a\N{REPLACEMENT CHARACTER}b: answered 507 by a fault instead of the agent" in {
        sample["name"] for event in told for sample in event["metrics"]["samples"]
    }


async def test_requests_that_never_reached_the_agent_are_told_by_cause(
    sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    """Broken on purpose: what its callers met is on the wire, as no run and no model call."""
    await sidecar.start("--probe", "process")
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("error", status_code=507))
    await telemetry.find("fault.injected")
    for _ in range(3):
        assert (await sidecar.get("/chat?key=secret"))[0] == 507
    await sidecar.stop()
    told = [event for event in await telemetry.read() if event["event_type"] == "metric.sampled"]
    samples = [sample for event in told for sample in event["metrics"]["samples"]]
    assert {sample["unit"] for sample in samples} == {FAILED_REQUESTS}
    assert sum(event["metrics"]["errors"] for event in told) == sum(sample["value"] for sample in samples)
    by_name = {sample["name"]: sample["value"] for sample in samples}
    assert by_name["injected_fault: GET /chat: answered 507 by a fault instead of the agent"] == 3
    assert all("run_id" not in event["run"] and "resource_usage" not in event for event in told)
