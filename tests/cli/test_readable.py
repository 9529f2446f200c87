import contextlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_manager.cli import output, readable
from agent_manager.cli.alerts.states import short
from agent_manager.cli.doctor.findings import Finding
from agent_manager.cli.doctor.showing import told
from agent_manager.cli.fitting import Column, fitting
from agent_manager.cli.query import ranges, tables
from agent_manager.cli.when import NotATimeError, moment, seconds
from schemas.queries import Page

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0", "$0"),
        ("0.000000042", "$0.000000042"),
        ("0.00123456", "$0.00123"),
        ("0.5", "$0.500"),
        ("12.345", "$12.34"),
        ("1234567.8", "$1,234,567.80"),
        ("-0.25", "-$0.250"),
        (None, "–"),
    ],
)
def test_money_is_readable_from_nano_dollars_to_millions(value: str | None, shown: str) -> None:
    assert readable.money(value) == shown


@given(st.decimals(min_value=0, max_value=Decimal(10) ** 8, places=9))
def test_money_is_never_scientific_and_never_far_off(value: Decimal) -> None:
    shown = readable.money(value)
    assert "e" not in shown.lower()
    read = Decimal(shown.removeprefix("$").replace(",", ""))
    assert abs(read - value) <= max(value / 100, Decimal("0.005") if value >= 1 else Decimal("1e-9"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.85, "850 ms"),
        (0.0001, "<1 ms"),
        (0.0, "0 ms"),
        (4.23, "4.2 s"),
        (42, "42 s"),
        (185, "3 min 5 s"),
        (120, "2 min"),
        (7440, "2 h 4 min"),
        (93_600, "1 d 2 h"),
        (None, "–"),
    ],
)
def test_durations_have_the_unit_that_fits(value: float | None, shown: str) -> None:
    assert readable.duration(value) == shown


def test_ages_look_back_and_ahead() -> None:
    assert readable.age(NOW - timedelta(seconds=90), NOW) == "1 min 30 s ago"
    assert readable.age((NOW + timedelta(minutes=5)).isoformat(), NOW) == "in 5 min"
    assert readable.age(NOW, NOW) == "just now"
    assert readable.age(None, NOW) == "–"


@given(st.floats(min_value=0, max_value=1e9, allow_nan=False))
def test_every_duration_can_be_shown(value: float) -> None:
    assert readable.duration(value).split()[-1] in {"ms", "s", "min", "h", "d"}


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("cost_usd", "1.5", "$1.50"),
        ("p95_ms", 2500.0, "2.5 s"),
        ("input_tokens", 1234567, "1,234,567"),
        ("model", "gpt-4o", "gpt-4o"),
        ("labels", {"a": 1}, "a=1"),
        ("x", None, "–"),
    ],
)
def test_a_querys_values_are_told_by_their_columns(column: str, value: object, shown: str) -> None:
    assert readable.cell(column, value) == shown


