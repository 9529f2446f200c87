"""What a publisher says: good events, the same again at once and much later, calls another has seen too, and garbage between them. Pure.

The events are the benchmarks' workload, with caches written, tiers and unknown models mixed in.
"""

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import orjson

from benchmarks import workload
from chaos import journal
from schemas.events import KIND_OF
from schemas.ids import uuid7
from streams.messages import JSON, NDJSON

REPEATED: Final = 0.06
"""Share of messages published again although they were acknowledged."""
CONFLICTING: Final = 0.01
"""Share of single events whose id is used again for something else: dead, each."""
GARBAGE: Final = 0.02
_CHANGED: Final = 0.1
"""Share of model calls with a cache write, a service tier or a model nobody knows."""
_BILLED: Final = "model_call.completed"
_SEEN_TWICE: Final = 0.2
"""Share of model calls that another observer reports too, under an event id of its own: at once, or up to as late as a late repeat."""
_BY_SPAN: Final = 0.3
"""Share of those that only their span tells to be the same call."""
_ROUGH: Final = 0.3
"""Share of those of which one observer knows less: it has estimated, or took a name for the model that nobody knows."""

Repeat = Literal["at_once", "late", "conflict"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message to publish until it is acknowledged."""

    subject: str
    data: bytes
    content_type: str
    message_id: str | None
    """None: published without, so that only validate can know a repeat."""
    events: tuple[tuple[str, str, bool], ...] = ()
    """What the journal says of each good event in it: key, fingerprint, billed."""
    marks: tuple[str, ...] = ()
    """Marks of the garbage in it."""
    repeats: Repeat | None = None
    repeated_events: int = 0
    again: tuple[tuple[Repeat, float], ...] = ()
    """How it is to be repeated once acknowledged, and after how many seconds."""


def _altered(event: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    call, usage = event["model_call"], event["resource_usage"]
    match chance.randrange(3):
        case 0 if call["provider"] == "anthropic":
            usage["cache_write_tokens"] = chance.randint(0, usage["input_tokens"] - usage["cache_read_tokens"])
        case 1:
            usage["reasoning_tokens"] = chance.randint(0, usage["output_tokens"])
        case _:
            call["model"] = "a-model-nobody-knows"
    return event


def _twice(event: dict[str, Any], chance: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """The call as the proxy and as OpenTelemetry saw it."""
    proxy, otel = event, orjson.loads(orjson.dumps(event))
    otel["event_id"] = str(uuid7(int(otel["event_id"].replace("-", "")[:12], 16), chance.getrandbits(74)))
    trace = event["trace"]
    otel["trace"] = {"trace_id": trace["trace_id"], "span_id": trace["parent_span_id"]}
    proxy["attributes"], otel["attributes"] = {"agentops.observed_by": "proxy"}, {"agentops.observed_by": "otel"}
    if chance.random() < _BY_SPAN:
        del otel["model_call"]["response_id"]
    if chance.random() < _ROUGH:
        worse = chance.choice((proxy, otel))
        if chance.random() < 0.5:
            worse["resource_usage"]["estimated"] = True
            worse["resource_usage"]["output_tokens"] += 7
            worse["resource_usage"].pop("total_tokens", None)
        else:
            worse["model_call"]["model"] = "a-deployment-nobody-knows"
    return proxy, otel


def garbage(chance: random.Random, mark: str, good: dict[str, Any]) -> bytes:
    """Something that must end among the dead letters, once; ``mark`` stands in its bytes."""
    bad = orjson.loads(orjson.dumps(good)) | {"attributes": {"mark": mark}}
    match chance.randrange(7):
        case 0:
            return orjson.dumps(bad)[:-7] + mark.encode()
        case 1:
            bad["event_type"] = "run.invented"
        case 2:
            bad["tenant"]["tenant_id"] = "another-tenant"
        case 3:
            del bad["run"]
        case 4:
            bad["occurred_at"] = "yesterday"
        case 5:
            bad["event_id"] = "not-an-id"
        case _:
            return b'{"event_version":"v1","mark":"' + mark.encode() + b'\x00\xff"'
    return orjson.dumps(bad)


def _told(event: dict[str, Any]) -> tuple[str, str, bool]:
    return journal.key(event), journal.fingerprint(event), event["event_type"] == _BILLED


@dataclass(slots=True)
class Traffic:
    """An endless supply of parcels; ``name`` marks its garbage."""

    name: str
    seed: int
    late_s: float
    """Late repeats come up to so much later."""
    _chance: random.Random = field(init=False)
    _chunks: int = 0
    _later: list[tuple[float, int, Parcel]] = field(default_factory=list)
    _awaited: list[dict[str, Any]] = field(default_factory=list)
    """Sightings of another observer that have still to be given a moment."""
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**12)))

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed} {self.name}")

    def chunk(self, count: int, clock: datetime) -> list[Parcel]:
        """Parcels with ``count`` new events in them, by a producer whose clock says ``clock``."""
        chance = self._chance
        made = list(workload.generate(count, seed=chance.getrandbits(62), now=clock - timedelta(seconds=1)))
        events = [orjson.loads(each.data) for each in made]
        events = [_altered(e, chance) if e["event_type"] == _BILLED and chance.random() < _CHANGED else e for e in events]
        events = [one for event in events for one in self._sightings(event)]
        parcels: list[Parcel] = []
        while events:
            # Half the messages are single events, and a batch holds one tenant's.
            size = 1 if chance.random() < 0.5 else chance.randint(2, 40)
            tenant = events[0]["tenant"]["tenant_id"]
            taken = [event for event in events if event["tenant"]["tenant_id"] == tenant][:size]
            ids = {event["event_id"] for event in taken}
            events = [event for event in events if event["event_id"] not in ids]
            parcels.append(self._parcel(taken))
        return parcels

    def _sightings(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """What is said of it now; another observer may say it later."""
        chance = self._chance
        if event["event_type"] != _BILLED or chance.random() >= _SEEN_TWICE:
            return [event]
        both = list(_twice(event, chance))
        chance.shuffle(both)
        if chance.random() < 0.5:
            return both
        self._awaited.append(both.pop())
        return both

    def _parcel(self, events: list[dict[str, Any]]) -> Parcel:
        chance, tenant = self._chance, events[0]["tenant"]["tenant_id"]
        lines, marks = [orjson.dumps(event) for event in events], []
        if chance.random() < GARBAGE:
            mark = f"mark-{self.name}-{next(self._numbers)}-end"
            lines.insert(chance.randint(0, len(lines)), garbage(chance, mark, events[0]))
            marks.append(mark)
        again: list[tuple[Repeat, float]] = []
        if chance.random() < REPEATED:
            again.append(("at_once", 0.0) if chance.random() < 0.3 else ("late", chance.uniform(1.0, self.late_s)))
        single = len(lines) == 1
        if single and chance.random() < CONFLICTING:
            again.append(("conflict", chance.uniform(0.0, self.late_s)))
        agent = events[0]["run"]["agent_id"] if single else "gateway"
        kind = KIND_OF[events[0]["event_type"]] if single else "batch"
        return Parcel(
            f"telemetry.{tenant}.{agent}.{kind}",
            b"\n".join(lines),
            JSON if single else NDJSON,
            f"{'one' if single else 'many'}-{events[0]['event_id']}" if chance.random() < 0.7 else None,
            tuple(map(_told, events)),
            tuple(marks),
            again=tuple(again),
        )

    def acknowledged(self, parcel: Parcel, now_s: float) -> None:
        """Keeps what is to be said of ``parcel`` again."""
        for how, after_s in parcel.again:
            heapq.heappush(self._later, (now_s + after_s, next(self._numbers), self._again(parcel, how)))

    def due(self, now_s: float) -> Iterator[Parcel]:
        """The repeats whose time has come, and the sightings of other observers."""
        awaited, self._awaited = self._awaited, []
        for event in awaited:
            heapq.heappush(
                self._later, (now_s + self._chance.uniform(0.0, self.late_s), next(self._numbers), self._parcel([event]))
            )
        while self._later and self._later[0][0] <= now_s:
            yield heapq.heappop(self._later)[2]

    def _again(self, parcel: Parcel, how: Repeat) -> Parcel:
        told = replace(parcel, again=(), events=(), repeats=how, repeated_events=len(parcel.events))
        if how == "at_once":
            return told
        if how == "conflict":
            event = orjson.loads(parcel.data)
            mark = f"mark-{self.name}-{next(self._numbers)}-end"
            event["attributes"] = {"mark": mark}
            return replace(told, data=orjson.dumps(event), marks=(mark,), message_id=None, repeated_events=0)
        if parcel.marks:
            # Garbage has no id to be known by: it would rightly be dead twice.
            return replace(told, message_id=None)
        # Another publisher's spelling of the same events: keys in another order.
        spelled = [orjson.dumps(orjson.loads(line), option=orjson.OPT_SORT_KEYS) for line in parcel.data.split(b"\n")]
        return replace(told, data=b"\n".join(spelled), message_id=None)
