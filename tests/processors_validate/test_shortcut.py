"""The short way to an event's normal form says what the whole way says, or nothing."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import workload
from processors.validate.judging import normalised
from schemas import sections
from schemas.events import REQUIRED, Event
from schemas.reading import read_event
from schemas.shortcut import plainly
from tests.events import event, raw

_NASTY = (
    "null", "true", "false", "0", "-0", "-0.0", "1", "-1", "1.0", "0.1", "1E2", "1e-7", "1e22", "1e400", "12345678901234567890",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "4611686018427387904", "4611686018427387905",
    "123456789012345678901234567890", "1000000000000", "1000000000001", "1e12", "1000000000000.5", "86400", "3600", "3600.5",
    "[]", "{}", "[1]", '{"a":1}', '""', '"a"', '"\\u0000"', '"\\\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"é\\u00e9"', '"\\n\\t\\u001f\\u007f"', '"\\/"',
    '"a b"', '"ünï"', '"a-b_C9"', '"' + "x" * 64 + '"', '"' + "x" * 65 + '"', '"' + "é" * 128 + '"', '"' + "é" * 129 + '"',
    '"' + "x" * 256 + '"', '"' + "x" * 257 + '"', '"' + "x" * 8192 + '"', '"' + "x" * 8193 + '"', "NaN", "Infinity", "-Infinity", "\x00",
    '"1.5"', '"2026-01-01T00:00:00Z"', '"completed"', '"v1"', '"v0"',
)  # fmt: skip
_MOMENTS = (
    "2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.123Z",
    "2026-01-31T12:00:00.123456Z", "2026-01-31T12:00:00.123456+00:00", "2026-01-31T12:00:00.123+00:00",
    "2026-01-31T12:00:00.000000Z", "2026-01-31T12:00:00.000Z", "2026-01-31T12:00:00.1234567Z", "2026-01-31T12:00:00.123456789Z",
    "2026-01-31T12:00:00.123456+02:00", "2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z",
    "2026-01-31t12:00:00z", "2026-01-31T12:00Z", "2026-01-31T12:00:60Z", "2026-01-31T24:00:00Z", "2026-02-30T12:00:00Z",
    "20260131T120000Z", "2026-W05-6T12:00:00Z", "2026-01-31T12:00:00,123Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.12 456Z",
    "2026-01-31T12:00:00.١٢٣Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-14:00", "0000-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "1767225600", "Z", "", "now",
    "2026-01-31T12:00:00ZZ", "2026-01-31T12:00:00.+00:00", "2026-01-31T12:00:00+00:00Z", "2026-01-31T12:00:00+0000",
)  # fmt: skip
_IDS = (
    "018f4e3a-0000-7000-8000-00000000000A", "018f4e3a-0000-7000-8000-00000000000a", "018f4e3a000070008000000000000000",
    "urn:uuid:018f4e3a-0000-7000-8000-00000000000a", "{018f4e3a-0000-7000-8000-00000000000a}", "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff", "018f4e3a-0000-7000-8000-00000000000a\n", "018f4e3a-0000-7000-8000-0000000000g0", "",
)  # fmt: skip


class Writer:
    """Writes JSON that mostly keeps to the contract, field by field, and sometimes does not."""

    def __init__(self, seed: int, oddness: float) -> None:
        self.chance = random.Random(seed)
        self.oddness = oddness

    def one(self, schema: Mapping[str, Any]) -> str:
        chance = self.chance
        if chance.random() < self.oddness:
            return chance.choice(_NASTY)
        match schema["type"]:
            case "default" | "nullable" | "function-after" | "function-plain" | "definitions":
                return self.one(schema["schema"])
            case "model":
                return self.one(schema["schema"])
            case "model-fields":
                return self.fields(schema["fields"])
            case "str":
                length = chance.choice((1, 1, 5, 36, 64, 128))
                if "A-Z" in schema.get("pattern", ""):
                    return f'"{"".join(chance.choices("abcXYZ019_-", k=min(length, 64)))}"'
                return orjson.dumps("".join(chance.choices('abc XYZ019"\\/\n\x7fé漢😀', k=length))).decode()
            case "literal":
                return f'"{chance.choice(schema["expected"])}"'
            case "bool":
                return chance.choice(("true", "false"))
            case "int":
                return str(chance.choice((0, 1, 500, 700, chance.randrange(10**6), 10**12)))
            case "float":
                return chance.choice(
                    ("0", "1", "0.5", "0.25", "1e-05", "1E-9", repr(chance.random()), repr(chance.lognormvariate(1, 9)), "100")
                )
            case "uuid":
                return f'"{chance.choice(_IDS)}"' if chance.random() < 0.1 else f'"{_IDS[1]}"'
            case "datetime":
                return f'"{chance.choice(_MOMENTS)}"' if chance.random() < 0.5 else '"2026-01-31T12:00:00.120000Z"'
            case "decimal":
                return chance.choice(('"1.50"', '"0"', "1.5", "2", '"1e3"', '"0.1234567891"'))
            case "tuple":
                return f"[{','.join(self.one(schema['items_schema'][0]) for _ in range(chance.choice((0, 1, 2, 40))))}]"
            case "dict":
                values = (*_NASTY[:20], '"a"', "[[[]]]", '{"z":{"b":1,"a":2}}')
                return (
                    "{"
                    + ",".join(
                        f'"{chance.choice("zyxaé")}{n}":{chance.choice(values)}' for n in range(chance.choice((0, 1, 3, 130)))
                    )
                    + "}"
                )
        return chance.choice(_NASTY)

    def fields(self, fields: Mapping[str, Any]) -> str:
        chance, told = self.chance, []
        for name, field in fields.items():
            optional = field["schema"]["type"] == "default"
            if chance.random() < (0.7 if optional else self.oddness / 2):
                if optional and chance.random() < 0.1:
                    told.append(f'"{name}":null')
                continue
            told.append(f'"{name}":{self.one(field["schema"])}')
        if chance.random() < self.oddness and told:
            told.append(chance.choice((chance.choice(told), '"surprise":1', '"surprise":null')))
        if chance.random() < 0.5:
            chance.shuffle(told)
        return "{" + chance.choice((",", ", ", " ,\n")).join(told) + "}"

    def event(self) -> bytes:
        schema: Any = Event.__pydantic_core_schema__
        while "fields" not in schema:
            schema = schema["schema"]
        chosen = self.chance.choice(list(REQUIRED))
        fields: dict[str, Any] = {}
        for name, field in schema["fields"].items():
            about = field["schema"]
            if name == "event_type":
                about = {"type": "literal", "expected": [chosen]}
            elif name in REQUIRED[chosen]:
                about = about["schema"]
            elif about["type"] == "default" and self.chance.random() < 0.6:
                continue
            fields[name] = field | {"schema": about}
        return self.fields(fields).encode("utf-8", "surrogatepass")


def whole(data: bytes) -> bytes | None:
    """The normal form by the whole way; None where the event is rejected."""
    read = read_event(data)
    return normalised(read) if isinstance(read, Event) else None


def agrees(data: bytes) -> bool:
    """Whether the short way took it; where it did, the whole way must say the same."""
    found = plainly(data)
    if found is None:
        return False
    assert orjson.dumps(found) == whole(data), data
    return True


@given(seed=st.integers(0, 2**63), oddness=st.sampled_from((0.0, 0.01, 0.1)))
@settings(max_examples=1000)
def test_it_says_what_the_contract_says_or_nothing(seed: int, oddness: float) -> None:
    """Orders, spellings, bounds, nulls, repeats, escapes: its answer is the contract's to the byte."""
    agrees(Writer(seed, oddness).event())