@pytest.mark.parametrize(
    ("text", "value"), [("5m", 300), ("90", 90), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172_800), ("1.5 h", 5400)]
)
def test_durations_are_read_as_people_write_them(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-5m", "1 2", "m"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(NotATimeError, match="30s"):
        seconds(text)


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(NotATimeError):
        assert moment(text, NOW).tzinfo is not None


def test_moments_may_be_relative_or_exact() -> None:
    assert moment("24h", NOW) == NOW - timedelta(days=1)
    assert moment("now", NOW) == NOW
    assert moment("2026-11-20T08:00:00Z", NOW) == datetime(2026, 11, 20, 8, tzinfo=UTC)


WIDE = [
    Column("AGENT"), Column("VERSION", rank=2), Column("PID", right=True, rank=3), Column("LATENCY", right=True, rank=1), Column("REASON", wrap=True),
]  # fmt: skip


@given(st.lists(st.lists(st.text(alphabet="abc äß", max_size=40), min_size=5, max_size=5), max_size=5), st.integers(1, 300))
def test_a_table_keeps_what_matters_and_as_much_of_the_rest_as_fits(rows: list[list[str]], width: int) -> None:
    kept = fitting(WIDE, rows, width)
    assert kept == sorted(kept)
    assert {0, 4} <= set(kept)
    # Left out in the order of their ranks, and none that would have fitted.
    left_out = [place for place in (2, 1, 3) if place not in kept]
    assert left_out == [2, 1, 3][: len(left_out)]
    assert len(fitting(WIDE, rows, width + 1)) >= len(kept)


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_is_no_wider_than_the_terminal_and_says_what_it_left_out(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    row = [
        "summary-service",
        "1.12.0",
        "123456",
        "1.2 s",
        "83% of requests fail (limit 50%), and a good deal more to say about that",
    ]
    columns = [*WIDE[:4], Column("RESTARTS", rank=4), Column("STARTED", rank=5), Column("REASON", wrap=True)]
    output.write_table(columns, [[*row[:4], "2", "2026-11-20 08:00:00", row[4]]], empty="none")
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert all(len(line) <= width and line == line.rstrip() for line in lines)
    assert "summary-service" in told.out
    assert "…" not in told.out
    assert ("STARTED" in told.err) == (width == 80)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_names_are_folded_but_numbers_never_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    columns = [Column("MODEL"), Column("BEFORE", right=True), Column("AFTER", right=True)]
    output.write_table(columns, [["a-model-whose-name-is-longer-than-" * 2, "120.156150000", "0.007807500"]], empty="none")
    assert {"120.156150000", "0.007807500"} <= set(capsys.readouterr().out.split())


def test_what_the_doctor_found_has_the_whole_width_whatever_its_part_is_called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    part = "processors-cost-health-budget-alerts-notify"
    output.write_facts([told(Finding(part, "problem", "does not answer on its health door, nor does it say why", "Read x.log"))])
    assert capsys.readouterr().out.splitlines() == [
        f"problem  {part}: does not answer on its",
        "         health door, nor does it say why",
        "         → Read x.log",
    ]


def test_what_tells_failures_apart_stays_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = {
        "agent_id": "summary-service", "kind": "model_call", "error_type": "http_503", "count": 12, "first_at": NOW.isoformat(),
        "last_at": NOW.isoformat(), "sample_message": "the model server is overloaded, try again", "sample_run_id": "3f0e8c1234",
    }  # fmt: skip
    page = Page(query="failures", columns=tuple(row), rows=(row,), as_of=NOW, elapsed_ms=1.0)
    output.write_table(*tables.table(page, NOW, every=False), empty="none")
    titles = capsys.readouterr().out.splitlines()[0]
    assert [title for title in ("AGENT ID", "KIND", "ERROR TYPE", "COUNT") if title in titles] == [
        "AGENT ID",
        "KIND",
        "ERROR TYPE",
        "COUNT",
    ]


def test_a_pipe_gets_every_column_and_no_padding(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output.write_table([Column("A"), Column("B", wrap=True)], [["x", "y" * 300], ["x", ""]], empty="none")
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "x"
    assert told.err == ""


def test_moments_are_as_short_as_they_can_be() -> None:
    local = NOW.astimezone()
    assert readable.short_clock(NOW, NOW) == local.strftime("%H:%M:%S")
    assert readable.short_clock(NOW - timedelta(days=3), NOW) == (local - timedelta(days=3)).strftime("%m-%d %H:%M")
    assert readable.short_clock("1970-01-01T12:00:00Z", NOW).startswith("1970")


def test_alerts_are_named_by_what_tells_them_apart() -> None:
    assert short(["0123456789", "0123456700", "abcdefghij"]) == {
        one: one[:9] for one in ("0123456789", "0123456700", "abcdefghij")
    }
    assert short(["a-1"]) == {"a-1": "a-1"}
    assert short([]) == {}


def test_a_time_series_nobody_gave_a_range_for_is_a_screenful() -> None:
    def buckets(**asked: str) -> tuple[str, float]:
        found = ranges.completed(asked, NOW)
        length = datetime.fromisoformat(found.get("until", NOW.isoformat())) - datetime.fromisoformat(found["since"])
        return found["bucket"], length / {
            "second": timedelta(seconds=1),
            "minute": timedelta(minutes=1),
            "hour": timedelta(hours=1),
            "day": timedelta(days=1),
        }[found["bucket"]]

    assert buckets() == ("minute", 60)
    assert buckets(bucket="hour") == ("hour", 48)
    assert buckets(since=(NOW - timedelta(days=7)).isoformat()) == ("day", 7)
    assert buckets(since=(NOW - timedelta(days=1)).isoformat()) == ("hour", 24)
    assert buckets(since=(NOW - timedelta(days=1)).isoformat(), bucket="second") == ("second", 86_400)


def test_a_time_series_begins_and_ends_with_something() -> None:
    values = [0, None, 2, 0, "0.5", "0", 0]
    rows = tuple({"at": str(place), "value": value, "count": 0} for place, value in enumerate(values))
    page = Page(query="timeseries", columns=("at", "value", "count"), rows=rows, as_of=NOW, elapsed_ms=1.0)
    assert [row["at"] for row in ranges.trimmed(page).rows] == ["2", "3", "4"]
    assert ranges.trimmed(page.model_copy(update={"rows": rows[:2]})).rows == ()


def test_what_strangers_wrote_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Reasons, names and dead letters come from whoever may publish; an escape could rewrite what was printed before."""
    evil = "up\x1b[1A\x1b[2K\rfine\x9b31m\x07"
    output.write_line(evil)
    output.note(evil)
    output.write_table([Column("reason")], [[evil]], empty="none")
    output.write_facts([("reason", evil)])
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert "fine" in text
        assert not set(text) & {"\x1b", "\x9b", "\x07", "\r"}
