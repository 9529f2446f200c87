"""The audit: reads the streams and asks the warehouse, and says whether everything is accounted for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.js.api import StreamInfo

from schemas.coverage import Coverage
from schemas.queries import MAX_PAGE
from streams import subjects, topology
from streams.accounts import Applied, CoverageBook, Finding, Findings, Severity, Stored, compare, head_gone
from streams.messages import Received, promised
from streams.reader import OrderedReader, Source

_COVERED: Final = subjects.beginning(subjects.COVERED_VALIDATE)
_SILENCE_S: Final = 5.0
_ASK_S: Final = 35.0


class AuditImpossibleError(Exception):
    """The audit could not read or ask what it needs. Trying again helps once that answers; the message says what."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found. ``ok`` when nothing is wrong; warnings are things a person should know."""

    at: datetime
    findings: tuple[Finding, ...]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Figures by stream and processor, for the curious."""

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity != "error" for finding in self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)


async def _read(client: Client, source: Source, after: int, last: int) -> AsyncIterator[Received]:
    """Messages of ``source`` after ``after``, up to ``last``."""
    if after >= last:
        return
    told = await client.jsm().stream_info(source.stream, subjects_filter=">")
    if source.filters and not any(_matches(subject, source.filters) for subject in told.state.subjects or {}):
        return
    reader = OrderedReader(client, source, after)
    try:
        while True:
            messages = await reader.fetch(2000, _SILENCE_S)
            for message in messages:
                if message.sequence > last:
                    return
                yield message
            if not messages or messages[-1].pending == 0 or messages[-1].sequence >= last:
                return
    finally:
        await reader.close()


def _matches(subject: str, filters: tuple[str, ...]) -> bool:
    return any(subject.startswith(pattern.removesuffix(">")) for pattern in filters)


async def _merged(first: AsyncIterator[Received], second: AsyncIterator[Received]) -> AsyncIterator[Received]:
    """Both, in order of sequence."""
    one, other = await anext(first, None), await anext(second, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.sequence < other.sequence):
            assert one is not None
            yield one
            one = await anext(first, None)
        else:
            yield other
            other = await anext(second, None)


def _stored(message: Received) -> Stored:
    covered = subjects.beginning(message.subject) == _COVERED
    return Stored(
        message.sequence,
        message.subject,
        promised(message),
        Coverage.model_validate_json(message.data) if covered else None,
    )


async def _stream(
    client: Client, stream: str, counted: tuple[str, ...], read: tuple[str, ...], after: int, last: int
) -> AsyncIterator[Stored]:
    """Every message of ``stream``: of subjects ``counted`` the headers, of subjects ``read`` the payload as well."""
    light = _read(client, Source(stream, counted, headers_only=True), after, last)
    whole = _read(client, Source(stream, read), after, last)
    async for message in _merged(light, whole) if read else light:
        yield _stored(message)


async def _ask(client: Client, name: str, **params: Any) -> dict[str, Any]:
    try:
        reply = await client.request(subjects.query(name), orjson.dumps(params), timeout=_ASK_S)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError) as error:
        raise AuditImpossibleError(
            f"the warehouse does not answer query.{name}: is `python -m processors aggregate` running?"
        ) from error
    answer: dict[str, Any] = orjson.loads(reply.data)
    if "Agentops-Error" in (reply.headers or {}):
        raise AuditImpossibleError(f"query.{name}: {answer.get('message')}")
    return answer


async def _applied(client: Client, stream: str, after: int) -> AsyncIterator[Applied]:
    """Every message of ``stream`` the warehouse has applied after ``after``."""
    while True:
        page = await _ask(client, "audit", stream=stream, after=after, limit=MAX_PAGE)
        for row in page["rows"]:
            yield Applied(row["sequence"], row["subject"], row["events"], row["lines"], row["unreadable"], row["rows"])
        if page.get("next_offset") is None:
            return
        after = page["rows"][-1]["sequence"]


async def _compare(
    client: Client, stream: str, info: StreamInfo, standing: int, books: tuple[CoverageBook, ...], findings: Findings
) -> dict[str, int]:
    """Walks the stream and the warehouse side by side; returns counts."""
    first, last = info.state.first_seq, info.state.last_seq
    counted = tuple(subject for subject in info.config.subjects or () if subjects.beginning(subject) != _COVERED)
    read = tuple(subject for subject in info.config.subjects or () if subjects.beginning(subject) == _COVERED)
    counts = {"first": first, "last": last, "messages": 0, "events": 0, "applied": standing}
    rows = _applied(client, stream, max(0, first - 1))
    row = await anext(rows, None)
    following = first
    async for stored in _stream(client, stream, counted, read, max(0, first - 1), last):
        if stored.sequence > following:
            counts["gone"] = counts.get("gone", 0) + stored.sequence - following
        while row is not None and row.sequence < stored.sequence:
            compare(stream, None, row, findings)
            row = await anext(rows, None)
        same = row if row is not None and row.sequence == stored.sequence else None
        if stored.sequence <= standing or same is not None:
            compare(stream, stored, same, findings)
        if same is not None:
            row = await anext(rows, None)
        for book in books:
            book.see(stored)
        following = stored.sequence + 1
        counts["messages"] += 1
        counts["events"] += stored.events if stored.coverage is None else 0
    while row is not None and row.sequence <= last:
        compare(stream, None, row, findings)
        row = await anext(rows, None)
    gone = last + 1 - following + counts.get("gone", 0) if last else 0
    purged = findings.bad(f"{stream}.purged")
    if gone > purged:
        findings.add(
            "error", f"{stream}.purged", f"{gone - purged:,} messages between {first:,} and {last:,} of {stream} were deleted by hand",
            gone=gone,
        )  # fmt: skip
    return counts


async def _head(client: Client, stream: str, info: StreamInfo, now: datetime, findings: Findings) -> None:
    """Whether what no longer stands at the head of the stream has aged out, or was purged."""
    first = info.state.first_seq
    if first <= 1:
        return
    page = await _ask(client, "audit", stream=stream, after=max(0, first - 2), limit=1)
    before = next((row for row in page["rows"] if row["sequence"] < first), None)
    max_age = timedelta(seconds=info.config.max_age or 0)
    if before is None:
        findings.add("ok", f"{stream}.head", f"{stream} begins at {first:,}; the warehouse never had what stood before")
        return
    severity = head_gone(datetime.fromisoformat(before["stored_at"]), max_age, now)
    how = "aged out" if severity == "ok" else "were purged by hand: younger than the stream's age limit"
    findings.add(severity, f"{stream}.head", f"{first - 1:,} messages before {first:,} of {stream} {how}", first=first)


async def _billing(client: Client, findings: Findings) -> None:
    offset = 0
    words = {
        "missing": "has no ledger entry",
        "doubled": "was charged more than once",
        "entry twice": "has a correction that stands twice",
    }
    while True:
        page = await _ask(client, "audit", check="billing", limit=MAX_PAGE, offset=offset)
        for row in page["rows"]:
            findings.add(
                "error", f"billing.{row['problem'].replace(' ', '_')}",
                f"model call {row['event_id']} of {row['tenant_id']}/{row['agent_id']} {words[row['problem']]}",
                event_id=row["event_id"], tenant_id=row["tenant_id"], entries=row["entries"],
            )  # fmt: skip
        if page.get("next_offset") is None:
            return
        offset = page["next_offset"]


def _waiting(name: str, waiting: int, who: str, findings: Findings) -> None:
    if waiting > 0:
        findings.add("warning", f"{name}.lag", f"{waiting:,} messages of {name} wait for {who}", waiting=waiting)


async def run(client: Client, now: datetime | None = None) -> AuditReport:
    """The whole audit; reads every message's header once. Raises AuditImpossibleError when streams or warehouse do not answer."""
    at, findings = now or datetime.now(UTC), Findings()
    infos: dict[str, StreamInfo] = {}
    for name in (topology.TELEMETRY, topology.EVENTS, topology.LEDGER, topology.ALERTS):
        try:
            infos[name] = await client.jsm().stream_info(name)
        except (nats.js.errors.NotFoundError, nats.errors.Error, TimeoutError) as error:
            raise AuditImpossibleError(
                f"stream {name} does not answer ({type(error).__name__}): `agentops doctor` says more"
            ) from error
    # The warehouse is asked after the streams: it may only have applied more than they showed, never seem to lack it.
    standing = {row["stream"]: int(row["applied_sequence"]) for row in (await _ask(client, "status"))["rows"]}
    validate = CoverageBook(
        "validate", subjects.beginning(subjects.ALL_EVENTS), infos[topology.EVENTS].state.first_seq <= 1, findings
    )
    cost = CoverageBook("cost", subjects.beginning(subjects.ALL_LEDGER), infos[topology.LEDGER].state.first_seq <= 1, findings)
    books = {topology.EVENTS: (validate,), topology.LEDGER: (cost,), topology.ALERTS: ()}
    counts: dict[str, dict[str, int]] = {}
    for name, own in books.items():
        info = infos[name]
        await _head(client, name, info, at, findings)
        counts[name] = await _compare(client, name, info, standing.get(name, 0), own, findings)
        _waiting(name, info.state.last_seq - standing.get(name, 0), "the warehouse", findings)
    await _billing(client, findings)
    telemetry = infos[topology.TELEMETRY].state
    _waiting(topology.TELEMETRY, telemetry.last_seq - validate.covered if telemetry.messages else 0, "validate", findings)
    for book in (validate, cost):
        counts[book.processor] = {
            "records": book.records, "received": book.received, "valid": book.valid, "dead": book.dead,
            "duplicates": book.duplicates, "missing": book.missing, "covered": book.covered,
        }  # fmt: skip
    _tell_good(findings, counts)
    return AuditReport(at, findings.all(), counts)


def _tell_good(findings: Findings, counts: dict[str, dict[str, int]]) -> None:
    """What was checked and found right, in words."""
    for processor in ("validate", "cost"):
        if not findings.bad(f"{processor}.coverage") and not findings.bad(f"{processor}.outputs"):
            told = counts[processor]
            findings.add(
                "ok", f"{processor}.coverage",
                f"{told['records']:,} coverage records of {processor} follow each other without a gap: received {told['received']:,} = "
                f"valid {told['valid']:,} + dead {told['dead']:,} + duplicates {told['duplicates']:,}",
            )  # fmt: skip
    for stream in (topology.EVENTS, topology.LEDGER, topology.ALERTS):
        if not any(findings.bad(f"{stream}.{check}") for check in ("applied", "counts", "rows", "purged")):
            told = counts[stream]
            findings.add(
                "ok",
                f"{stream}.rows",
                f"{told['messages']:,} messages of {stream} with {told['events']:,} events stand in the warehouse",
            )
    if not any(findings.bad(f"billing.{problem}") for problem in ("missing", "doubled", "entry_twice")):
        findings.add("ok", "billing", "every billable model call has exactly one charge")
