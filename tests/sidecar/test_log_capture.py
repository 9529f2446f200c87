"""What an agent prints becomes log events, with the level and the ids it tells; too much of it is counted, not sent."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Event
from schemas.sections import Tenant
from sidecar.log_capture import LogCapture
from sidecar.log_lines import Lines, level_of, read
from sidecar.log_rate import Bucket
from sidecar.reports import Identity
from tests.sidecar.running import Sidecar, Telemetry

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("line", "level", "message", "logger"),
    [
        ("plain words", "info", "plain words", None),
        ("WARNING:root:careful", "warning", "careful", "root"),
        ("ERROR: no such file", "error", "no such file", None),
        ("[ERROR] it broke", "error", "it broke", None),
        ("2026-01-02 03:04:05,678 DEBUG app.db slow", "debug", "app.db slow", None),
        ("2026-01-02T03:04:05.678Z [WARN] low", "warning", "low", None),
        ("2026-01-02 03:04:05,678 - app.db - ERROR - gone", "error", "gone", "app.db"),
        ("E0102 03:04:05.678901   12 server.go:42] refused", "error", "refused", "server.go:42"),
        ('{"level":"warning","event":"low","logger":"app"}', "warning", "low", "app"),
        ('{"level":50,"msg":"broke","time":1}', "error", "broke", None),
        ('{"level":30,"msg":"fine"}', "info", "fine", None),
        ('{"levelname":"CRITICAL","message":"gone","name":"app"}', "critical", "gone", "app"),
        ('{"severity":"ERROR","message":"x"}', "error", "x", None),
        ('{"log":{"level":"error"},"message":"ecs"}', "error", "ecs", None),
        ('{"not": "a log"}', "info", '{"not": "a log"}', None),
        ("{broken", "info", "{broken", None),
        ("\x1b[31mERROR\x1b[0m:app:red", "error", "red", "app"),
        ("Informational: not a level", "info", "Informational: not a level", None),
    ],
)
def test_level_message_and_logger_are_read_as_they_are_written(line: str, level: str, message: str, logger: str | None) -> None:
    lines = Lines()
    (text,) = [*lines.feed(line.encode() + b"\n"), *lines.flush()]
    entry = read(text)
    assert (entry.level, entry.message, entry.logger) == (level, message, logger)


def test_trace_ids_are_found_where_loggers_put_them() -> None:
    for said in (
        json.dumps({"msg": "x", "trace_id": TRACE, "span_id": SPAN}),
        json.dumps({"msg": "x", "trace.id": TRACE, "span.id": SPAN}),
        json.dumps({"msg": "x", "dd": {"trace_id": TRACE, "span_id": SPAN}}),
        json.dumps({"msg": "x", "traceparent": f"00-{TRACE}-{SPAN}-01"}),
        f"INFO:app:calling with traceparent 00-{TRACE}-{SPAN}-01",
        f"INFO:app:calling trace_id={TRACE} span_id={SPAN}",
    ):
        entry = read(said)
        assert (entry.trace_id, entry.span_id) == (TRACE, SPAN), said
    assert read("INFO:app:nothing").trace_id is None
    assert read(json.dumps({"msg": "x", "run_id": "r7"})).run_id == "r7"


def test_a_traceback_is_one_entry_with_the_line_that_announces_it() -> None:
    printed = (
        b"starting\n"
        b"ERROR:app:failed\n"
        b"Traceback (most recent call last):\n"
        b'  File "a.py", line 1, in <module>\n'
        b"    f()\n"
        b"KeyError: 'x'\n"
        b"\n"
        b"During handling of the above exception, another exception occurred:\n"
        b"\n"
        b"Traceback (most recent call last):\n"
        b'  File "a.py", line 3, in <module>\n'
        b"ValueError: y\n"
        b"INFO:app:going on\n"
    )
    lines = Lines()
    found = [text for at in range(len(printed)) for text in lines.feed(printed[at : at + 1])] + lines.flush()
    assert [text.partition("\n")[0] for text in found] == ["starting", "ERROR:app:failed", "INFO:app:going on"]
    assert "KeyError: 'x'" in found[1]
    assert found[1].endswith("ValueError: y")
    assert read("Traceback (most recent call last):\n  x\nKeyError").level == "error"


def test_endless_lines_are_cut_where_it_is_seen() -> None:
    lines = Lines()
    found = [text for _ in range(20) for text in lines.feed(b"x" * 10_000)]
    found += lines.feed(b"end of it\nnext\n") + lines.flush()
    assert [text[:4] for text in found] == ["xxxx", "next"]
    assert read(found[0]).message.endswith("more characters)")
    assert len(read(found[0]).message) <= 8_192


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_whatever_is_printed_is_read(pieces: list[bytes]) -> None:
    lines = Lines()
    for text in [text for piece in pieces for text in lines.feed(piece)] + lines.flush():
        entry = read(text)
        assert len(entry.message) <= 8_192
        assert "\x00" not in entry.message


def test_numbers_are_pinos() -> None:
    assert [level_of(number) for number in (10, 20, 30, 40, 50, 60)] == [
        "debug", "debug", "info", "warning", "error", "critical",
    ]  # fmt: skip
    assert level_of(True) is None


def test_chatter_leaves_room_for_what_goes_wrong() -> None:
    bucket = Bucket(5, 100, 0.0)
    assert sum(bucket.lets("info", 0.0) for _ in range(1_000)) == 50
    assert sum(bucket.lets("error", 0.0) for _ in range(1_000)) == 50
    assert bucket.take() == {"info": 950, "error": 950}
    assert bucket.take() == {}
    assert sum(bucket.lets("error", 1.0) for _ in range(10)) == 5
    small = Bucket(1, 1, 0.0)
    assert small.lets("info", 0.0)
    assert not small.lets("error", 0.5)
    assert small.lets("info", 2.0)


PRINTS = f"""
import sys, time
print("INFO:app:hello", flush=True)
print('{{"level": "error", "event": "broke", "trace_id": "{TRACE}", "span_id": "{SPAN}", "run_id": "r1"}}', flush=True)
print("DEBUG:app:unheard", file=sys.stderr, flush=True)
for number in range(500):
    print("line", number)
