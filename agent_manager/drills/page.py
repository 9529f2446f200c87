"""Reports as one HTML page that needs nothing else. Pure."""

from collections.abc import Sequence
from html import escape

from agent_manager.drills.score import Line, Report

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2330;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}td,th{padding:.35rem .6rem;border-bottom:1px solid #d9dee7;text-align:left;vertical-align:top}
.passed{color:#14713d}.failed,.not{color:#b3261e;font-weight:600}.done{color:#5b6472}td.n{text-align:right;white-space:nowrap}
@media(prefers-color-scheme:dark){body{color:#e3e8f0;background:#12161d}td,th{border-color:#303845}.passed{color:#5fd08f}.failed,.not{color:#ff8a80}}
"""


def _row(line: Line) -> str:
    took = "" if line.took_s is None else f"{line.took_s:.1f} s"
    limit = "" if line.limit_s is None else f"{line.limit_s:g} s"
    cells = f'<td>{escape(line.step)}</td><td class="{line.outcome}">{line.outcome}</td>'
    return f'<tr>{cells}<td class="n">{took}</td><td class="n">{limit}</td><td>{escape(line.message)}</td></tr>'


def _section(report: Report) -> str:
    verdict = "passed" if report.passed else "failed"
    lasted = (report.ended_at - report.began_at).total_seconds()
    aborted = f'<p class="failed">Ended early: {escape(report.aborted)}</p>' if report.aborted else ""
    return (
        f'<h2>{escape(report.name)}: <span class="{verdict}">{verdict}, {report.score} %</span></h2>'
        f"<p>{escape(report.description)}</p><p>{escape(', '.join(report.targets))} · {report.began_at:%Y-%m-%d %H:%M:%S} UTC · {lasted:.0f} s</p>"
        f"{aborted}<table><thead><tr><th>Step</th><th>Outcome</th><th>Took</th><th>Within</th><th></th></tr></thead>"
        f"<tbody>{''.join(map(_row, report.lines))}</tbody></table>"
    )


def page(reports: Sequence[Report]) -> str:
    """All of ``reports``, in order."""
    passed = sum(report.passed for report in reports)
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drills</title><style>{_STYLE}</style></head>'
    return f"{head}<body><h1>Drills: {passed} of {len(reports)} passed</h1>{''.join(map(_section, reports))}</body></html>\n"
