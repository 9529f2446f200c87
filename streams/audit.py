"""The audit: reads the streams and asks the warehouse, and says whether everything is accounted for."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from nats.aio.client import Client

from streams import progress, subjects, topology
from streams.auditing import asking, billing, gone, reading, summing, tenant_summing, tenants, walking
from streams.auditing.accounts import CoverageBook, Findings, messages
from streams.auditing.report import AuditImpossibleError, AuditReport
from streams.auditing.scope import STREAMS, Range, Scope
from streams.auditing.standing import Standing, info, look

__all__ = ["AuditImpossibleError", "AuditReport", "Scope", "run"]

_OUTPUTS: Final = {
    topology.EVENTS: subjects.beginning(subjects.ALL_EVENTS),
    topology.LEDGER: subjects.beginning(subjects.ALL_LEDGER),
}
_BILLED: Final = {topology.EVENTS: "billing", topology.LEDGER: "corrections"}
EVERYTHING: Final = Scope()


async def run(client: Client, now: datetime | None = None, scope: Scope = EVERYTHING) -> AuditReport:
    """The audit of ``scope``. Raises AuditImpossibleError when streams or warehouse do not answer."""
    return await _Audit(client, scope, now or datetime.now(UTC)).whole()


@dataclass(slots=True)
class _Audit:
    """One audit under way."""

    client: Client
    scope: Scope
    at: datetime
    findings: Findings = field(default_factory=Findings)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    tenants: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def whole(self) -> AuditReport:
        """Everything that is to be audited."""
        began, scope = time.monotonic(), self.scope
        telemetry = (await info(self.client, topology.TELEMETRY)).state.first_seq
        standing = [
            await look(self.client, name, scope)
            for name in STREAMS
            if scope.reads(name) or (scope.bills and name in _BILLED and name in scope.streams)
        ]
        # The warehouse is asked after the streams: it may only have applied more than they showed, never seem to lack it.
        applied_to = {row["stream"]: int(row["applied_sequence"]) for row in await asking.rows(self.client, "status")}
        books = [await self._stream(each, applied_to.get(each.name, 0)) for each in standing]
        if scope.has("aggregate") and scope.tenant is None:
            await tenants.sums(self.client, self.findings)
        if scope.has("validate") and scope.tenant is None:
            await self._telemetry(telemetry)
        for book in books:
            if book is not None:
                self.counts[book.processor] = {
                    "records": book.records, "received": book.received, "valid": book.valid, "dead": book.dead,
                    "duplicates": book.duplicates, "missing": book.missing, "covered": max(book.until.values(), default=0),
                }  # fmt: skip
        self._tell_good()
        return AuditReport(self.at, self.findings.all(), self.counts, self.tenants, round(time.monotonic() - began, 3))

    async def _stream(self, standing: Standing, applied_to: int) -> CoverageBook | None:
        """One stream: its head, what is missing in it, its records, the warehouse beside it, and what is billed from it."""
        scope, name = self.scope, standing.name
        until = min(standing.range.last, applied_to)
        parts = await summing.windows(self.client, standing, until)
        book = None
        if scope.reads(name):
            await gone.head(self.client, standing, scope.tenant, self.at, self.findings)
            if scope.tenant is None:
                await gone.between(self.client, standing, self.findings)
            book = await self._book(standing)
            messages = await self._compare(standing, until, parts, book)
            if book is not None:
                await self._records(standing, until, book)
            self.counts[name] = {
                "first": standing.standing.after + 1, "last": standing.range.last, "messages": messages, "events": 0, "applied": applied_to,
            }  # fmt: skip
            if standing.deleted or standing.deleted_more:
                self.counts[name]["gone"] = len(standing.deleted) + standing.deleted_more
        if scope.reads(name) and scope.has("aggregate"):
            self.counts[name]["events"] = await tenants.tenants(
                self.client, standing, Range(standing.range.after, until), scope.tenant, self.tenants, self.findings
            )
            if scope.until is None and name not in scope.sequences:
                self._waiting(name, standing.last - applied_to, "the warehouse")
        if scope.bills and name in _BILLED:
            await billing.billing(self.client, parts, _BILLED[name], scope.tenant, self.findings)
        return book

    async def _book(self, standing: Standing) -> CoverageBook | None:
        """Records are judged as the successors of those before the range, which the warehouse knows."""
        stage, wanted = self.scope.accounts(standing.name), standing.standing
        if stage is None:
            return None
        rows = await asking.rows(self.client, check="coverage", stream=standing.name, after=wanted.after, until=wanted.last)
        return CoverageBook(
            processor=stage,
            outputs=_OUTPUTS[standing.name],
            from_the_start=wanted.after < standing.began_at,
            findings=self.findings,
            counting=self.scope.every_message and self.scope.has("aggregate"),
            covered_before={row["partition"]: row["covered_before"] for row in rows if row["covered_before"] is not None},
        )

    async def _compare(self, standing: Standing, until: int, parts: list[Range], book: CoverageBook | None) -> int:
        """Stream and warehouse, message by message or by sums; returns how many messages stand in the range."""
        scope, wanted = self.scope, standing.standing
        rows_too = scope.has("aggregate")
        if rows_too and (scope.every_message or (scope.tenant is not None and standing.deleted_more)):
            # Where more is gone than can be named, only reading tells whose it was.
            walked = await walking.walk(self.client, standing, until, scope.tenant, book, self.findings)
            if book is not None:
                book.finish()
            return walked
        if rows_too and scope.tenant is not None:
            return await tenant_summing.sums(self.client, standing, until, parts, scope.tenant, self.findings)
        if book is not None:
            async for stored in reading.records(self.client, standing):
                book.see(stored)
        await summing.sums(self.client, standing, parts, book, self.findings, rows_too=rows_too)
        return max(0, wanted.last - wanted.after - len(standing.deleted))

    async def _records(self, standing: Standing, until: int, book: CoverageBook) -> None:
        """Whether the warehouse has the records that stand in the stream."""
        if until < standing.range.last:
            # It is still applying; its sums would be those of fewer records.
            return
        rows = await asking.rows(self.client, check="coverage", stream=standing.name, after=standing.standing.after, until=until)
        for told in ("records", "received", "valid", "dead", "duplicates"):
            held, stood = sum(row[told] for row in rows), getattr(book, told)
            if held != stood:
                self.findings.add(
                    "error", f"{book.processor}.records",
                    f"the coverage records of {book.processor} in the warehouse come to {held:,} {told}, those in {standing.name} to {stood:,}",
                    expected=stood, found=held,
                )  # fmt: skip

    async def _telemetry(self, first: int) -> None:
        """What waits for validate, and whether something went before it came to it."""
        told = await info(self.client, topology.TELEMETRY)
        partitions = range(topology.partitions_of(told.config))
        covered = [await progress.covered(self.client, partition) for partition in partitions]
        rows: dict[int, asking.Row] = {}
        if 0 in covered or (len(partitions) > 1 and self.scope.whole):
            # A record may have aged out of the stream; the warehouse still has it, and all there ever were.
            found = await asking.rows(self.client, check="coverage", stream=topology.EVENTS)
            rows = {row["partition"]: row for row in found if row["partition"] in partitions}
        known = {partition: int(row["covered"]) for partition, row in rows.items()}
        upto = min(max(stored, known.get(partition, 0)) for partition, stored in enumerate(covered))
        if upto + 1 < first and first > (told.config.first_seq or 1):
            self._lost(upto + 1, first - 1, first - 1 - upto)
        if len(partitions) > 1 and len(rows) == len(partitions) and len(set(known.values())) == 1:
            # A record of one of several partitions cannot tell what is missing: the others' messages lie between.
            begun = min(row["begun"] for row in rows.values())
            self._lost(begun, upto, known[0] - begun + 1 - sum(row["messages"] + row["missing"] for row in rows.values()))
        if self.scope.until is None:
            self._waiting(topology.TELEMETRY, (await progress.waiting(self.client)).messages, "validate")

    def _lost(self, first: int, last: int, number: int) -> None:
        if number > 0:
            self.findings.add(
                "error", "validate.purged",
                f"{messages(number)} of {topology.TELEMETRY} between {first:,} and {last:,} gone before "
                "being covered by validate: purged or deleted by hand",
                first=first, last=last, missing=number,
            )  # fmt: skip

    def _waiting(self, name: str, waiting: int, who: str) -> None:
        if waiting > 0:
            self.findings.add(
                "warning",
                f"{name}.lag",
                f"{messages(waiting)} of {name} {'waits' if waiting == 1 else 'wait'} for {who}",
                waiting=waiting,
            )

    def _tell_good(self) -> None:
        """What was checked and found right, in words."""
        findings, counts = self.findings, self.counts
        for stage in ("validate", "cost"):
            if stage in counts and not any(findings.bad(f"{stage}.{check}") for check in ("coverage", "outputs", "records")):
                told = counts[stage]
                findings.add(
                    "ok", f"{stage}.coverage",
                    f"{told['records']:,} coverage records of {stage} follow each other without a gap: received {told['received']:,} = "
                    f"valid {told['valid']:,} + dead {told['dead']:,} + duplicates {told['duplicates']:,}",
                )  # fmt: skip
        checks = ("applied", "counts", "rows", "purged", "tenants", "many", "money")
        for name in STREAMS if self.scope.has("aggregate") else ():
            if name in counts and not any(findings.bad(f"{name}.{check}") for check in checks):
                told = counts[name]
                findings.add(
                    "ok", f"{name}.rows",
                    f"{told['messages']:,} messages of {name} with {told['events']:,} events stand in the warehouse",
                )  # fmt: skip
        if self.scope.bills and not any(map(findings.bad, billing.CHECKS)):
            findings.add(
                "ok", "billing", "every billable model call has exactly one charge, and every correction the entry it names"
            )
