"""``agentops audit``: the accounts of streams and warehouse, compared."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client

from agent_manager.cli import output, readable, when
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from streams import audit as accounts
from streams.audit import AuditImpossibleError, AuditReport
from streams.auditing.accounts import Finding
from streams.auditing.scope import STAGES, STREAMS, Scope, ScopeError

_TO_DO: Final = {
    "applied": "`agentops replay --into FILE` builds a warehouse that has it, from the streams",
    "rows": "`agentops replay --into FILE` builds a warehouse that has it, from the streams",
    "counts": "`agentops replay --into FILE` builds a warehouse that has it, from the streams",
    "tenants": "`agentops replay --into FILE` builds a warehouse that has it, from the streams",
    "records": "`agentops replay --into FILE` builds a warehouse that has it, from the streams",
    "sums": "`agentops replay --into FILE` builds a warehouse with sums of its rows",
    "purged": "what is gone from a stream stays only where it was applied: see who may purge, and keep a snapshot",
    "head": "what is gone from a stream stays only where it was applied: see who may purge, and keep a snapshot",
    "billing": "`agentops ledger` looks at entries and corrects them",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as they were typed."""

    begin: str | None = None
    end: str | None = None
    last: str | None = None
    tenant: str | None = None
    streams: Sequence[str] = ()
    stages: Sequence[str] = ()
    every_message: bool = False


def _sequence(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def scope(asked: Asked, now: datetime) -> Scope:
    """What is to be audited; raises CommandFailedError for options that do not go together."""
    streams = tuple(dict.fromkeys(name.upper() for name in asked.streams)) or STREAMS
    stages = tuple(dict.fromkeys(name.lower() for name in asked.stages)) or STAGES
    sequences: dict[str, tuple[int, int | None]] = {}
    first, end = _sequence(asked.begin), _sequence(asked.end)
    try:
        if asked.last is not None and (asked.begin is not None or asked.end is not None):
            raise CommandFailedError("--last is a range already", "Give either --last, or --from and --until")
        if first is not None or end is not None:
            if len(streams) != 1:
                raise CommandFailedError(
                    f"{asked.begin or asked.end} is a sequence, and each stream counts its own",
                    f"Name one of {', '.join(STREAMS)} with --stream, or give times (24h, 2026-11-20T08:00:00Z)",
                )
            sequences[streams[0]] = (first or 1, end)
        since = when.moment(asked.begin, now) if asked.begin is not None and first is None else None
        until = when.moment(asked.end, now) if asked.end is not None and end is None else None
        if asked.last is not None:
            since = now - timedelta(seconds=when.seconds(asked.last))
        if not asked.stages and asked.tenant is not None:
            stages = ("aggregate", "billing")
        return Scope(
            since=since, until=until, sequences=sequences, tenant=asked.tenant, streams=streams,
            stages=stages, every_message=asked.every_message,  # type: ignore[arg-type]
        )  # fmt: skip
    except (when.NotATimeError, ScopeError, OverflowError) as error:
        raise CommandFailedError(str(error), "`agentops audit --help` shows what can be asked for") from error


def to_do(findings: Sequence[Finding]) -> list[str]:
    """What a person can do about the errors among ``findings``; each advice once."""
    kinds = [finding.check for finding in findings if finding.severity == "error"]
    words = [check.split(".")[0] if check.startswith("billing") else check.split(".")[-1] for check in kinds]
    return list(dict.fromkeys(_TO_DO[word] for word in words if word in _TO_DO))


_FINDINGS: Final = (Column(""), Column("CHECK"), Column("WHAT", wrap=True))
_TENANTS: Final = (
    Column("TENANT"), Column("EVENTS", right=True), Column("DEAD", right=True), Column("CHARGES", right=True),
    Column("CORRECTIONS", right=True), Column("UNPRICED", right=True), Column("COST", right=True), Column("ALERT CHANGES", right=True),
)  # fmt: skip


def _figures(tenant: str, told: dict[str, Any]) -> list[str]:
    counts = [readable.count(told.get(name)) for name in ("events", "dead", "charges", "corrections", "unpriced")]
    cost = f"${told['cost_usd']}" if "cost_usd" in told else readable.NOTHING
    return [tenant, *counts, cost, readable.count(told.get("alert_changes"))]


def show(report: AuditReport) -> None:
    """The report for people: what is wrong first."""
    order = {"error": 0, "warning": 1, "ok": 2}
    findings = sorted(report.findings, key=lambda finding: order[finding.severity])
    output.write_table(_FINDINGS, [(one.severity, one.check, one.message) for one in findings], empty="nothing to audit")
    if report.tenants:
        output.write_line()
        output.write_table(_TENANTS, [_figures(tenant, told) for tenant, told in report.tenants.items()], empty="")
    output.write_line()
    if report.ok:
        output.write_line(f"the accounts agree: nothing is missing, nothing was counted twice ({report.took_s:.1f} s)")


def audit(data: Path | None, asked: Asked, *, as_json: bool) -> None:
    """Prints what was checked and what does not add up; raises CommandFailedError when something does not."""
    wanted = scope(asked, datetime.now(UTC))

    async def work(client: Client, _: Place) -> AuditReport:
        try:
            return await accounts.run(client, scope=wanted)
        except AuditImpossibleError as error:
            raise CommandFailedError(
                f"the audit could not be made: {error}", "`agentops doctor` says which part is not well"
            ) from error

    report = run(data, work)
    if as_json:
        output.write_json({"ok": report.ok, **asdict(report)})
    else:
        show(report)
    if not report.ok:
        number = readable.number(len(report.of("error")), "error")
        advice = to_do(report.findings) or ["`agentops doctor` says which part is not well"]
        raise CommandFailedError(f"the accounts do not agree: {number}", "; ".join(advice))
