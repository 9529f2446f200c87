"""From what was seen to figures, and from figures to verdicts."""

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from benchmarks import forms, results_file, tables
from benchmarks.__main__ import chosen
from benchmarks.measurements import percentiles, waited
from benchmarks.parts.catalogue import PARTS
from benchmarks.parts.part import Bench, Figures, Part
from benchmarks.parts.soak import slope_per_hour
from benchmarks.targets import TARGETS, judge

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def test_an_event_waited_until_the_first_answer_that_includes_it() -> None:
    """Answers at 1.0, 2.0 and 3.0 s tell of 1, 1 and 4 events; messages of one and three events left at 0.5 and 0.9 s."""
    assert waited([0.5, 0.9], [1, 3], [1.0, 2.0, 3.0], [1, 1, 4]) == pytest.approx([0.5, 2.1, 2.1, 2.1])


def test_percentiles_are_of_all_durations_and_the_maximum_is_one_of_them() -> None:
    found = percentiles([number / 1000 for number in range(1, 101)])
    assert (found.p50_ms, found.max_ms) == pytest.approx((50.5, 100))
    assert found.p50_ms < found.p95_ms < found.p99_ms < found.max_ms
    assert percentiles([0.02]).p99_ms == pytest.approx(20)


def test_growth_is_that_of_the_line_through_the_samples() -> None:
    assert slope_per_hour([0, 1, 2, 3], [100, 101, 102, 103]) == pytest.approx(60)
    assert slope_per_hour([0, 1, 2], [5, 5, 5]) == 0
    assert slope_per_hour([1], [5]) == 0


async def _nothing(_: Bench) -> Figures:
    return {}


PART = Part("latency", "", ("latency",), _nothing)


def test_a_part_replaces_its_own_figures_and_leaves_the_others() -> None:
    known = {"latency": {"500": {}}, "limits": {"publish_per_s": 1}, "parts": {"limits": {"form": "full"}}}
    found = results_file.merged(known, PART, {"latency": {"100": {}}}, at=NOW, form="short", took_s=1.23)
    assert found["latency"] == {"100": {}}
    assert found["limits"] == {"publish_per_s": 1}
    assert found["parts"]["limits"] == {"form": "full"}
    assert found["parts"]["latency"] == {"measured_at": NOW.isoformat(), "form": "short", "took_s": 1.2}


def test_a_part_that_failed_leaves_its_reason_and_no_older_figures() -> None:
    found = results_file.merged({"latency": {"500": {}}}, PART, "it was dark", at=NOW, form="short", took_s=0)
    assert "latency" not in found
    assert found["parts"]["latency"]["failed"] == "it was dark"


def test_figures_of_an_older_kind_of_file_are_left_behind(tmp_path: Any) -> None:
    (tmp_path / "latest.json").write_text('{"end_to_end": {}}')
    assert results_file.read(tmp_path / "latest.json") == {}
    results_file.write(tmp_path / "latest.json", {"parts": {}, "limits": {}})
    assert results_file.read(tmp_path / "latest.json") == {"parts": {}, "limits": {}}


def test_a_target_is_judged_by_its_floor_and_its_stretch() -> None:
    single = TARGETS[0]
    verdicts = [judge(single, {"end_to_end": {"single": {"events_per_s": each}}}).verdict for each in (7_999, 8_000, 12_000)]
    assert verdicts == ["missed", "floor", "stretch"]
    assert judge(single, {"end_to_end": {"single": {"failed": "no"}}}).verdict == "not measured"
    beats = next(target for target in TARGETS if "heartbeats" in target.what)
    assert [judge(beats, {"heartbeats": {"cpu_percent": each}}).verdict for each in (51, 50, 20)] == [
        "missed",
        "floor",
        "stretch",
    ]


def test_work_of_the_processor_is_judged_by_its_speed_too() -> None:
    single, beats, late = (
        next(one for one in TARGETS if what in one.what) for what in ("single events, end", "heartbeats", "p99 at 1,000")
    )
    parts = {name: {"validate_json_per_s": 75_000} for name in ("end_to_end", "heartbeats", "latency")}
    results = {
        "end_to_end": {"single": {"events_per_s": 4_000}}, "heartbeats": {"cpu_percent": 90}, "latency": {"1000": {"p99_ms": 300}},
        "parts": parts,
    }  # fmt: skip
    found = judge(single, results)
    assert (found.verdict, found.scaled_verdict) == ("missed", "floor")
    assert found.scaled == pytest.approx(8_000)
    assert judge(beats, results).scaled == pytest.approx(45)
    assert judge(late, results).scaled is None
    assert judge(single, results | {"parts": {}}).scaled is None


def test_a_ratio_needs_both_of_its_figures() -> None:
    ratio = next(target for target in TARGETS if "pydantic" in target.what)
    batched = {"end_to_end": {"batched": {"events_per_s": 30_000}}}
    assert judge(ratio, batched).verdict == "not measured"
    assert judge(ratio, batched | {"parts": {"end_to_end": {"validate_json_per_s": 100_000}}}).measured == pytest.approx(0.3)


def test_parts_that_take_an_hour_run_only_when_they_are_named() -> None:
    assert "soak" not in {part.name for part in chosen([])}
    assert [part.name for part in chosen(["soak", "limits"])] == ["limits", "soak"]
    with pytest.raises(KeyError, match="speed"):
        chosen(["speed"])


def test_every_part_writes_keys_of_its_own() -> None:
    keys = [key for part in PARTS.values() for key in part.keys]
    assert len(keys) == len(set(keys))


def test_what_failed_is_in_the_tables_with_its_reason() -> None:
    results = {
        "end_to_end": {"single": {"failed": "TimeoutError: nobody came"}},
        "peers": {"phoenix": {"failed": "not installed: `make bench` installs them"}},
        "queries": {"10000000": {"failed": "no space left"}},
        "catch_up": {"failed": "it never did"},
        "parts": {"limits": {"failed": "no server"}},
    }
    console = Console(record=True, width=160, file=StringIO())
    tables.show(results, set(results), console)
    text = console.export_text()
    for reason in ("nobody came", "not installed", "no space left", "it never did", "no server"):
        assert reason in text


def test_the_short_form_is_short_in_everything() -> None:
    """Whatever the short form measures, the others measure no less of."""
    for name in ("single", "batched", "mixed", "latency_s", "outage_events", "asks", "peer_spans", "limit_events", "heartbeat_s"):
        sizes = [getattr(form, name) for form in (forms.SHORT, forms.STANDARD, forms.FULL)]
        assert sizes == sorted(sizes), name
    assert replace(forms.SHORT, name="full") != forms.FULL
