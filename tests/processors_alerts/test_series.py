"""One rule for one subject: when it fires, when it ends, and under which ids."""

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.alerts.rules import Rule
from processors.alerts.series import Measurement, Series, acknowledge, advance, clear, measure
from schemas.alerts import Acknowledgement, AlertChange
from tests.processors_health.telling import at

EMPTY = Series(rule="slow", tenant_id="acme", agent_id="a")


def rule(**given: Any) -> Rule:
    return Rule.model_validate({"name": "slow", "metric": "latency_ms", "threshold": 2000, "severity": "warning"} | given)


def counted(**given: Any) -> Rule:
    return rule(**{"metric": "run_failures", "threshold": 1, "window": "60s", **given})


Story = list[tuple[float, float | None]]
"""Moments and values; None only lets time pass."""


def told(
    of: Rule, story: Story, *, fresh_for: timedelta | None = None, start: Series = EMPTY
) -> tuple[Series, list[AlertChange]]:
    series, changes = start, list[AlertChange]()
    for moment, value in story:
        if value is None:
            step = advance(of, series, at(moment))
        else:
            step = measure(of, series, Measurement(value, at(moment), f"m{moment}", fresh_for=fresh_for))
        series = step.series
        changes += step.changes
    return series, changes


def states(changes: list[AlertChange]) -> list[tuple[str, float]]:
    return [(change.state, (change.at - at(0)).total_seconds()) for change in changes]


def test_without_a_duration_it_fires_with_the_measurement_itself() -> None:
    _, changes = told(rule(), [(1, 100), (2, 2500), (3, 2600), (4, 100)])
    assert states(changes) == [("firing", 2), ("resolved", 4)]
    assert changes[0].alert_id == changes[1].alert_id
    assert changes[0].value == 2500


def test_a_duration_must_be_held_without_a_break() -> None:
    slow = rule(**{"for": "5s"})
    assert states(told(slow, [(0, 2500), (4, 100), (5, 2500), (9, 100)])[1]) == []
    assert states(told(slow, [(0, 2500), (4.9, None)])[1]) == []
    assert states(told(slow, [(0, 2500), (20, None)])[1]) == [("firing", 5)]
    assert states(told(slow, [(0, 2500), (7, 100)])[1]) == [("firing", 5), ("resolved", 7)]


def test_a_count_leaves_its_window_by_itself() -> None:
    _, changes = told(counted(), [(0, 1), (10, 1), (200, None)])
    assert [change.state for change in changes] == ["firing", "resolved"]
    assert 60 <= states(changes)[1][1] <= 62


def test_what_happened_before_the_window_is_not_counted() -> None:
    late = Measurement(5.0, at(100), "late", occurred_at=at(0))
    assert measure(counted(), EMPTY, late).changes == ()


def test_an_older_measurement_does_not_replace_a_newer_one() -> None:
    series, _ = told(rule(), [(10, 100)])
    late = Measurement(9000, at(11), "late", occurred_at=at(5))
    assert measure(rule(), series, late).changes == ()


def test_a_measurement_that_is_not_renewed_becomes_unknown_and_ends_the_alert() -> None:
    _, changes = told(rule(), [(0, 2500), (100, None)], fresh_for=timedelta(seconds=30))
    assert states(changes) == [("firing", 0), ("resolved", 30)]
    assert changes[1].note == "not measured any more"


def test_an_agent_stopped_on_purpose_ends_its_alert() -> None:
    series, _ = told(rule(), [(0, 2500)])
    step = clear(rule(), series, at(3), "stopped by command")
    assert [(change.state, change.note) for change in step.changes] == [("resolved", "stopped by command")]


def test_an_alert_is_acknowledged_once_and_only_while_it_fires() -> None:
    series, changes = told(rule(), [(0, 2500)])
    given_ = Acknowledgement(alert_id=changes[0].alert_id, by="ada", at=at(1))
    step = acknowledge(series, given_)
    assert [(change.state, change.acknowledged_by) for change in step.changes] == [("acknowledged", "ada")]
    assert acknowledge(step.series, given_).changes == ()
    ended, resolved = told(rule(), [(5, 1)], start=step.series)
    assert [(change.state, change.acknowledged_by) for change in resolved] == [("resolved", "ada")]
    assert acknowledge(ended, given_).changes == ()


values = st.one_of(st.none(), st.sampled_from([0.0, 100.0, 1999.0, 2000.0, 2001.0, 5000.0]))
gaps = st.one_of(st.floats(0, 8), st.floats(0, 90))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    moment, story = 0.0, []
    for _ in range(draw(st.integers(0, 25))):
        moment += round(draw(gaps), 3)
        story.append((moment, draw(values)))
    return story


gauges = st.builds(lambda seconds: rule(**{"for": f"{seconds}s"}), st.sampled_from([0, 1, 5, 20]))
counters = st.builds(
    lambda seconds, window, threshold: counted(**{"for": f"{seconds}s", "window": window, "threshold": threshold}),
    st.sampled_from([0, 5]), st.sampled_from(["2s", "30s", "60s"]), st.sampled_from([0, 2000, 4000]),
)  # fmt: skip
rules = st.one_of(gauges, counters)
freshness = st.one_of(st.none(), st.just(timedelta(seconds=30)))
quickly = settings(max_examples=80, deadline=None)


@quickly
@given(rules, stories(), freshness)
def test_every_alert_fires_once_and_then_ends_once_or_is_still_firing(
    of: Rule, story: Story, fresh_for: timedelta | None
) -> None:
    series, changes = told(of, story, fresh_for=fresh_for)
    open_: str | None = None
    seen: set[str] = set()
    for change in changes:
        if change.state == "firing":
            assert open_ is None
            assert change.alert_id not in seen
            seen.add(change.alert_id)
            open_ = change.alert_id
            assert change.at - change.started_at == of.for_
        else:
            assert change.alert_id == open_
            open_ = None
    assert (series.phase == "firing") == (open_ is not None)
    assert len({change.change_id for change in changes}) == len(changes)
    assert [change.at for change in changes] == sorted(change.at for change in changes)


@quickly
@given(rules, stories(), freshness, st.lists(st.floats(0, 500), max_size=20))
def test_looking_more_often_changes_nothing(of: Rule, story: Story, fresh_for: timedelta | None, looks: list[float]) -> None:
    end = max([moment for moment, _ in story], default=0.0)
    often: Story = sorted([*story, *((look, None) for look in looks if look <= end)], key=lambda each: each[0])
    assert told(of, often, fresh_for=fresh_for) == told(of, story, fresh_for=fresh_for) or end == 0


@quickly
@given(rules, stories(), freshness, st.data())
def test_reading_again_after_a_crash_tells_the_same_changes(
    of: Rule, story: Story, fresh_for: timedelta | None, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(story)))
    saved, before = told(of, story[:cut], fresh_for=fresh_for)
    restored = Series.model_validate_json(saved.model_dump_json(exclude_none=True))
    _, after = told(of, story[cut:], fresh_for=fresh_for, start=restored)
    assert before + after == told(of, story, fresh_for=fresh_for)[1]