@given(st.binary(max_size=80))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    """Noise is left to the whole way."""
    agrees(data)
    agrees(b'{"event_type":"run.started",' + data)


def test_it_is_taken_by_the_usual_events() -> None:
    """Otherwise it would be of no use, and nobody would notice."""
    assert all(agrees(made.data) for made in workload.generate(500, 7))
    whole_way = {"budget.threshold_hit", "budget.threshold_cleared"}
    assert {kind for kind in REQUIRED if not agrees(raw(event(kind)))} == whole_way
    assert agrees(raw(event(attributes={"z": 1, "a": "é", "n": None, "f": 0.5, "b": True})))
    assert agrees(raw(event("agent.registered", run=None, trace=None, error=None)))


@pytest.mark.parametrize("moment", _MOMENTS)
def test_moments_are_written_as_the_contract_writes_them(moment: str) -> None:
    """Or left to the contract."""
    agrees(raw(event(occurred_at=moment)))
    agrees(raw(event("fault.injected", fault={"fault_id": "f", "kind": "hang", "until": moment})))


def test_every_moment_of_a_clock_is_usual() -> None:
    """What Python's and JavaScript's clocks say goes the short way."""
    now = datetime.now(UTC)
    for moment in (now.isoformat(), now.isoformat(timespec="milliseconds"), now.strftime("%Y-%m-%dT%H:%M:%SZ")):
        assert agrees(raw(event(occurred_at=moment)))
    assert not agrees(raw(event(occurred_at=now.astimezone(timezone(timedelta(hours=2))).isoformat())))


def test_tokens_that_do_not_add_up_are_not_its_business() -> None:
    """Every rule about how counts belong together is the contract's: all small counts, and every part told apart."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    taken = 0
    for counts in product(range(3), repeat=len(names)):
        for total in (None, *range(5)):
            usage = dict(zip(names, counts, strict=True)) | ({} if total is None else {"total_tokens": total})
            taken += agrees(raw(event("model_call.completed", resource_usage=usage)))
    assert taken
    for part in sorted(set(sections.ResourceUsage.model_fields) - {*names, "estimated"}):
        for count in range(4):
            agrees(raw(event("model_call.completed", resource_usage={"input_tokens": 2, "output_tokens": 1, part: count})))


@pytest.mark.parametrize("event_type", sorted(REQUIRED))
def test_what_a_type_needs_is_not_overlooked(event_type: str) -> None:
    """Each section an event must carry, left out or null, is the contract's to complain about."""
    made = event(event_type)
    for name in [*REQUIRED[event_type], "tenant", "run", "event_id", "occurred_at", "event_version", "event_type"]:
        outer, _, inner = name.partition(".")
        for value in ({}, {inner or outer: None}):
            kept = {key: field for key, field in (made[outer] if inner else made).items() if key != (inner or outer)} | value
            assert not agrees(raw(made | {outer: kept} if inner else kept))
