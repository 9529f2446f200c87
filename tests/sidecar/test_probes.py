"""Probes: how they are written, and what a row of answers means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.state import ProbeConfig
from sidecar.probes import Answer, InvalidProbeError, Standing, failing_since, judge, name_of, overall, parse

GOOD, BAD = Answer(True), Answer(False, error="refused")
THREE = ProbeConfig(kind="tcp", failure_threshold=3, success_threshold=2)


def after(answers: list[Answer], config: ProbeConfig = THREE, *, in_grace: bool = False) -> Standing:
    standing = Standing()
    for answer in answers:
        standing = judge(standing, answer, config, in_grace=in_grace)
    return standing


@pytest.mark.parametrize(
    ("text", "probe"),
    [
        ("process", ProbeConfig(kind="process")),
        ("http", ProbeConfig(kind="http")),
        ("http:/ready", ProbeConfig(kind="http", path="/ready")),
        (
            "http:/health:interval=1,timeout=1,failures=3",
            ProbeConfig(kind="http", path="/health", interval_s=1, timeout_s=1, failure_threshold=3),
        ),
        ("http:/a:b?c=d&e=f", ProbeConfig(kind="http", path="/a:b?c=d&e=f")),
        ("tcp:interval=0.5,successes=2", ProbeConfig(kind="tcp", interval_s=0.5, success_threshold=2)),
        (ProbeConfig(kind="tcp", timeout_s=0.25).model_dump_json(), ProbeConfig(kind="tcp", timeout_s=0.25)),
    ],
)
def test_a_probe_is_read_as_written(text: str, probe: ProbeConfig) -> None:
    assert parse(text) == probe


@pytest.mark.parametrize(
    "text", ["", "ping", "tcp:/path", "http:health", "tcp:speed=1", "tcp:interval=soon", "tcp:failures=0", "{}"]
)
def test_what_is_no_probe_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InvalidProbeError, match="."):
        parse(text)


def test_failures_below_the_threshold_condemn_nothing() -> None:
    assert after([GOOD, GOOD, BAD, BAD]).verdict == "passing"
    assert after([GOOD, GOOD, BAD, BAD, BAD]).verdict == "failing"


def test_an_agent_that_is_coming_up_is_not_condemned_before_its_grace_ends() -> None:
    assert after([BAD] * 50, in_grace=True).verdict == "starting"
    assert after([BAD] * 3, in_grace=False).verdict == "failing"


def test_trouble_lasts_since_the_last_sign_of_life() -> None:
    good, bad = Answer(True, 5.0, at=10.0), [Answer(False, 2000.0, "no answer", at=13.0 + n) for n in range(3)]
    standing = after([good, *bad])
    assert failing_since([standing]) == 10.0
    assert failing_since([after([good, *bad[:1]])]) is None
    assert failing_since([after(bad)]) == 11.0
    assert failing_since([after([good, *bad, Answer(True, at=20.0)])]) is None


def test_one_that_failed_passes_again_after_enough_successes() -> None:
    assert after([BAD, BAD, BAD, GOOD]).verdict == "failing"
    assert after([BAD, BAD, BAD, GOOD, GOOD]).verdict == "passing"


@given(st.lists(st.sampled_from([GOOD, BAD])))
def test_the_verdict_follows_from_the_last_unbroken_row(answers: list[Answer]) -> None:
    standing = after(answers)
    row = 0
    for answer in reversed(answers):
        if answer.ok != answers[-1].ok:
            break
        row += 1
    assert standing.failures == (row if answers and not answers[-1].ok else 0)
    if standing.failures >= 3:
        assert standing.verdict == "failing"
    if answers and answers[-1].ok and row >= 2:
        assert standing.verdict == "passing"


def test_the_reason_names_the_probe_and_what_it_met() -> None:
    health = overall({name_of(THREE): after([BAD] * 3)}, None)
    assert (health.status, health.reason, health.starting) == ("UNHEALTHY", "probe tcp failed 3 times: refused", False)
    assert overall({"tcp": after([GOOD, GOOD])}, "killed by SIGKILL").reason == "agent process ended: killed by SIGKILL"
    assert overall({"tcp": Standing()}, None).starting
    assert overall({"tcp": after([GOOD, GOOD])}, None).status == "HEALTHY"