sys.stdout.flush()
try:
    {{}}["x"]
except KeyError:
    import traceback
    traceback.print_exc()
"""


async def test_what_an_agent_prints_arrives_and_the_flood_is_told(sidecar: Sidecar, telemetry: Telemetry, tmp_path: Path) -> None:
    script = tmp_path / "prints.py"
    script.write_text(PRINTS)
    await sidecar.start(
        command=[sys.executable, str(script)], AGENTOPS_SIDECAR_LOG_LINES_PER_S="1", AGENTOPS_SIDECAR_LOG_BURST="40"
    )
    hello = await telemetry.find("log.emitted", log__message="hello", within_s=30)
    assert hello["log"] == {"level": "info", "message": "hello", "logger": "app"}
    broke = await telemetry.find("log.emitted", log__message="broke")
    assert broke["trace"] == {"trace_id": TRACE, "span_id": SPAN}
    assert broke["run"]["run_id"] == "r1"
    await telemetry.find("agent.stopped", within_s=20)
    await sidecar.stop()
    logs = [event for event in await telemetry.read() if event["event_type"] == "log.emitted"]
    crash = next(event for event in logs if "KeyError" in event["log"]["message"])
    assert crash["log"]["level"] == "error"
    assert crash["log"]["message"].startswith("Traceback")
    told = [event for event in logs if "agentops.suppressed" in event.get("attributes", {})]
    assert 400 < sum(event["attributes"]["agentops.suppressed"]["info"] for event in told) < 500
    assert not any("unheard" in event["log"]["message"] for event in logs)
    assert (sidecar.data / "agents" / "a1" / "agent.log").read_text().count("\nline ") == 500, "the file has all of it"


async def test_last_words_that_come_while_it_is_closed_are_told_too() -> None:
    told: list[Event] = []
    identity = Identity(Tenant(tenant_id="acme"), "a", "a", "1", "test", "http://proxy")
    capture = LogCapture(identity, told.append, level="info", per_s=100, burst=100)
    capture.hear(b"first\nsecond without an end")
    capture.close()
    capture.hear(b"Traceback (most recent call last):\n  File x\nValueError: gone\n")
    capture.hear(b"and the very last")
    assert [event.log.message for event in told if event.log is not None] == [
        "first", "second without an end", "Traceback (most recent call last):\n  File x\nValueError: gone", "and the very last",
    ]  # fmt: skip


async def test_it_can_be_turned_off(sidecar: Sidecar, telemetry: Telemetry, tmp_path: Path) -> None:
    script = tmp_path / "prints.py"
    script.write_text("print('hello')")
    await sidecar.start(command=[sys.executable, str(script)], AGENTOPS_SIDECAR_LOG_LEVEL="off")
    await telemetry.find("agent.stopped", within_s=20)
    await sidecar.stop()
    assert not [event for event in await telemetry.read() if event["event_type"] == "log.emitted"]
