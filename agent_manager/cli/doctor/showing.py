"""``agentops doctor``."""

from dataclasses import asdict
from pathlib import Path

from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.doctor.findings import Finding, all_right
from agent_manager.cli.doctor.looking import everything
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.readable import number


def told(finding: Finding) -> tuple[str, str]:
    """The level, and beside it part and finding; what to do stands on a line of its own below."""
    found = f"{finding.part}: {finding.message}"
    return finding.level, f"{found}\n→ {finding.advice}" if finding.advice else found


def doctor(data: Path | None, *, as_json: bool) -> None:
    """Prints every finding; raises CommandFailedError when something is wrong."""

    async def work(client: Client, place: Place) -> list[Finding]:
        return [finding async for finding in everything(client, place)]

    found = run(data, work)
    problems = sum(finding.level == "problem" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    if as_json:
        output.write_json({"ok": all_right(found), "findings": [asdict(finding) for finding in found]})
    else:
        output.write_facts([told(finding) for finding in found])
        output.write_line("")
        if not problems:
            output.write_line(f"all is well{f', {warnings} worth knowing' if warnings else ''}")
    if problems:
        raise CommandFailedError(f"{number(problems, 'thing is', 'things are')} wrong", "What to do stands below each")
