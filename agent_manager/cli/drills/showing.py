"""``agentops drill run`` and ``list``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.drills import plan
from agent_manager.drills.field import Field
from agent_manager.drills.page import page
from agent_manager.drills.plan import Drill, DrillError, Step
from agent_manager.drills.running import Running
from agent_manager.drills.score import Report

_LINES = (Column("STEP"), Column("OUTCOME"), Column("TOOK", right=True), Column("WITHIN", right=True), Column("", wrap=True))
_DRILLS = (Column("DRILL"), Column("STEPS", right=True), Column("WHAT", wrap=True))


def _loaded(names: Sequence[str]) -> list[Drill]:
    try:
        return [drill for name in names for drill in plan.load(name)]
    except DrillError as error:
        raise CommandFailedError(str(error), code=2) from error


def drills(*, as_json: bool) -> None:
    """Those that come along."""
    known = _loaded(["builtin/all"])
    if as_json:
        output.write_json([{"name": f"{plan.BUILTIN}{one.name}", "description": one.description} for one in known])
    else:
        cells = [[f"{plan.BUILTIN}{one.name}", str(len(one.steps)), one.description] for one in known]
        output.write_table(_DRILLS, cells, empty="there are none")


def _planned(step: Step) -> str:
    if step.inject is not None:
        return f"inject {step.inject.fault} for {readable.duration(step.inject.duration)}"
    if step.wait_for is not None:
        return f"wait for {step.wait_for.told}, at most {readable.duration(step.wait_for.within)}"
    if step.expect is not None:
        return f"expect {step.expect.told} within {readable.duration(step.expect.within)}"
    return f"clear {step.clear}" if step.clear is not None else f"pause {readable.duration(step.pause)}"


def show_plan(names: Sequence[str], *, as_json: bool) -> None:
    """What would be done."""
    known = _loaded(names)
    if as_json:
        output.write_json([one.model_dump(mode="json", exclude_none=True, by_alias=True) for one in known])
        return
    for one in known:
        output.write_line(f"{one.name}: {one.description}")
        for step in one.steps:
            output.write_line(f"  {_planned(step)}")


def run_all(
    data: Path | None, names: Sequence[str], tenant: str | None, agent: str | None, *,
    patience: float, html: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Runs the drills one after another; raises CommandFailedError when one did not pass."""
    wanted = _loaded(names)
    if agent is not None:
        wanted = [one.model_copy(update={"targets": one.targets.model_copy(update={"agent": agent})}) for one in wanted]

    async def work(client: Client, place: Place) -> list[Report]:
        found = []
        for one in wanted:
            output.note(f"drill {one.name} …")
            found.append(await Running(one, Field(client, place, datetime.now(UTC)), tenant, patience).run())
            if not as_json:
                _show(found[-1])
        return found

    reports = run(data, work)
    if html is not None:
        try:
            html.write_text(page(reports), encoding="utf-8")
        except OSError as error:
            raise CommandFailedError(f"--html: {html} cannot be written ({error.strerror})", code=2) from error
        output.note(f"report: {html}")
    if as_json:
        output.write_json([report.as_json() for report in reports])
    failed = [report.name for report in reports if not report.passed]
    if failed:
        raise CommandFailedError(f"{len(failed)} of {len(reports)} drills did not pass: {', '.join(failed)}")


def _show(report: Report) -> None:
    cells: list[list[Any]] = [
        [
            line.step,
            line.outcome,
            "" if line.took_s is None else f"{line.took_s:.1f} s",
            "" if line.limit_s is None else f"{line.limit_s:g} s",
            line.message,
        ]
        for line in report.lines
    ]
    output.write_table(_LINES, cells, empty="nothing was done")
    verdict = "passed" if report.passed else "failed"
    ended = f"; ended early: {report.aborted}" if report.aborted else ""
    output.write_line(f"{report.name} on {', '.join(report.targets)}: {verdict}, {report.score} %{ended}\n")
